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
    text = printed(capsys, monkeypatch, width)
    words = text.split()
    assert {f"{1234.5 + i:.3f}" for i in range(9)} <= set(words)
    assert words.count("prompt") == 10  # one is the heading's
    if width is not None:
        assert max(map(len, text.splitlines())) <= width


def test_rows_wider_than_the_screen_are_blocks_of_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {f"c{i}": 10.0**12 + i for i in range(30)}
    print_table([row, row], {key: f"heading {key}" for key in row}, title="run r")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run r"
    assert [line for line in lines if "of 2" in line] == ["1 of 2", "2 of 2"]
    assert sum(line.split() == ["heading", "c7", "1000000000007.000"] for line in lines) == 2


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
