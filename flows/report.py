"""``edco report``: one or several runs as one page that needs nothing beside itself.

What is read of a run is of one moment and small: whatever goes over a whole pool is aggregated by
the database. The ledger is let go before anything is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

import jinja2
import yaml
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edco_core.errors import EdcoError, InputError
from flows.charts import draw_scores, draw_turnover, over_intervals, over_scores, svg
from flows.display import alarm_line, label_of, number, progress, say
from flows.reading import Answer
from flows.report_charts import Category, Curves, draw_categories, draw_curves, draw_data_map
from flows.report_facts import (
    Told,
    categories_of,
    curves_of,
    facts_of,
    groups_of,
    metric_line,
    persistent_sample,
    values_of,
)
from storage import Ledger, aggregates, open_ledger, queries
from storage.queries import Rows

_PERSISTENT = 20

_INTERVALS = {
    "interval": "interval", "n_scored": "scored", "n_rescored": "anew",
    "recall_estimate": "recall", "score_mean": "mean", "score_p50": "p50",
    "score_p90": "p90", "score_max": "max", "cutoff": "cutoff", "n_selected": "selected",
    "n_first_time": "first time", "n_returned": "returned", "n_stayed": "stayed",
    "n_left": "left", "jaccard": "jaccard", "train_loss": "train loss",
    "reward_mean": "reward", "policy_entropy": "policy entropy",
    "share_without_signal": "no signal", "metric": "metric",
    "scoring_seconds": "scoring s", "training_seconds": "training s",
    "evaluation_seconds": "eval s", "checkpoint_id": "checkpoint",
}  # fmt: skip


_CURVES = {
    "train_loss": "training loss",
    "reward_mean": "mean reward of the answers",
    "policy_entropy": "policy entropy (nats per token)",
    "share_without_signal": "share of groups without signal",
}
"""Through the intervals; the last three of reinforcement learning, where a run has them."""

_SELECTIVE = {"n_rescored", "recall_estimate"}
"""Shown only where a part of the pool kept its earlier scores."""
_REINFORCED = {"reward_mean", "policy_entropy", "share_without_signal"}
"""Shown only of reinforcement learning."""


def write_report(prefixes: Sequence[str], path: Path, store_url: str) -> Answer:
    """Write the page; a report of that name is replaced once the new one is complete.

    Raises InputError for a name that does not end in .html, and for a place that cannot be
    written to, before anything is read; NotFoundError for an unknown run.
    """
    check_page(path)
    with replacing(path) as file:
        ledger = open_ledger(store_url, read_only=True, on_wait=say)
        run_ids = list(dict.fromkeys(ledger.find_run(prefix) for prefix in prefixes))
        with progress("report") as on_progress:
            told = []
            for run_id in run_ids:
                told.append(_ask(ledger, run_id))
                on_progress(len(told), 2 * len(run_ids))
            page = _Page(told, lambda done: on_progress(len(told) + done, 2 * len(told)))
            file.writelines(page.render())
    rows = Rows(("run_id", "status"), ({k: t.run[k] for k in ("run_id", "status")} for t in told))
    facts = {"file": str(path), "bytes": path.stat().st_size, "run_ids": run_ids}
    return Answer(facts, rows, {"run_id": "run", "status": "status"}, after=[f"written to {path}"])


def check_page(path: Path) -> None:
    """Raise InputError for a file that is not named like a page, or cannot be written."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {path}: the report is a web page; name a file that ends in .html.")
    if path.is_dir():
        raise InputError(f"-o {path} is a folder; name a file in it.")
    unfinished, file = _begin(path)
    file.close()
    unfinished.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes its name when it is complete."""
    unfinished, file = _begin(path)
    try:
        with file:
            yield file
        os.replace(unfinished, path)
    except OSError as error:
        raise EdcoError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _begin(path: Path) -> tuple[Path, TextIO]:
    unfinished = path.with_name(f".{path.name}.{uuid4().hex[:8]}.unfinished")
    try:
        return unfinished, unfinished.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"-o {path} cannot be written: {error.strerror}.") from error


def _ask(ledger: Ledger, run_id: str) -> Told:
    with ledger.snapshot():
        run = queries.run(ledger, run_id)
        # As fine as the pool is large: most cells of a finer grid would hold one sample.
        columns = min(40, max(10, round(run["pool_size"] ** 0.4)))
        grid = (columns, columns * 2 // 3)
        known = aggregates.settings(ledger, run_id)
        persistent = queries.difficult(ledger, run_id, limit=_PERSISTENT, min_streak=2)
        return Told(
            run=run,
            grid=grid,
            config=known["config"],
            versions=known["versions"],
            intervals=_with_share(queries.intervals(ledger, run_id)),
            evaluations=queries.evaluations(ledger, run_id),
            composition=aggregates.composition(ledger, run_id),
            data_map=aggregates.data_map(ledger, run_id, *grid),
            persistent=persistent,
            histories=aggregates.histories(
                ledger, run_id, [row["sample_id"] for row in persistent]
            ),
            alarms=ledger.alarms(run_id),
        )


class _Page:
    """The page about some runs."""

    def __init__(self, told: Sequence[Told], on_run: Callable[[int], None]) -> None:
        self._told = told
        self._on_run = on_run
        self._num_charts = 0

    def render(self) -> Iterator[str]:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
        )  # fmt: skip
        environment.filters["number"] = number
        runs = []
        for done, each in enumerate(self._told, 1):
            runs.append(self._run(each))
            self._on_run(done)
        yield from environment.get_template("report.html.jinja").stream(
            title=", ".join(each.run_id for each in self._told),
            as_of=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            facts=facts_of(self._told),
            curves=self._curves(),
            runs=runs,
        )

    def _curves(self) -> list[Markup]:
        groups = groups_of(self._told)
        metrics = list(dict.fromkeys(each.run["metric"] for each in self._told))
        charts = []
        for metric in filter(None, metrics):
            curves = curves_of(groups, partial(metric_line, metric))
            charts.append(self._chart(_drawn(curves, label_of(metric)), label_of(metric)))
        for key, label in _CURVES.items():
            curves = curves_of(groups, partial(_line, key))
            if curves or key == "train_loss":
                charts.append(self._chart(_drawn(curves, label), label))
        return charts

    def _run(self, told: Told) -> dict[str, Any]:
        alike = [r for t in self._told if t.score == told.score for r in t.intervals]
        sizes = [r[k] for t in self._told for r in t.intervals for k in ("n_selected", "n_left")]
        planned = max(each.run["intervals_planned"] for each in self._told)
        size = max([s for s in sizes if s] or [1])

        def scores(axes: Axes) -> None:
            draw_scores(axes, told.intervals, told.score)
            over_intervals(axes, told.intervals, planned)
            over_scores(axes, alike)

        def turnover(axes: Axes) -> None:
            draw_turnover(axes, told.intervals)
            over_intervals(axes, told.intervals, planned)
            axes.set_ylim(-1.05 * size, 1.05 * size)

        def data_map(axes: Axes) -> None:
            num_scored = sum(row["score_mean"] is not None for row in told.intervals)
            draw_data_map(axes, told.data_map, *told.grid, told.score, num_scored)

        name = f"run {told.run_id}"
        categories, num_categories = categories_of(told)
        return {
            "id": told.run_id,
            "scores": self._chart(scores, f"scores, {name}"),
            "turnover": self._chart(turnover, f"turnover, {name}"),
            "data_map": self._chart(data_map, f"data map, {name}"),
            "stride": aggregates.stride(told.run["pool_size"]),
            "categories": self._categories(told, categories) if categories else None,
            "categories_left_out": num_categories - len(categories),
            "intervals": told.intervals,
            "alarms": [alarm_line(alarm) for alarm in told.alarms],
            "columns": columns_of(told.intervals),
            "persistent": [persistent_sample(told, row) for row in told.persistent],
            "config": yaml.safe_dump(told.config, sort_keys=False, allow_unicode=True),
            "versions": told.versions,
        }

    def _categories(self, told: Told, categories: Sequence[Category]) -> Markup:
        selected = sorted({r["interval"] for r in told.composition if r["interval"] is not None})

        def draw() -> Figure:
            figure = Figure(figsize=(11.4, 0.9 + 0.24 * len(categories)), layout="constrained")
            accuracy, focus = figure.subplots(1, 2, width_ratios=(1, 1.1))
            label = label_of(told.run["metric"] or "metric")
            draw_categories(accuracy, focus, categories, label, selected)
            return figure

        return self._svg(draw, f"categories, run {told.run_id}")

    def _chart(self, draw: Callable[[Axes], None], title: str) -> Markup:
        def whole() -> Figure:
            figure = Figure(figsize=(5.6, 2.9), layout="constrained")
            draw(figure.subplots())
            return figure

        return self._svg(whole, title)

    def _svg(self, draw: Callable[[], Figure], title: str) -> Markup:
        self._num_charts += 1
        return Markup(svg(draw, f"c{self._num_charts}", title))


def columns_of(intervals: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns of the table of intervals: key to heading."""
    selective = any(row["n_rescored"] not in (None, row["n_scored"]) for row in intervals)
    left_out = set() if selective else _SELECTIVE
    if all(row["n_groups"] is None for row in intervals):
        left_out = left_out | _REINFORCED
    return {key: heading for key, heading in _INTERVALS.items() if key not in left_out}


def _with_share(intervals: Rows) -> Rows:
    """With the share of groups of answers from which nothing could be learned."""
    rows = [
        row
        | {
            "share_without_signal": row["n_without_signal"] / row["n_groups"]
            if row["n_groups"]
            else None
        }
        for row in intervals
    ]
    return Rows([*intervals.columns, "share_without_signal"], rows)


def _line(key: str, told: Told) -> tuple[list[int], list[float]]:
    return values_of(told.intervals, key)


def _drawn(curves: Sequence[Curves], label: str) -> Callable[[Axes], None]:
    return lambda axes: draw_curves(axes, curves, label)
