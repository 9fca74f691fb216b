"""The page of a comparison: plots, the table, every run, and how it was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flows.charts import svg
from flows.compare_charts import draw_differences, draw_finals, draw_progress
from flows.compare_result import Result
from flows.display import number
from flows.report import check_page, replacing


def write_page(result: Result, path: Path) -> None:
    """Write the page, whole or not at all; raises InputError for a place that takes none."""
    check_page(path)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["number"] = number
    settings = [arm.config.for_ledger() for arm in result.planned.arms]
    for each in settings:
        each.pop("run")
    common = _shared(settings)
    common.pop("curriculum", None)
    own = [_without(each, common) for each in settings]
    page = environment.get_template("compare.html.jinja").stream(
        title=result.planned.comparison.name,
        headline=result.title,
        as_of=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        remarks=result.remarks,
        charts=_charts(result),
        columns=result.columns,
        rows=result.shown,
        reference=result.planned.comparison.reference,
        runs=[run.facts() for run in result.runs],
        arms=[
            (arm.label, _as_yaml(each)) for arm, each in zip(result.planned.arms, own, strict=True)
        ],
        config=_as_yaml(common),
    )
    with replacing(path) as file:
        file.writelines(page)


def _charts(result: Result) -> list[Markup]:
    def steps(axes: Axes) -> None:
        draw_progress(axes, result, lambda point: point.steps, "optimizer steps")

    def seconds(axes: Axes) -> None:
        draw_progress(axes, result, lambda point: point.seconds, "seconds, scoring included")

    drawn: dict[str, Callable[[Axes], None]] = {
        "metric against steps": steps,
        "metric against seconds": seconds,
        "final metric": lambda axes: draw_finals(axes, result),
        "difference to the reference": lambda axes: draw_differences(axes, result),
    }
    return [
        _chart(draw, f"c{i}", title, len(result.records))
        for i, (title, draw) in enumerate(drawn.items())
    ]


def _chart(draw: Callable[[Axes], None], name: str, title: str, num_rows: int) -> Markup:
    def whole() -> Figure:
        figure = Figure(figsize=(5.6, max(2.9, 1.2 + 0.34 * num_rows)), layout="constrained")
        draw(figure.subplots())
        return figure

    return Markup(svg(whole, name, title))


def _shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is the same in all of them."""
    found = {}
    for key, value in settings[0].items():
        values = [each.get(key) for each in settings]
        if all(each == value for each in values):
            found[key] = value
            continue
        sections = [each for each in values if isinstance(each, Mapping)]
        if len(sections) == len(values) and (inner := _shared(sections)):
            found[key] = inner
    return found


def _without(settings: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """What is not shared."""
    return {
        key: _without(value, shared[key]) if key in shared else value
        for key, value in settings.items()
        if key not in shared or value != shared[key]
    }


def _as_yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
