"""Charts of a comparison: strategies against each other, with their intervals of confidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from edco_core.records import ComparisonRow
from edco_core.statistics import estimate
from flows.charts import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, nothing_in
from flows.compare_result import Point, Result, RunResult, mean_curve

_COLORS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
_DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True, slots=True)
class Look:
    """How a strategy is drawn, the same in all charts."""

    color: str
    dash: str


def looks_of(result: Result) -> dict[str, Look]:
    """The reference is grey; the others have a colour each, by their order in the configuration."""
    reference = result.planned.comparison.reference
    looks = {reference: Look(GREY, "-")}
    others = [arm.label for arm in result.planned.arms if arm.label != reference]
    for i, label in enumerate(others):
        looks[label] = Look(_COLORS[i % len(_COLORS)], _DASHES[i // len(_COLORS) % len(_DASHES)])
    return looks


def draw_progress(axes: Axes, result: Result, x_of: Callable[[Point], float], x_label: str) -> None:
    """The metric of each strategy: mean over its seeds, and the band of its 95 % interval."""
    axes.set_title(f"{result.planned.metric.replace('_', ' ')} against {x_label}")
    curves = [(record, result.finished(record.label)) for record in result.records]
    curves = [(record, runs) for record, runs in curves if runs]
    if nothing_in(axes, np.array([len(runs) or np.nan for _, runs in curves], float)):
        return
    for record, runs in curves:
        look = looks_of(result)[record.label]
        curve = mean_curve(runs)
        xs = [x_of(point) for point in curve]
        axes.plot(
            xs, [point.metric for point in curve], color=look.color, linestyle=look.dash,
            marker="o", label=record.label,
        )  # fmt: skip
        if len(runs) > 1:
            axes.fill_between(xs, *_band(runs, curve), color=look.color, alpha=0.14, linewidth=0)
    axes.set_xlabel(x_label)
    axes.legend(loc="best")


def _band(
    runs: Sequence[RunResult], curve: Sequence[Point]
) -> tuple[Sequence[float], Sequence[float]]:
    lows, highs = [], []
    for point in curve:
        found = estimate([p.metric for run in runs for p in run.points if p.steps == point.steps])
        lows.append(found.mean if found.low is None else found.low)
        highs.append(found.mean if found.high is None else found.high)
    return lows, highs


def draw_finals(axes: Axes, result: Result) -> None:
    """The final metric: each seed, the mean and its interval."""
    axes.set_title(f"{result.planned.metric.replace('_', ' ')} at the end, 95 % intervals")
    _draw_intervals(
        axes, result, result.records,
        lambda record: (record.mean, record.ci_low, record.ci_high),
        lambda record: [run.final for run in result.finished(record.label)],
    )  # fmt: skip


def draw_differences(axes: Axes, result: Result) -> None:
    """The difference to the reference, seed by seed: zero outside the interval is a finding."""
    reference = result.planned.comparison.reference
    axes.set_title(f"difference to {reference}, pair by pair, 95 % intervals")
    base = {run.run.seed: run.final for run in result.finished(reference)}
    records = [record for record in result.records if record.label != reference]
    _draw_intervals(
        axes, result, records,
        lambda record: (record.difference, record.difference_low, record.difference_high),
        lambda record: [
            run.final - base[run.run.seed]
            for run in result.finished(record.label)
            if run.run.seed in base
        ],
    )  # fmt: skip
    axes.axvline(0, color=INK, linewidth=0.9)


def _draw_intervals(
    axes: Axes,
    result: Result,
    records: Sequence[ComparisonRow],
    interval_of: Callable[[ComparisonRow], tuple[float | None, float | None, float | None]],
    values_of: Callable[[ComparisonRow], Sequence[float]],
) -> None:
    looks = looks_of(result)
    means = [interval_of(record)[0] for record in records]
    if nothing_in(axes, np.array([np.nan if m is None else m for m in means], float)):
        return
    for row, record in enumerate(records):
        mean, low, high = interval_of(record)
        color = looks[record.label].color
        values = values_of(record)
        axes.plot(values, [row + 0.22] * len(values), ".", color=color, alpha=0.6, markersize=5)
        if low is not None and high is not None:
            axes.plot([low, high], [row, row], color=color, linewidth=2.2)
        if mean is not None:
            axes.plot(mean, row, "o", color=color, markersize=6)
            axes.annotate(f"{mean:.3f}", (mean, row), (0, 6), ha="center",
                          textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(records)), [record.label for record in records])
    axes.set_ylim(len(records) - 0.4, -0.7)
    axes.tick_params(length=0)
    axes.grid(axis="x")
    axes.margins(x=0.08)
