"""``edco bench scoring``: what it measures, what it recommends, what it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from command_line import Edco

from edco_core.config import parse_config
from flows.bench_scoring import recommend, settings_to_try


def row(setting: str, cost: float, spearman: float, overlap: float) -> dict[str, Any]:
    section = {"type": "prefix_entropy", "prefix_tokens": len(setting)}
    return {
        "setting": setting, "cost": cost, "spearman": spearman, "overlap": overlap,
        "scoring": section,
    }  # fmt: skip


FULL = row("full", 1.0, 1.0, 1.0)


def test_the_cheapest_setting_that_keeps_the_order_is_recommended_as_yaml() -> None:
    rows = [FULL, row("a", 0.1, 0.9, 0.9), row("bb", 0.2, 0.97, 0.9), row("ccc", 0.3, 0.99, 0.9)]
    advice, lines = recommend(rows)
    assert advice.startswith("Recommended: bb, ")
    assert yaml.safe_load(lines) == {"scoring": rows[2]["scoring"]}


def test_of_settings_that_cost_the_same_the_truest_is_recommended() -> None:
    rows = [FULL, row("a", 0.20, 0.96, 0.9), row("bb", 0.21, 0.99, 0.9), row("ccc", 0.22, 0.98, 1)]
    advice, _ = recommend(rows)
    assert advice.startswith("Recommended: bb, the truest of the cheapest that keep the order")


def test_where_none_keeps_the_order_the_nearest_is_named_as_such() -> None:
    advice, _ = recommend([FULL, row("a", 0.1, 0.8, 0.9), row("bb", 0.2, 0.9, 0.5)])
    assert advice.startswith("No setting keeps the order as wanted")
    assert "the nearest is bb" in advice


def test_what_costs_more_than_whole_answers_is_never_recommended() -> None:
    advice, lines = recommend([FULL, row("a", 1.2, 1.0, 1.0)])
    assert advice.startswith("Nothing is cheaper here")
    assert yaml.safe_load(lines) == {"scoring": FULL["scoring"]}


def test_every_setting_tried_is_a_valid_configuration(tiny_config: dict[str, Any]) -> None:
    config = parse_config(tiny_config)
    grid = settings_to_try(config)
    assert list(grid)[:2] == ["full", "configured"]
    for section in grid.values():
        parse_config({**tiny_config, "scoring": dict(section)})


@pytest.mark.slow
def test_a_sample_of_the_pool_is_scored_in_every_way_and_plotted(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    scoring = {"max_batch_tokens": 4096, "prefix_tokens": 4, "quick_answer": False}
    config = {**tiny_config, "scoring": scoring}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    facts = edco.json("bench", "scoring", "edco.yaml", "--samples", "24", "-o", "plot.png")
    assert facts["samples"] == 24
    assert facts["top_share"] == pytest.approx(20 / 80)
    by_name = {each["setting"]: each for each in facts["settings"]}
    assert by_name["full"]["cost"] == 1
    assert by_name["full"]["spearman"] == pytest.approx(1)
    same, own = by_name["prefix 4"], by_name["configured"]
    assert (own["spearman"], own["kendall"]) == (same["spearman"], same["kendall"])
    low, high = own["spearman_interval"]
    assert low <= own["spearman"] <= high
    assert (edco.folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert set(yaml.safe_load(facts["yaml"])) == {"scoring"}
    assert not (edco.folder / "runs").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-o", "plot.gif"), "Allowed: .html, .json, .png"),
        (("--samples", "5"), "greater than or equal to 20"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any], words: tuple[str, ...], told: str
) -> None:
    edco = new_edco()
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(tiny_config))
    assert told in edco("bench", "scoring", "edco.yaml", *words, expect=2).stderr
