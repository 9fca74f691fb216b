"""The page of a comparison: plots, the table, every run, and how it was done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

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
    config = result.planned.runs[0].config.for_ledger()
    for section in ("curriculum", "run"):
        config.pop(section)
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
            (arm.label, _as_yaml(arm.config.curriculum.model_dump(mode="json")))
            for arm in result.planned.arms
        ],
        config=_as_yaml(config),
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


def _as_yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
