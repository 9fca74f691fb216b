"""Charts of a run, drawn from the rows of the ledger's queries.

Loads matplotlib, so only the report and what draws for Prefect's pages import this. No pyplot:
every figure is its own, whatever the user's matplotlibrc says, and equal rows give equal bytes.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from flows.display import label_of

Row = Mapping[str, Any]

INK, FAINT, PAPER = "#1f2328", "#d0d7de", "#ffffff"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c959f",
)  # fmt: skip
"""Okabe and Ito's colours, told apart by the colour-blind."""

_CSS_NAMES = {
    INK: "ink", FAINT: "faint", PAPER: "paper", BLUE: "blue", ORANGE: "orange", GREEN: "green",
    RED: "red", PURPLE: "purple", SKY: "sky", GREY: "grey",
}  # fmt: skip
"""A page with these variables decides the colours of its SVG charts, in light and in dark."""

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
    "font.size": 8.5,
    "text.parse_math": False,  # categories such as "US$ and CA$" are names
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 1.2,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
}
_SCORES = ("score_max", "score_p90", "score_mean", "score_p50", "cutoff")
_DRAWING = threading.Lock()
"""Styles are matplotlib's own global settings, and runs may finish intervals in several threads."""


def interval_chart(rows: Sequence[Row], run: Row | None = None) -> bytes:
    """One PNG of a run so far: scores of the pool, turnover, metric and training loss.

    ``rows`` are those of ``storage.queries.intervals``; ``run``, the answer of ``queries.run``,
    adds the metric before training, the intervals to come, and the names of metric and scorer.
    What is not known yet is left out.
    """
    about = run or {}
    planned = about.get("intervals_planned")

    def draw() -> Figure:
        figure = Figure(figsize=(10.5, 3.1), layout="constrained", facecolor=PAPER)
        panels = figure.subplot_mosaic([["scores", "turnover", "metric"],
                                        ["scores", "turnover", "loss"]])  # fmt: skip
        draw_scores(panels["scores"], rows, label_of(about.get("scorer") or "score"))
        draw_turnover(panels["turnover"], rows)
        metric = about.get("metric") or "metric"
        draw_metric(panels["metric"], rows, label_of(metric), about.get("baseline_metric"))
        draw_loss(panels["loss"], rows)
        for axes in panels.values():
            over_intervals(axes, rows, planned)
        panels["metric"].set_xlabel("")
        return figure

    return png(draw)


def draw_scores(axes: Axes, rows: Sequence[Row], label: str) -> None:
    """Quantiles of the pool's scores at each interval, and the lowest score selected."""
    x = _column(rows, "interval")
    middle, high = _column(rows, "score_p50"), _column(rows, "score_p90")
    axes.set_title(f"{label} of the pool")
    if nothing_in(axes, middle):
        return
    axes.fill_between(x, middle, high, color=BLUE, alpha=0.18, linewidth=0)
    lines: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("score_max", "max", {"color": GREY, "linestyle": ":"}),
        ("score_p90", "p90", {"color": BLUE, "alpha": 0.6}),
        ("score_mean", "mean", {"color": GREEN, "linestyle": "--"}),
        ("score_p50", "p50", {"color": BLUE}),
        ("cutoff", "cutoff", {"color": RED, "linestyle": "", "marker": "_", "markersize": 13,
                              "markeredgewidth": 2}),
    )  # fmt: skip
    for key, name, how in lines:
        axes.plot(x, _column(rows, key), label=name, **{"marker": "o", **how})
    over_scores(axes, rows)
    _legend(axes)


def over_scores(axes: Axes, rows: Sequence[Row]) -> None:
    """Let a chart of scores have room for those of all rows, and for zero."""
    drawn = np.concatenate([[0.0], *(_column(rows, key) for key in _SCORES)])
    low, high = float(np.nanmin(drawn)), float(np.nanmax(drawn))
    room = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - room if low < 0 else 0.0, high + room)


def draw_turnover(axes: Axes, rows: Sequence[Row]) -> None:
    """Each curriculum by what its samples did before; those that left hang below zero."""
    x = _column(rows, "interval")
    axes.set_title("turnover of the curriculum")
    if nothing_in(axes, _column(rows, "n_first_time")):
        return
    floor = np.zeros(len(x))
    for key, name, color in (
        ("n_stayed", "stayed", GREY),
        ("n_returned", "returned", ORANGE),
        ("n_first_time", "first time", BLUE),
    ):
        height = np.nan_to_num(_column(rows, key))
        axes.bar(x, height, bottom=floor, width=0.7, color=color, label=name)
        floor += height
    left = np.nan_to_num(_column(rows, "n_left"))
    axes.bar(x, -left, width=0.7, color=RED, alpha=0.45, label="left")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    _legend(axes)


def draw_metric(axes: Axes, rows: Sequence[Row], label: str, baseline: float | None) -> None:
    """The metric after each interval, and before training."""
    x, y = _column(rows, "interval"), _column(rows, "metric")
    axes.set_title(label)
    if baseline is not None:
        axes.axhline(baseline, color=GREY, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"before training {baseline:.3f}", (1, baseline), (0, 3), color=INK, ha="right",
            xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=7.5,
        )  # fmt: skip
    elif nothing_in(axes, y):
        return
    axes.plot(x, y, color=GREEN, marker="o")
    _last_value(axes, x, y)
    axes.margins(y=0.2)


def draw_loss(axes: Axes, rows: Sequence[Row]) -> None:
    """The mean training loss of each interval."""
    x, y = _column(rows, "interval"), _column(rows, "train_loss")
    axes.set_title("training loss")
    if nothing_in(axes, y):
        return
    axes.plot(x, y, color=PURPLE, marker="o")
    _last_value(axes, x, y)
    axes.margins(y=0.2)


def over_intervals(axes: Axes, rows: Sequence[Row], planned: int | None = None) -> None:
    """Let a chart have room for all intervals, those still to come as well."""
    last = max([row["interval"] for row in rows] + [(planned or 1) - 1])
    axes.set_xlabel("interval")
    axes.set_xlim(-0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def png(draw: Callable[[], Figure]) -> bytes:
    """A figure as a picture on white paper, which can be read on a page of any colour."""
    drawn, kept = io.BytesIO(), io.BytesIO()
    with _drawing():
        draw().savefig(drawn, format="png", dpi=110)
    # A third of the bytes, as what is drawn has few colours.
    # Not by median cut, which gives up the colours of thin lines.
    picture = (
        Image.open(drawn)
        .convert("RGB")
        .quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    )
    picture.save(kept, "PNG", optimize=True)
    return kept.getvalue()


def svg(draw: Callable[[], Figure], name: str, title: str) -> str:
    """A figure to be put into a page as it is; ``name`` keeps its ids apart from other figures'.

    Its letters are the page's, and so are its colours where the page has variables for them.
    """
    drawn = io.StringIO()
    style = {"svg.fonttype": "none", "svg.hashsalt": name, "svg.image_inline": True}
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _drawing(style):
        draw().savefig(drawn, format="svg", transparent=True, metadata=nothing)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' width="[\d.]+pt"| height="[\d.]+pt"| xmlns:xlink="[^"]*"', "", text, count=3)
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w-]+)", text))

    def of_the_page(tag: re.Match[str]) -> str:
        """A tag in the page's colours and letters; what is between tags are a person's words."""
        kept = re.sub(
            r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", tag[0]
        )
        kept = re.sub(r"(url\(#|href=\"#)([\w-]+)", rf"\g<1>{name}-\2", kept)
        for colour, variable in _CSS_NAMES.items():
            kept = re.sub(colour, f"var(--{variable}, {colour})", kept, flags=re.I)
        return kept.replace("xlink:href", "href").replace(
            "'DejaVu Sans'", "var(--letters, sans-serif)"
        )

    label = escape(title)
    opening = f'<svg role="img" aria-label="{label}" stroke-linejoin="round"'
    return (
        re.sub(r"<[^>]*>", of_the_page, text)
        .replace("<svg", opening, 1)
        .replace(">", f"><title>{label}</title>", 1)
    )


@contextmanager
def _drawing(style: Mapping[str, Any] | None = None) -> Iterator[None]:
    """One thread at a time, in our own style.

    A letter that the font lacks is nothing to warn of: in pages the reader's font is used.
    """
    styled = matplotlib.style.context(["default", _STYLE, dict(style or {})])
    with _DRAWING, styled, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def _column(rows: Sequence[Row], key: str) -> NDArray[np.float64]:
    values = [row.get(key) for row in rows]
    return np.array([np.nan if value is None else value for value in values], float)


def nothing_in(axes: Axes, values: NDArray[np.float64]) -> bool:
    """Whether there is nothing to draw, which the chart then says."""
    if np.isfinite(values).any():
        return False
    axes.text(0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", va="center")
    axes.set_yticks([])
    return True


def _last_value(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    known = np.flatnonzero(np.isfinite(y))
    if len(known):
        last = known[-1]
        axes.annotate(f"{y[last]:.3f}", (x[last], y[last]), (0, 5), ha="center",
                      textcoords="offset points", fontsize=8)  # fmt: skip


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, borderaxespad=0)
    axes.set_title(axes.get_title(loc="left"), pad=20)
