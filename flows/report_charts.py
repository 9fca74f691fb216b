"""Charts that only the report has: several runs in one, categories, and the data map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba
from matplotlib.ticker import MaxNLocator

from flows.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, Row, nothing_in

_GROUPS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, GREY)
_WARMTH = ("#0a78b8", "#e8a30c")
"""Of a picture's points, which a page with other colours cannot change."""
_DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class Curves:
    """Lines of one colour: the runs that differ in nothing but their seed."""

    label: str
    lines: Sequence[tuple[Sequence[int], Sequence[float]]]
    """Intervals (-1 = before training) and values, for each run."""


@dataclass(frozen=True, slots=True)
class Category:
    """A category of the samples, of the evaluation set, or of both."""

    name: str
    n_evaluated: int | None
    before: float | None
    after: float | None
    pool_share: float | None
    shares: Sequence[float]
    """Of each curriculum."""


def draw_curves(axes: Axes, groups: Sequence[Curves], label: str) -> None:
    """A number through time: each run thin, and the mean of those of one group thick."""
    axes.set_title(label)
    ends = [x for group in groups for xs, _ in group.lines for x in xs]
    if nothing_in(axes, np.array(ends, float)):
        return
    for i, group in enumerate(groups):
        how: dict[str, Any] = {
            "color": _GROUPS[i % len(_GROUPS)],
            "linestyle": _DASHES[i // len(_GROUPS) % 4],
        }
        several = len(group.lines) > 1
        for xs, ys in group.lines:
            axes.plot(xs, ys, linewidth=0.8 if several else 1.8, alpha=0.55 if several else 1,
                      marker=None if several else "o", **how)  # fmt: skip
        if several:
            shared = sorted(set.intersection(*(set(xs) for xs, _ in group.lines)))
            tables = [dict(zip(xs, ys, strict=True)) for xs, ys in group.lines]
            means = [float(np.mean([table[x] for table in tables])) for x in shared]
            axes.plot(shared, means, linewidth=2.4, **how)
        axes.plot([], [], linewidth=2, label=group.label, **how)
    axes.set_xlabel("interval")
    first, last = min(ends), max(ends)
    axes.set_xlim(first - 0.3, last + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(lambda x, _: "before" if x == -1 else f"{x:.0f}")
    axes.margins(y=0.15)
    if len(groups) > 1:
        axes.legend(loc="best", ncols=1)
    elif len(groups[0].lines) == 1:
        ((xs, ys),) = groups[0].lines
        for end in {0, len(xs) - 1}:
            axes.annotate(f"{ys[end]:.3f}", (xs[end], ys[end]), (0, 6), ha="center",
                          textcoords="offset points", fontsize=8)  # fmt: skip


def draw_categories(
    accuracy: Axes,
    focus: Axes,
    categories: Sequence[Category],
    label: str,
    intervals: Sequence[int],
) -> None:
    """The metric of each category before and after, beside its share of each curriculum."""
    rows = np.arange(len(categories))
    for row, category in enumerate(categories):
        before, after = category.before, category.after
        if before is not None and after is not None:
            color = BLUE if after >= before else RED
            accuracy.plot([before, after], [row, row], color=color, alpha=0.6, linewidth=2)
        if before is not None:
            accuracy.plot(before, row, "o", color=GREY, markersize=5, markerfacecolor="none")
        if after is not None:
            worse = before is not None and after < before
            accuracy.plot(after, row, "o", color=RED if worse else BLUE, markersize=5.5)
        told = " → ".join(f"{each:.2f}" for each in (before, after) if each is not None)
        accuracy.text(1.02, row, told, transform=accuracy.get_yaxis_transform(), va="center")
    accuracy.set_title(f"{label}: ○ before, ● after")
    accuracy.set_yticks(
        rows,
        [c.name + (f" ({c.n_evaluated})" if c.n_evaluated else "") for c in categories],
    )
    values = [v for c in categories for v in (c.before, c.after) if v is not None]
    if values and min(values) >= 0 and max(values) <= 1:
        accuracy.set_xlim(-0.03, 1.03)
    for axes in (accuracy, focus):
        axes.set_ylim(len(categories) - 0.5, -0.5)
        axes.tick_params(length=0)
    accuracy.grid(axis="x")

    focus.set_title("share of the curriculum, against that of the pool")
    columns = ["pool", *map(str, intervals)]
    cells = np.zeros((len(categories), len(columns), 4))
    for row, category in enumerate(categories):
        pool = category.pool_share
        for column, share in enumerate(category.shares, 1):
            cells[row, column] = _against(share, pool)
        if len(columns) <= 14:
            for column, value in enumerate([pool, *category.shares]):
                if value is not None:
                    focus.text(column, row, f"{value:.0%}" if value >= 0.01 or not value else "<1%",
                               ha="center", va="center", fontsize=7.5)  # fmt: skip
    focus.imshow(cells, aspect="auto", interpolation="none")
    every = max(1, len(columns) // 12)
    focus.set_xticks(range(0, len(columns), every), columns[::every])
    focus.set_xlabel("interval")
    focus.set_yticks([])
    focus.grid(visible=False)
    for spine in focus.spines.values():
        spine.set_visible(False)


def draw_data_map(
    axes: Axes, cells: Sequence[Row], columns: int, rows: int, label: str, num_intervals: int
) -> None:
    """Mean and spread of the samples' scores: denser is fuller, selected more often is warmer."""
    axes.set_title("data map of the pool")
    axes.set_xlabel(f"mean {label}")
    axes.set_ylabel("spread over the intervals")
    if not cells or not cells[0]["high_spread"]:
        words = "no score has changed" if num_intervals > 1 else "after a second interval"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center")
        axes.set_yticks([])
        return
    warmth = LinearSegmentedColormap.from_list("times", _WARMTH, N=8)
    scale = Normalize(0, max(1.0, *(cell["times_selected"] for cell in cells)))
    fullest = max(cell["n"] for cell in cells)
    image = np.zeros((rows, columns, 4))
    for cell in cells:
        color = warmth(scale(cell["times_selected"]))
        density = np.log1p(cell["n"]) / np.log1p(fullest)
        image[int(cell["cell_y"]), int(cell["cell_x"])] = (*color[:3], 0.2 + 0.8 * density)
    low, high = cells[0]["low_mean"], cells[0]["high_mean"]
    if low == high:  # all are in the first column
        high = low + 1.0
    axes.imshow(image, extent=(low, high, 0, cells[0]["high_spread"]), origin="lower",
                aspect="auto", interpolation="none")  # fmt: skip
    axes.grid(visible=False)
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(ScalarMappable(scale, warmth), ax=axes, pad=0.02, aspect=30)
    bar.set_label("times selected, on average")
    bar.outline.set_visible(False)


def _against(share: float, pool: float | None) -> tuple[float, float, float, float]:
    """Orange for more than in the pool, blue for less, clear for the same; full at fourfold."""
    if not pool:
        return to_rgba(ORANGE, 0.85 if share else 0)
    octaves = float(np.clip(np.log2(max(share, 1e-9) / pool) / 2, -1, 1))
    return to_rgba(ORANGE if octaves > 0 else BLUE, 0.85 * abs(octaves))
