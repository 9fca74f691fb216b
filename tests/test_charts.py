"""Charts of a run: pictures of what the rows hold, however little that is yet."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flows.charts import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    draw_scores,
    draw_turnover,
    interval_chart,
    svg,
)  # fmt: skip

RUN = {
    "scorer": "prefix_entropy", "metric": "exact_match", "baseline_metric": 0.25,
    "intervals_planned": 4,
}  # fmt: skip


def row(interval: int, **changes: Any) -> dict[str, Any]:
    known = {
        "interval": interval, "score_p50": 1.5, "score_p90": 3.0, "score_max": 5.0,
        "score_mean": 1.75, "cutoff": 2.0, "n_first_time": 6, "n_returned": 1, "n_stayed": 3,
        "n_left": 7, "train_loss": 1.0 / (interval + 1), "metric": 0.5 + interval / 10,
    }  # fmt: skip
    return known | changes


SCORED = row(1) | dict.fromkeys(
    ("cutoff", "n_first_time", "n_returned", "n_stayed", "n_left", "train_loss", "metric")
)
NULLS = {"interval": 0} | dict.fromkeys(key for key in row(0) if key != "interval")


@pytest.mark.parametrize(
    ("rows", "run"),
    [
        ([], RUN),
        ([row(0)], None),
        ([NULLS], RUN | {"metric": None, "baseline_metric": None}),
        ([row(0), SCORED], RUN),
        ([row(0, metric=None)], None),
        ([row(i) for i in range(100)], RUN),
    ],
    ids=["none yet", "one", "nulls", "second is scored", "no metric", "hundred"],
)
def test_a_run_is_one_small_picture_from_the_beginning_on(
    rows: list[dict[str, Any]], run: dict[str, Any] | None
) -> None:
    drawn = interval_chart(rows, run)
    assert len(drawn) < 60_000
    picture = Image.open(io.BytesIO(drawn))
    assert (picture.format, picture.width > 1000) == ("PNG", True)
    assert len(picture.convert("RGB").getcolors() or ()) > 8


def test_a_smaller_picture_keeps_its_colours() -> None:
    picture = Image.open(io.BytesIO(interval_chart([row(i) for i in range(30)], RUN)))
    pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in (BLUE, GREEN, GREY, ORANGE, PURPLE, RED):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(pixels - wanted).sum(axis=1).min() < 20, colour


def test_equal_rows_give_equal_bytes_whatever_the_users_settings() -> None:
    rows = [row(0), row(1)]
    first = interval_chart(rows, RUN)
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 20}):
        assert interval_chart(rows, RUN) == first
        assert mpl.rcParams["font.size"] == 20
    assert interval_chart([row(0), row(1, metric=0.9)], RUN) != first


def test_lines_and_bars_have_the_numbers_of_the_rows() -> None:
    rows = [row(0), SCORED, row(2, cutoff=0.5, n_stayed=4)]
    axes = Figure().subplots()
    draw_scores(axes, rows, "score")
    lines = {str(line.get_label()): np.asarray(line.get_ydata()) for line in axes.lines}
    for label, key in {"max": "score_max", "p90": "score_p90", "mean": "score_mean",
                       "p50": "score_p50", "cutoff": "cutoff"}.items():  # fmt: skip
        known = [np.nan if each[key] is None else each[key] for each in rows]
        np.testing.assert_array_equal(lines[label], known, err_msg=label)

    axes = Figure().subplots()
    draw_turnover(axes, rows)
    bars = {str(bars.get_label()): [bar.get_height() for bar in bars] for bars in axes.containers}
    assert bars == {
        "stayed": [3, 0, 4], "returned": [1, 0, 1], "first time": [6, 0, 6], "left": [-7, 0, -7],
    }  # fmt: skip


def test_a_category_with_dollar_signs_is_a_name_and_no_formula() -> None:
    def draw() -> Figure:
        figure = Figure()
        figure.subplots().set_title(r"US$ and CA$ or $\frac$")
        return figure

    assert "US$ and CA$" in svg(draw, "name", "title")


def test_scores_below_zero_are_inside_the_chart() -> None:
    rows = [
        row(i, score_p50=-3.0, score_p90=-1.0, score_max=0.0, score_mean=-2.5, cutoff=-2.0)
        for i in range(2)
    ]
    axes = Figure().subplots()
    draw_scores(axes, rows, "score")
    low, high = axes.get_ylim()
    assert low < -3.0
    assert high > 0.0


def test_what_a_person_named_is_written_as_it_is_named() -> None:
    def draw() -> Figure:
        figure = Figure()
        axes = figure.subplots()
        axes.set_title("日本語 #0072b2 xlink:href url(#x)")
        return figure

    assert "日本語 #0072b2 xlink:href url(#x)" in svg(draw, "c1", "words")
