"""``edco score``: a pool scored once, into a file that says what it was made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import Edco

from edco_core.checkpoints import weights_sha256
from edco_core.config import parse_config
from edco_core.errors import InputError, ModelError
from flows.scoring import METADATA_KEY, score_to_file
from storage import open_ledger


def facts_of(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(pq.read_schema(path).metadata[METADATA_KEY])
    return facts


def test_a_checkpoint_gets_the_scores_its_run_gave_it(finished: Edco) -> None:
    """Another process, no ledger, and the adapter loaded from its folder: the same numbers."""
    ledger = open_ledger(f"duckdb:///{finished.folder / 'edco.duckdb'}", read_only=True)
    frame = ledger.frame("sample_history", run_id="whole", interval=1).sort_values("sample_id")
    _, ((checkpoint,),) = ledger.query(
        "SELECT checkpoint_id FROM interval_summary WHERE run_id = :run AND interval = 1",
        {"run": "whole"},
    )
    (folder,) = (
        path.parent
        for path in (finished.folder / "runs/whole/checkpoints").rglob("edco.json")
        if weights_sha256(path.parent).startswith(checkpoint)
    )
    printed = finished(
        "score", "edco.yaml", "-o", "scores.parquet", "--checkpoint", str(folder),
        "--keep-token-entropies",
    )  # fmt: skip
    assert "score_mean" in printed.stdout
    path = finished.folder / "scores.parquet"
    table = pq.read_table(path)
    assert table["sample_id"].to_pylist() == frame["sample_id"].tolist()
    assert table["ordinal"].to_pylist() == list(range(80))
    np.testing.assert_allclose(table["score"].to_numpy(), frame["score"].to_numpy(), rtol=1e-5)
    assert table["n_tokens"].to_pylist() == frame["n_tokens"].tolist()
    for row in table.to_pylist():
        assert len(row["token_entropies"]) == row["n_tokens"]
        assert np.mean(row["token_entropies"]) == pytest.approx(row["score"], rel=1e-5)
    facts = facts_of(path)
    assert facts["weights_sha256"] == weights_sha256(folder)
    assert facts["scoring"]["type"] == "prefix_entropy"
    assert facts["pool_size"] == 80
    assert facts["dataset_id"]
    assert finished("score", "edco.yaml", "-o", "scores.parquet", expect=2).stderr.count("\n") == 1


@pytest.fixture
def config(tiny_config: dict[str, Any]) -> dict[str, Any]:
    return {**tiny_config, "scoring": {"type": "loss"}}


def test_the_base_model_is_scored_without_an_adapter(
    config: dict[str, Any], tmp_path: Path
) -> None:
    target = tmp_path / "s.parquet"
    told: list[tuple[int, int]] = []
    facts = score_to_file(
        parse_config(config), target, on_progress=lambda done, total: told.append((done, total))
    )
    assert told[-1] == (80, 80)
    assert facts["weights_sha256"] == weights_sha256(Path(config["model"]["name_or_path"]))
    assert facts_of(target)["checkpoint"] is None
    table = pq.read_table(target)
    assert table.column_names == ["sample_id", "ordinal", "score", "n_tokens"]
    assert facts["score_mean"] == pytest.approx(np.mean(table["score"].to_numpy()))
    first = target.read_bytes()
    score_to_file(parse_config(config), target, overwrite=True)
    assert target.read_bytes() != first  # made again, at another time
    assert pq.read_table(target).equals(table)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("there.parquet", {}, r"exists already\. Give another name, or --overwrite"),
        ("scores.csv", {}, "the file is Parquet"),
        ("none/scores.parquet", {}, "there is no folder"),
        ("folder", {}, "it is a folder"),
        ("s.parquet", {"keep_token_entropies": True}, "'loss' has no entropies"),
        ("s.parquet", {"checkpoint": Path("nowhere")}, "--checkpoint nowhere: no such folder"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(
    name: str, options: dict[str, Any], message: str, config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "there.parquet").write_text("mine")
    (tmp_path / "folder").mkdir()
    # A model that does not exist: found out only later.
    later = {**config, "model": {"name_or_path": str(tmp_path / "no-model")}}
    with pytest.raises(InputError, match=message):
        score_to_file(parse_config(later), tmp_path / name, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "there.parquet"]
    assert (tmp_path / "there.parquet").read_text() == "mine"


def test_a_folder_without_weights_is_no_checkpoint(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no weights"):
        score_to_file(parse_config(config), tmp_path / "s.parquet", checkpoint=tmp_path)
