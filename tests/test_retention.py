"""run.keep_checkpoints: what goes, what never does, and what is known of it afterwards."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Edco

from edco_core.checkpoints import MARKER, drop_optimizer_state, mark_complete, read_facts
from edco_core.config import KeepCheckpoints, parse_config
from edco_core.errors import ConfigError
from edco_core.records import Checkpoint
from edco_core.retention import removable, remove
from flows.retention import apply_retention
from storage import open_ledger, queries
from tests.storage.conftest import do_run

KILLED = ("-P", str(Path(__file__).with_name("killed.py")))  # -P: tests/storage is not storage


@pytest.mark.parametrize(
    ("keep", "best", "in_use", "gone"),
    [
        ("all", 2, (), []),
        ("best", 2, (), [1, 3, 4]),
        ("best", 5, (), [1, 2, 3, 4]),
        ("best", None, (), [1, 2, 3, 4]),
        (1, 2, (), [1, 3, 4]),
        (2, 2, (), [1, 3]),
        (2, 2, (1,), [3]),  # another run starts from it
        (9, None, (), []),
    ],
)
def test_start_newest_and_best_stay_and_what_others_start_from(
    keep: KeepCheckpoints, best: int | None, in_use: tuple[int, ...], gone: list[int]
) -> None:
    assert removable(range(6), keep, best=best, in_use=in_use) == gone
    assert removable([], keep, best=None, in_use=()) == []


@pytest.mark.parametrize("value", ["bst", 0, -1, True, 1.5, None, "3"])
def test_anything_but_a_word_or_a_count_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="use all, best, or a count of at least 1"):
        parse_config({"run": {"keep_checkpoints": value}, "model": {"name_or_path": "m"},
                      "data": {"train": "t", "eval": "e"}})  # fmt: skip


def test_the_best_without_anything_that_tells_what_is_best_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"best needs data\.eval"):
        parse_config({"run": {"keep_checkpoints": "best"}, "model": {"name_or_path": "m"},
                      "data": {"train": "t"}})  # fmt: skip


def save(run_dir: Path, interval: int, *, run_id: str = "r") -> Path:
    folder = run_dir / "checkpoints" / f"interval-{interval - 1:03d}" / f"checkpoint-{interval}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights" * interval)
    mark_complete(folder, run_id=run_id, step=interval, num_tokens=0)
    return folder


def test_what_a_killed_removal_left_is_no_checkpoint_and_goes_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path, 1)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            remove(folder, tmp_path)
    assert read_facts(folder) is None
    assert remove(folder, tmp_path) == len(b"weights")
    assert not folder.parent.exists()
    assert remove(folder, tmp_path) == 0  # somebody else was quicker


def test_nothing_outside_the_run_and_no_other_runs_checkpoint_is_removed(tmp_path: Path) -> None:
    ledger = open_ledger(f"duckdb:///{tmp_path / 'edco.duckdb'}")
    run_dir, foreign = tmp_path / "runs" / "r", tmp_path / "elsewhere"
    places = [
        save(foreign, 1),  # the ledger names it, but it is not below the run's folder
        save(run_dir, 2, run_id="another"),  # below it, but saved by another run
        save(run_dir, 3),
        save(run_dir, 4),
    ]
    do_run(ledger, "r", intervals=4, run_dir=str(run_dir))
    database = ledger._database
    for interval, place in enumerate(places, start=1):
        with database.writing() as connection:
            connection.exec_driver_sql(
                f"UPDATE saved_checkpoints SET path = '{place}' WHERE interval = {interval}"
            )
    removed = apply_retention(ledger, "r", 1, run_dir)
    assert [each.interval for each in removed] == [3]
    assert [place.exists() for place in places] == [True, True, False, True]
    rows = queries.checkpoints(ledger, "r")
    assert [row["interval"] for row in rows if row["removed_at"]] == [3]
    assert Checkpoint(3, 0, "", rows[3]["weights_sha256"]).checkpoint_id  # the hash stays
    assert apply_retention(ledger, "r", 1, run_dir) == []


def test_the_optimizer_state_of_all_but_the_newest_goes_whatever_is_kept(tmp_path: Path) -> None:
    ledger = open_ledger(f"duckdb:///{tmp_path / 'edco.duckdb'}")
    run_dir = tmp_path / "runs" / "r"
    places = [save(run_dir, number) for number in (1, 2, 3)]
    for place in places:  # as where a process was killed right behind an interval
        (place / "optimizer.pt").touch()
    do_run(ledger, "r", intervals=3, run_dir=str(run_dir))
    with ledger._database.writing() as connection:
        for interval, place in enumerate(places, start=1):
            connection.exec_driver_sql(
                f"UPDATE saved_checkpoints SET path = '{place}' WHERE interval = {interval}"
            )
    assert apply_retention(ledger, "r", "all", run_dir) == []
    assert [(place / "optimizer.pt").exists() for place in places] == [False, False, True]
    assert all(read_facts(place) for place in places)


@pytest.mark.slow
def test_a_run_killed_while_it_removes_ends_as_one_that_keeps_everything(
    finished: Edco, new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    config = {key: value for key, value in tiny_config.items() if key != "evaluation"}
    config["data"] = {"train": config["data"]["train"]}
    config["run"] = {**config["run"], "keep_checkpoints": 1}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    words = ("removing", "1", "run", "edco.yaml", "--run-id", "whole")
    edco(*words, program=KILLED, expect=-signal.SIGKILL)
    # The ledger says that it is gone, and its files are still there.
    marked = edco.json("show", "whole")["checkpoints"][1]
    assert marked["removed_at"] is not None
    assert Path(marked["path"]).is_dir()
    edco("resume", "whole")
    shown = edco.json("show", "whole")["checkpoints"]
    assert [row["on_disk"] for row in shown] == [True, False, False, True]
    assert [Path(row["path"]).exists() for row in shown] == [True, False, False, True]
    assert "2 removed" in edco("show", "whole").stdout

    sql = "SELECT * EXCLUDE (run_id, dataset_id) FROM {} ORDER BY 1, 2, 3"
    for view in ("sample_history", "curriculum", "training_steps", "step_samples"):
        query = sql.format(view) if view != "training_steps" else (
            "SELECT interval, step, loss, grad_norm FROM training_steps ORDER BY 2"
        )  # fmt: skip
        one, other = (each("query", query, "--format", "csv").stdout for each in (edco, finished))
        assert one == other, view
    adapters = [
        hashlib.sha256((each.folder / "runs/whole/final/adapter_model.safetensors").read_bytes())
        for each in (edco, finished)
    ]
    assert adapters[0].hexdigest() == adapters[1].hexdigest()
    edco("replay", "whole")
    sample = json.loads(edco("query", "SELECT sample_id FROM samples", "--json").stdout)[0]
    assert edco.json("why", "whole", sample["sample_id"])["history"][1]["checkpoint_id"]


@pytest.mark.parametrize(("run_id", "is_left"), [("own", False), ("another", True)])
def test_optimizer_states_go_with_their_own_run_alone(
    tmp_path: Path, run_id: str, is_left: bool
) -> None:
    """Another run may have started from this checkpoint."""
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    mark_complete(tmp_path, run_id=run_id, step=1, num_tokens=0)
    states = [tmp_path / name for name in ("optimizer.pt", "scheduler.pt", "scaler.pt")]
    for each in states:
        each.touch()
    drop_optimizer_state(tmp_path, "own")
    assert [each.exists() for each in states] == [is_left] * 3
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": "r"}'])
def test_a_marker_that_was_cut_short_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)
    assert read_facts(tmp_path) is None
