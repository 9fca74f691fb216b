"""``edco report``: one or several runs as one page that needs nothing beside itself.

What is read of a run is of one moment and small: whatever goes over a whole pool is aggregated by
the database. The ledger is let go before anything is drawn.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from flows.charts import draw_scores, draw_turnover, label_of, over_intervals, svg
from flows.display import number, progress, say
from flows.reading import Answer, live_status
from flows.report_charts import Category, Curves, draw_categories, draw_curves, draw_data_map
from storage import Ledger, aggregates, open_ledger, queries
from storage.queries import Rows

_MOST_CATEGORIES = 24
_PERSISTENT = 20
_TEXT_CHARS = 2000
_NOT_OF_SCORES = ("type", "max_batch_tokens", "shard_size")

_INTERVALS = {
    "interval": "interval", "n_scored": "scored", "score_mean": "mean", "score_p50": "p50",
    "score_p90": "p90", "score_max": "max", "cutoff": "cutoff", "n_selected": "selected",
    "n_first_time": "first time", "n_returned": "returned", "n_stayed": "stayed",
    "n_left": "left", "jaccard": "jaccard", "train_loss": "train loss", "metric": "metric",
    "scoring_seconds": "scoring s", "training_seconds": "training s",
    "evaluation_seconds": "eval s", "checkpoint_id": "checkpoint",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Told:
    """What the ledger says about a run."""

    run: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    intervals: Rows
    evaluations: Rows
    composition: Rows
    data_map: Rows
    grid: tuple[int, int]
    """Columns and rows of the data map."""
    persistent: Rows
    histories: dict[str, list[dict[str, Any]]]

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])

    @property
    def score(self) -> str:
        """What a score is, with its unit."""
        scorer = label_of(self.run["scorer"])
        unit = self.config.get("scoring", {}).get("unit", "nats")
        return f"{scorer} ({unit})" if "entropy" in scorer else scorer


def write_report(prefixes: Sequence[str], path: Path, store_url: str) -> Answer:
    """Write the page; a report of that name is replaced once the new one is complete.

    Raises InputError for a name that does not end in .html, and for a place that cannot be
    written to, before anything is read; NotFoundError for an unknown run.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {path}: the report is a web page; name a file that ends in .html.")
    with _replacing(path) as file:
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


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file that takes its name when it is complete."""
    if path.is_dir():
        raise InputError(f"-o {path} is a folder; name a file in it.")
    unfinished = path.with_name(f".{path.name}.{uuid4().hex[:8]}.unfinished")
    try:
        file = unfinished.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"-o {path} cannot be written: {error.strerror}.") from error
    try:
        with file:
            yield file
        os.replace(unfinished, path)
    except OSError as error:
        raise EdcoError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _ask(ledger: Ledger, run_id: str) -> _Told:
    with ledger.snapshot():
        run = queries.run(ledger, run_id)
        # As fine as the pool is large: most cells of a finer grid would hold one sample.
        columns = min(40, max(10, round(run["pool_size"] ** 0.4)))
        grid = (columns, columns * 2 // 3)
        known = aggregates.settings(ledger, run_id)
        persistent = queries.difficult(ledger, run_id, limit=_PERSISTENT, min_streak=2)
        return _Told(
            run=run,
            grid=grid,
            config=known["config"],
            versions=known["versions"],
            intervals=queries.intervals(ledger, run_id),
            evaluations=queries.evaluations(ledger, run_id),
            composition=aggregates.composition(ledger, run_id),
            data_map=aggregates.data_map(ledger, run_id, *grid),
            persistent=persistent,
            histories=aggregates.histories(
                ledger, run_id, [row["sample_id"] for row in persistent]
            ),
        )


class _Page:
    """The page about some runs."""

    def __init__(self, told: Sequence[_Told], on_run: Callable[[int], None]) -> None:
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
            facts=_facts(self._told),
            curves=self._curves(),
            runs=runs,
            columns=_INTERVALS,
        )

    def _curves(self) -> list[Markup]:
        groups = _groups(self._told)
        metrics = list(dict.fromkeys(each.run["metric"] for each in self._told))
        charts = []
        for metric in filter(None, metrics):
            curves = _all_curves(groups, partial(_metric_line, metric))
            charts.append(self._chart(_curves_of(curves, label_of(metric)), label_of(metric)))
        losses = _all_curves(groups, lambda told: _known(told.intervals, "train_loss"))
        return [*charts, self._chart(_curves_of(losses, "training loss"), "training loss")]

    def _run(self, told: _Told) -> dict[str, Any]:
        tops = [r["score_max"] for t in self._told for r in t.intervals if r["score_max"]]
        sizes = [r[k] for t in self._told for r in t.intervals for k in ("n_selected", "n_left")]
        planned = max(each.run["intervals_planned"] for each in self._told)
        size = max([s for s in sizes if s] or [1])

        def scores(axes: Axes) -> None:
            draw_scores(axes, told.intervals, told.score)
            over_intervals(axes, told.intervals, planned)
            if tops:
                axes.set_ylim(top=1.05 * max(tops))

        def turnover(axes: Axes) -> None:
            draw_turnover(axes, told.intervals)
            over_intervals(axes, told.intervals, planned)
            axes.set_ylim(-1.05 * size, 1.05 * size)

        def data_map(axes: Axes) -> None:
            draw_data_map(axes, told.data_map, *told.grid, label=told.score)

        name = f"run {told.run_id}"
        categories, num_categories = _categories(told)
        return {
            "id": told.run_id,
            "scores": self._chart(scores, f"scores, {name}"),
            "turnover": self._chart(turnover, f"turnover, {name}"),
            "data_map": self._chart(data_map, f"data map, {name}"),
            "stride": aggregates.stride(told.run["pool_size"]),
            "categories": self._categories(told, categories) if categories else None,
            "categories_left_out": num_categories - len(categories),
            "intervals": told.intervals,
            "persistent": [_persistent(told, row) for row in told.persistent],
            "config": yaml.safe_dump(told.config, sort_keys=False, allow_unicode=True),
            "versions": told.versions,
        }

    def _categories(self, told: _Told, categories: Sequence[Category]) -> Markup:
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


def _facts(told: Sequence[_Told]) -> list[tuple[str, list[str]]]:
    """What a person wants to know of each run first, and how the runs differ."""
    rows: dict[str, Callable[[_Told], str]] = {
        "run": lambda t: t.run_id,
        "status": lambda t: ": ".join(filter(None, (live_status(t.run), t.run["message"]))),
        "intervals": lambda t: f"{t.run['intervals_done']} of {t.run['intervals_planned']}",
        "strategy": lambda t: _section(t, "curriculum", "strategy", ("type", "intervals")),
        "scorer": lambda t: _section(t, "scoring", "scorer", _NOT_OF_SCORES),
        "model": lambda t: str(t.run["model"]),
        "trainer": lambda t: _section(t, "training", "trainer", ("type",)),
        "pool": lambda t: f"{t.run['pool_size']:,} samples, {t.run['top_n']:,} per interval "
        f"({t.run['dataset_id']})",
        "data": lambda t: str(t.config.get("data", {}).get("train", "–")),
        "seed": lambda t: str(t.run["seed"]),
        "metric": _metric_words,
        "time": lambda t: ", ".join(
            f"{stage} {number(t.run[f'{stage}_seconds'], 1)} s"
            for stage in ("scoring", "training", "evaluation")
        ),
        "created": lambda t: str(t.run["created_at"])[:16].replace("T", " ") + " UTC",
        "versions": lambda t: ", ".join(
            f"{name} {t.versions[name]}"
            for name in ("edco", "torch", "transformers", "trl", "peft", "python")
            if name in t.versions
        ),
    }  # fmt: skip
    return [(name, [words(each) for each in told]) for name, words in rows.items()]


def _section(told: _Told, section: str, name: str, left_out: Sequence[str]) -> str:
    """A part of the configuration in a line: what was set, without what says nothing."""
    settings = {
        key: value
        for key, value in _flat(told.config.get(section, {})).items()
        if key not in left_out and value is not None
    }
    words = ", ".join(f"{key.removeprefix('args.')} {_word(v)}" for key, v in settings.items())
    return str(told.run[name]) + (f": {words}" if words else "")


def _metric_words(told: _Told) -> str:
    run = told.run
    if run["metric"] is None:
        return "–"
    first, last, best = (number(run[f"{name}_metric"]) for name in ("baseline", "last", "best"))
    return f"{label_of(run['metric'])} {first} before, {last} last, {best} best"


def _groups(told: Sequence[_Told]) -> dict[str, list[_Told]]:
    """Runs that differ in nothing but their seed, by what tells them from the others."""
    configs = [
        _flat({k: v for k, v in t.config.items() if k not in ("run", "store")}) for t in told
    ]
    keys = [
        key
        for key in dict.fromkeys(key for config in configs for key in config)
        if len({json.dumps(config.get(key), default=str) for config in configs}) > 1
    ]
    groups: dict[str, list[_Told]] = {}
    for each, config in zip(told, configs, strict=True):
        others = [c for t, c in zip(told, configs, strict=True)
                  if t.run["strategy"] == each.run["strategy"]]  # fmt: skip
        told_apart = [key for key in keys if any(c.get(key) != config.get(key) for c in others)]
        words = [f"{key.rpartition('.')[2]} {_word(config.get(key))}" for key in told_apart]
        groups.setdefault(", ".join([each.run["strategy"], *words]), []).append(each)
    return groups


def _word(value: Any) -> str:
    """A setting as YAML has it, numbers as short as they are."""
    return (
        f"{value:g}"
        if isinstance(value, float)
        else json.dumps(value, ensure_ascii=False).strip('"')
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


_Line = tuple[list[int], list[float]]


def _all_curves(
    groups: Mapping[str, Sequence[_Told]], line: Callable[[_Told], _Line]
) -> list[Curves]:
    found = []
    for label, members in groups.items():
        lines = [each for each in map(line, members) if each[0]]
        seeds = f" ({len(lines)} seeds)" if len(lines) > 1 else ""
        if lines:
            found.append(Curves(label + seeds, lines))
    return found


def _curves_of(curves: Sequence[Curves], label: str) -> Callable[[Axes], None]:
    return lambda axes: draw_curves(axes, curves, label)


def _metric_line(metric: str, told: _Told) -> _Line:
    rows = [r for r in told.evaluations if r["metric"] == metric and r["category"] is None]
    return _known(rows, "value")


def _known(rows: Sequence[Mapping[str, Any]], key: str) -> _Line:
    known = [(row["interval"], row[key]) for row in rows if row[key] is not None]
    return [interval for interval, _ in known], [value for _, value in known]


def _categories(told: _Told) -> tuple[list[Category], int]:
    """The largest categories, largest first, and how many there are."""
    metric = told.run["metric"]
    evaluated = [r for r in told.evaluations if r["metric"] == metric and r["category"] is not None]
    last = max((r["interval"] for r in evaluated), default=-1)
    counts: dict[int | None, dict[str | None, int]] = {}
    for row in told.composition:
        counts.setdefault(row["interval"], {})[row["category"]] = row["n"]
    pool = counts.pop(None, {})
    names = {r["category"] for r in evaluated} | pool.keys()
    if names <= {None}:
        return [], 0
    curricula = [counts[interval] for interval in sorted(k for k in counts if k is not None)]

    def value(name: str | None, interval: int, key: str) -> Any:
        found = (r[key] for r in evaluated if (r["category"], r["interval"]) == (name, interval))
        return next(found, None)

    found = [
        Category(
            name="(none)" if name is None else _short(name),
            n_evaluated=value(name, last, "n"),
            before=value(name, -1, "value"),
            after=value(name, last, "value") if last >= 0 else None,
            pool_share=pool[name] / sum(pool.values()) if name in pool else None,
            shares=[each.get(name, 0) / sum(each.values()) for each in curricula],
        )
        for name in sorted(
            names,
            key=lambda name: (-pool.get(name, 0), -(value(name, last, "n") or 0), str(name)),
        )
    ]
    return found[:_MOST_CATEGORIES], len(found)


def _persistent(told: _Told, row: Mapping[str, Any]) -> dict[str, Any]:
    history = told.histories[row["sample_id"]]
    prompt = row["prompt"]
    return {
        **row,
        "learned": row["score_last"] < row["score_first"],
        "spark": _sparkline(history),
        "category": row["category"] or "",
        "begins": None if prompt is None else _short(" ⏎ ".join(prompt.splitlines()), 90),
        "prompt": None if prompt is None else _short(prompt, _TEXT_CHARS),
    }


def _sparkline(history: Sequence[Mapping[str, Any]]) -> Markup:
    """The scores of a sample as a line of a few pixels, with a dot where it was selected."""
    scores = [each["score"] for each in history]
    low, span = min(scores, default=0), (max(scores, default=0) - min(scores, default=0)) or 1.0
    step = min(14.0, 110 / max(1, len(scores) - 1))
    points = [(4 + i * step, 22 - 18 * (score - low) / span) for i, score in enumerate(scores)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>'
        for (x, y), each in zip(points, history, strict=True)
        if each["selected"]
    )
    width = 8 + step * max(1, len(scores) - 1)
    label = ", ".join(f"{score:.3f}" for score in scores)
    return Markup(
        f'<svg class="spark" viewBox="0 0 {width:.0f} 26" width="{width:.0f}" height="26">'
        f'<title>{label}</title><polyline points="{line}"/>{dots}</svg>'
    )


def _short(text: str, width: int = 34) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
