"""A run that starts from another run's checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from command_line import Edco

MODEL = "model.name_or_path=run:{}"


@pytest.fixture(scope="module")
def edco(new_edco: Callable[[], Edco], tiny_config: dict[str, Any]) -> Edco:
    """A finished run ``first`` of two intervals, and ``second``, which starts from its end."""
    edco = new_edco()
    short = {**tiny_config, "curriculum": {"type": "edco", "intervals": 2, "top_n": 20}}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(short))
    edco("run", "edco.yaml", "--run-id", "first")
    edco("run", "edco.yaml", "--run-id", "second", "--set", MODEL.format("first"))
    return edco


def query(edco: Edco, sql: str) -> Any:
    return json.loads(edco("query", sql, "--format", "json").stdout)


def test_its_first_scores_are_those_of_the_other_ones_last_weights(edco: Edco) -> None:
    """To the rounding of sums: the adapter was added into the weights."""
    edco("score", "edco.yaml", "-o", "last.parquet", "--checkpoint", "runs/first/final")
    edco("score", "edco.yaml", "-o", "base.parquet")
    last, base = (
        pq.read_table(edco.folder / f"{name}.parquet").sort_by("sample_id")["score"].to_numpy()
        for name in ("last", "base")
    )
    history = query(
        edco,
        "SELECT score FROM sample_history WHERE run_id = 'second' AND interval = 0 "
        "ORDER BY sample_id",
    )
    started_with = np.array([row["score"] for row in history])
    assert started_with == pytest.approx(last, rel=1e-3)
    assert abs(base - last).max() > 100 * abs(started_with - last).max()


def test_the_other_run_can_be_scored_with_by_name(edco: Edco) -> None:
    edco("score", "edco.yaml", "-o", "named.parquet", "--set", MODEL.format("first"))
    named = pq.read_table(edco.folder / "named.parquet")
    history = query(
        edco,
        "SELECT sample_id, score FROM sample_history WHERE run_id = 'second' AND interval = 0",
    )
    scores = {row["sample_id"]: row["score"] for row in history}
    assert dict(zip(*named.select(["sample_id", "score"]).to_pydict().values(), strict=True)) == (
        pytest.approx(scores, rel=1e-5)
    )


def test_the_ledger_knows_whose_weights_they_were(edco: Edco) -> None:
    (row,) = query(
        edco,
        "SELECT s.parent_run_id, s.parent_interval, s.parent_checkpoint_id = c.checkpoint_id "
        "AS same FROM run_summary s JOIN checkpoints c ON c.run_id = s.parent_run_id "
        "AND c.interval = s.parent_interval WHERE s.run_id = 'second'",
    )
    assert row == {"parent_run_id": "first", "parent_interval": 2, "same": True}
    assert "parent    first, after interval 1\n" in edco("show", "second").stdout
    assert query(edco, "SELECT parent_run_id FROM run_summary WHERE run_id = 'first'") == [
        {"parent_run_id": None}
    ]


def test_a_lineage_of_three_is_one_query(edco: Edco) -> None:
    edco("run", "edco.yaml", "--run-id", "third", "--set", MODEL.format("second@best"))
    lineage = query(
        edco,
        "WITH RECURSIVE lineage AS (SELECT run_id, parent_run_id, 0 AS generation "
        "FROM run_summary WHERE run_id = 'third' UNION ALL SELECT r.run_id, r.parent_run_id, "
        "l.generation + 1 FROM lineage l JOIN run_summary r ON r.run_id = l.parent_run_id) "
        "SELECT run_id FROM lineage ORDER BY generation",
    )
    assert [row["run_id"] for row in lineage] == ["third", "second", "first"]


def test_validate_writes_nothing(edco: Edco) -> None:
    edco("validate", "edco.yaml", "--set", MODEL.format("first@best"))
    before = sorted(edco.folder.rglob("merged/*"))
    edco("validate", "edco.yaml", "--set", "model.name_or_path=run:third")
    assert sorted(edco.folder.rglob("merged/*")) == before


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("run:furst", "no run 'furst'; there is"),
        ("run:first@worst", "'@worst' came after the run. Allowed: @last, @best"),
    ],
)
def test_what_is_not_there_is_told_before_anything_starts(edco: Edco, name: str, says: str) -> None:
    told = edco("run", "edco.yaml", "--set", f"model.name_or_path={name}", expect=2).stderr
    assert says in told
    assert "Traceback" not in told


def test_a_checkpoint_that_is_gone_is_told(edco: Edco, tmp_path: Path) -> None:
    copied = Edco(tmp_path / "copy", edco.environment)
    shutil.copytree(edco.folder, copied.folder)
    ledger = f"duckdb:///{copied.folder / 'edco.duckdb'}"
    shutil.move(edco.folder / "runs" / "first", edco.folder / "runs" / "away")
    try:
        told = copied("run", "edco.yaml", "--store", ledger, "--set", MODEL.format("first"),
                      expect=2).stderr  # fmt: skip
    finally:
        shutil.move(edco.folder / "runs" / "away", edco.folder / "runs" / "first")
    assert "is gone from this machine" in told


def test_without_a_ledger_it_says_where_it_looked(edco: Edco, tmp_path: Path) -> None:
    ledger = f"duckdb:///{tmp_path / 'none.duckdb'}"
    told = edco("run", "edco.yaml", "--store", ledger, "--set", MODEL.format("first"), expect=2)
    assert "there is no ledger yet" in told.stderr
    assert not (tmp_path / "none.duckdb").exists()


def test_files_that_another_run_starts_from_are_not_removed(edco: Edco) -> None:
    told = edco("runs", "rm", "first", "--files", "--yes", expect=2).stderr
    assert "runs start from a model in" in told
    assert "second" in told
    assert (edco.folder / "runs" / "first" / "final").is_dir()
