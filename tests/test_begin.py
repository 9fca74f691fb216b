"""What a scheduled flow run finds to do: a new run, one to carry on, or nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from edco_core.config import Config, parse_config
from edco_core.errors import RunExistsError
from flows import opening
from flows.begin import find_work
from storage import open_ledger
from tests.command_line import Edco


@pytest.fixture
def ledger(finished: Edco, tmp_path: Path) -> str:
    """A copy of a ledger with one run, ``whole``, that is finished."""
    shutil.copy(finished.folder / "edco.duckdb", tmp_path / "edco.duckdb")
    return f"duckdb:///{tmp_path}/edco.duckdb"


def _config(tiny_config: dict[str, Any], finished: Edco, ledger: str, **changed: Any) -> Config:
    """The configuration of ``whole``, as it was understood in its folder."""
    values = {
        **tiny_config,
        "run": {**tiny_config["run"], "output_dir": str(finished.folder / "runs")},
        "store": {"url": ledger},
    }
    return parse_config({**values, **changed})


def test_a_run_that_is_named_and_new_is_begun_whatever_ran_before(
    tiny_config: dict[str, Any], finished: Edco
) -> None:
    ledger = f"duckdb:///{finished.folder}/edco.duckdb"
    work = find_work(_config(tiny_config, finished, ledger), "another", "next", "skip")
    assert work.run_id == "another"
    assert work.own is not None


def test_a_finished_run_of_the_same_configuration_and_data_leaves_nothing_to_do(
    tiny_config: dict[str, Any], finished: Edco, ledger: str
) -> None:
    work = find_work(_config(tiny_config, finished, ledger), None, "next", "skip")

    assert work.own is None
    assert work.run_id == "whole"
    assert "is finished and had the same configuration and the same data" in work.reason


def test_a_finished_run_is_made_again_where_that_is_asked_for(
    tiny_config: dict[str, Any], finished: Edco, ledger: str
) -> None:
    work = find_work(_config(tiny_config, finished, ledger), None, "next", "again")

    assert (work.run_id, work.own is not None) == ("next", True)


def test_other_data_at_the_same_place_is_a_new_run(
    tiny_config: dict[str, Any], finished: Edco, ledger: str, tmp_path: Path
) -> None:
    lines = Path(tiny_config["data"]["train"]).read_text().splitlines()
    (tmp_path / "pool.jsonl").write_text("\n".join(lines[1:]))
    data = {**tiny_config["data"], "train": str(tmp_path / "pool.jsonl")}

    work = find_work(_config(tiny_config, finished, ledger, data=data), None, "next", "skip")

    assert (work.run_id, work.own is not None) == ("next", True)
    assert work.reason.startswith("new run next on data")


def test_another_setting_is_a_new_run(
    tiny_config: dict[str, Any], finished: Edco, ledger: str
) -> None:
    curriculum = {**tiny_config["curriculum"], "top_n": 24}

    work = find_work(
        _config(tiny_config, finished, ledger, curriculum=curriculum), None, "next", "skip"
    )

    assert work.run_id == "next"


def changed_config(ledger: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the ledger holds as the configuration of ``whole``."""
    with duckdb.connect(ledger.removeprefix("duckdb:///")) as connection:
        (text,) = connection.execute("SELECT config FROM runs").fetchone() or ("",)
        config = json.loads(text)
        change(config)
        connection.execute("UPDATE runs SET config = ?", [json.dumps(config)])


def test_a_run_older_than_a_setting_had_its_default(
    tiny_config: dict[str, Any], finished: Edco, ledger: str
) -> None:
    changed_config(ledger, lambda config: config["scoring"].pop("chat_template"))
    work = find_work(_config(tiny_config, finished, ledger), None, "next", "skip")
    assert (work.run_id, work.own) == ("whole", None)


def test_a_run_with_a_setting_that_is_no_more_is_another(
    tiny_config: dict[str, Any], finished: Edco, ledger: str
) -> None:
    changed_config(ledger, lambda config: config["scoring"].update(long_gone=1))
    work = find_work(_config(tiny_config, finished, ledger), None, "next", "skip")
    assert (work.run_id, work.own is not None) == ("next", True)


@pytest.mark.parametrize(("now_at", "is_same"), [("commit", True), ("newer", False)])
def test_a_run_on_a_hub_model_is_the_same_as_long_as_the_hub_is(
    tiny_config: dict[str, Any], finished: Edco, ledger: str, monkeypatch: pytest.MonkeyPatch,
    now_at: str, is_same: bool,
) -> None:  # fmt: skip
    from edco_core import base_model

    changed_config(ledger, lambda config: config["model"].update(revision="commit"))
    monkeypatch.setattr(
        base_model, "pinned", lambda model: model.model_copy(update={"revision": now_at})
    )
    work = find_work(_config(tiny_config, finished, ledger), None, "next", "skip")
    assert (work.run_id == "whole") == is_same


def test_what_a_killed_try_of_a_flow_run_left_does_not_keep_the_next_from_beginning(
    tiny_config: dict[str, Any], finished: Edco, tmp_path: Path
) -> None:
    run = {**tiny_config["run"], "output_dir": str(tmp_path / "runs")}
    config = _config(tiny_config, finished, f"duckdb:///{tmp_path}/new.duckdb", run=run)
    (tmp_path / "runs" / "next" / "tokenized").mkdir(parents=True)
    assert find_work(config, None, "next", "skip").run_id == "next"
    # A run of another ledger is not touched.
    (tmp_path / "runs" / "next" / "checkpoints").mkdir(parents=True)
    with pytest.raises(RunExistsError, match="is not empty"):
        find_work(config, None, "next", "skip")


def test_an_interrupted_run_of_the_same_configuration_is_carried_on(
    tiny_config: dict[str, Any], finished: Edco, ledger: str
) -> None:
    owned = open_ledger(ledger)
    lease = owned.acquire("whole", "test")
    owned.release(lease, "interrupted")

    work = find_work(_config(tiny_config, finished, ledger), None, "next", "skip")

    assert (work.run_id, work.own is not None) == ("whole", True)
    assert "same configuration, same data" in work.reason


def test_a_retry_of_a_finished_flow_run_does_nothing(
    tiny_config: dict[str, Any], finished: Edco, ledger: str
) -> None:
    work = find_work(_config(tiny_config, finished, ledger), None, "whole", "again")

    assert (work.run_id, work.own) == ("whole", None)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_start_that_fails_removes_no_folder_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    run_dir = tmp_path / "run"
    if is_there:  # another process began the same run meanwhile
        (run_dir / "checkpoints").mkdir(parents=True)

    def prepare() -> None:
        (run_dir / "tokenized").mkdir()
        raise KeyboardInterrupt

    trainer = SimpleNamespace(prepare=prepare)
    monkeypatch.setattr(opening, "base_fingerprint", lambda settings: "")
    monkeypatch.setattr(opening, "run_spec", lambda *_: SimpleNamespace(run_dir=str(run_dir)))
    monkeypatch.setattr(opening, "build_trainer", lambda *_, **__: trainer)
    config = SimpleNamespace(training=None, curriculum=None, run=SimpleNamespace(seed=0))
    prepared: Any = SimpleNamespace(config=config, pool=None, eval_pool=None, plan=None)
    host: Any = SimpleNamespace(settings=None, device=SimpleNamespace(type="cpu"))
    with pytest.raises(KeyboardInterrupt):
        opening.create(lambda: pytest.fail("no ledger is needed"), prepared, "run", host)
    assert run_dir.exists() == is_there
