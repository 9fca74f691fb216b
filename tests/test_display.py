"""Tables of a terminal: numbers whole whatever the width, headings that say what they head."""

from __future__ import annotations

import sys

import pytest

from flows.display import interval_columns, mean_label, print_table

ROW = {f"n{i}": 1234.5 + i for i in range(9)} | {"prompt": "several words of a prompt " * 9}
COLUMNS = {key: f"a heading of {key}" for key in ROW}


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int | None
) -> str:
    """The table as it is piped, or on a terminal of that width."""
    if width is not None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "dumb")
    print_table([ROW], COLUMNS)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 200, None])
def test_no_number_is_broken_or_cut_at_any_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int | None
) -> None:
    words = printed(capsys, monkeypatch, width).split()
    assert {f"{1234.5 + i:.3f}" for i in range(9)} <= set(words)
    assert words.count("prompt") == 10  # one is the heading's


def test_a_piped_table_of_many_columns_is_as_wide_as_it_has_to_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {f"c{i}": 10.0**12 + i for i in range(30)}
    print_table([row], {key: key for key in row})
    assert {f"{value:.3f}" for value in row.values()} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("scorer", "label"),
    [
        ("prefix_entropy", "mean entropy"),
        ("pass_rate", "mean pass rate"),
        ("loss", "mean loss"),
        ("mine:Scorer", "mean score"),
    ],
)
def test_a_mean_is_called_after_what_it_is_the_mean_of(scorer: str, label: str) -> None:
    assert mean_label(scorer) == label
    assert interval_columns([], {"scorer": scorer, "metric": None})["score_mean"] == label
