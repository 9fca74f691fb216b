"""A user's own strategy and scorer, by ``type: module:attribute``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Edco

EXAMPLE = (Path(__file__).parents[1] / "examples" / "mine.py").read_text(encoding="utf-8")
MODULE = (
    EXAMPLE
    + """

class Twice(Shortest):
    def choose(self, evidence, num_samples, rng):
        made = super().choose(evidence, num_samples, rng)
        made.ordinals[0] = made.ordinals[1]
        return made


class Unfinished(Scorer):
    def _num_tokens(self):
        return np.ones(len(self.pool), np.int64)


not_a_class = 3
"""
)


@pytest.fixture(scope="module")
def edco(new_edco: Callable[[], Edco], tiny_config: dict[str, Any]) -> Edco:
    edco = new_edco()
    (edco.folder / "mine.py").write_text(MODULE)
    config = {
        **tiny_config,
        "scoring": {"type": "mine:PromptLength", "shard_size": 32},
        "curriculum": {"type": "mine:Shortest", "intervals": 2, "top_n": 8, "args": {"skip": 2}},
    }
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    edco("run", "edco.yaml", "--run-id", "own")
    return edco


def test_a_run_scores_and_selects_with_them(edco: Edco) -> None:
    sql = (
        "SELECT length(s.prompt) = c.score AS is_length, c.rank, c.reason FROM curriculum c "
        "JOIN samples s USING (dataset_id, sample_id) WHERE interval = 0 ORDER BY c.position"
    )
    rows = json.loads(edco("query", sql, "--format", "json").stdout)
    assert len(rows) == 8
    assert all(row["is_length"] and row["reason"] == "shortest" for row in rows)
    assert max(row["rank"] for row in rows) <= 78  # two of 80 were skipped


def test_the_ledger_has_their_names(edco: Edco) -> None:
    (run,) = json.loads(edco("runs", "--json").stdout)
    assert (run["strategy"], run["scorer"]) == ("mine:Shortest", "mine:PromptLength")


def test_replay_makes_the_same_selections_again(edco: Edco) -> None:
    assert "all 2 curricula are identical" in edco("replay", "own").stdout


def test_why_tells_by_their_own_words(edco: Edco) -> None:
    sql = "SELECT sample_id FROM curriculum WHERE interval = 1 AND position = 0"
    (row,) = json.loads(edco("query", sql, "--format", "json").stdout)
    assert "short, 2 skipped" in edco("why", "own", row["sample_id"], "--interval", "1").stdout


def test_why_answers_where_their_module_is_not(edco: Edco, tmp_path: Path) -> None:
    sql = "SELECT sample_id FROM curriculum WHERE interval = 1 AND position = 0"
    (row,) = json.loads(edco("query", sql, "--format", "json").stdout)
    elsewhere = replace(edco, folder=tmp_path)
    store = f"duckdb:///{edco.folder / 'edco.duckdb'}"
    told = elsewhere("why", "own", row["sample_id"], "--store", store, "--json").stdout
    assert "in, at position 0: shortest" in told


def test_a_selection_with_a_sample_twice_is_refused(edco: Edco) -> None:
    told = edco(
        "run", "edco.yaml", "--run-id", "twice", "--set", "curriculum.type=mine:Twice", expect=2
    ).stderr
    assert "mine:Twice was asked for 8 different samples of 0 to 79, and gave" in told
    assert "more than once" in told


def test_replay_with_another_strategy_of_ones_own(edco: Edco) -> None:
    told = edco("replay", "own", "--set", "args.skip=0", "--json").stdout
    assert [row["overlap"] for row in json.loads(told)["intervals"]] == [6 / 8, 6 / 8]


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("scoring.type=mine:Unfinished", "mine:Unfinished lacks _score_batch"),
        ("scoring.type=mine:Shortest", "Expected a subclass of edco_core.scoring.base.Scorer"),
        ("curriculum.type=mine:not_a_class", "mine:not_a_class is 3"),
        ("curriculum.type=mine:Gone", "mine has no 'Gone'. It has:"),
        ("curriculum.type=yours:Strategy", "yours:Strategy cannot be imported"),
        ("scoring.type=prefix_entropi", "Did you mean 'prefix_entropy'?"),
        ("curriculum.typ=edco", "curriculum.typ: unknown key"),
    ],
)
def test_what_is_not_of_the_kind_is_refused(edco: Edco, setting: str, says: str) -> None:
    told = edco("validate", "edco.yaml", "--set", setting, expect=2).stderr
    assert says in told
    assert "Traceback" not in told
