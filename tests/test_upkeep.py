"""The upkeep commands as people type them: what they ask, refuse, print, and leave."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import Edco
from own_postgres import SECRETS, OwnPostgres, own_postgres

from edco_core.checkpoints import mark_complete
from edco_core.errors import InputError
from flows.upkeep import maintain
from storage import open_ledger, queries
from tests.storage.conftest import do_run, make_pool, make_spec

KILLED = ("-P", str(Path(__file__).with_name("killed.py")))  # -P: tests/storage is not storage


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A ledger with two finished runs; the folder of the first is there."""
    url = f"duckdb:///{tmp_path / 'edco.duckdb'}"
    for run_id in ("going", "staying"):
        folder = tmp_path / "runs" / run_id
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("run: {}\n")
        do_run(open_ledger(url), run_id, intervals=1, run_dir=str(folder))
    return url


@pytest.fixture
def edco(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Runs a command in this process; what it printed as a result, and besides."""
    from flows.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDCO_STORE", "duckdb:///edco.duckdb")

    def run(*words: str, expect: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["edco", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        assert (end.value.code or 0) == expect, printed.err
        assert "Traceback" not in printed.err
        return printed.out, printed.err

    return run


@contextmanager
def typing(answer: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input is a terminal at which somebody types."""
    keyboard, terminal = os.openpty()
    os.write(keyboard, answer.encode())
    with os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield
    os.close(keyboard)


def run_ids(store: str) -> list[str]:
    return [run["run_id"] for run in queries.runs(open_ledger(store, read_only=True))]


# ---------------------------------------------------------------- edco runs rm


def test_without_a_terminal_removing_is_refused_with_what_would_go_and_what_to_type(
    store: str, edco: Callable[..., Any], tmp_path: Path
) -> None:
    out, err = edco("runs", "rm", "goi", expect=2)
    assert out == ""
    for told in ("run going (finished) with 1 intervals", "40 scores", "10 selected samples",
                 "kept: data set pool-a", f"kept: the files in {tmp_path}/runs/going"):  # fmt: skip
        assert told in err
    assert run_ids(store) == ["staying", "going"]
    command = shlex.split(err.splitlines()[-1].partition("To remove it: ")[2])
    assert command[-4:] == ["runs", "rm", "going", "--yes"]
    out, _ = edco(*command[-4:])
    assert out.startswith("removed run going: ")
    assert run_ids(store) == ["staying"]
    assert (tmp_path / "runs" / "going" / "config.yaml").exists()


def test_at_a_terminal_it_asks_and_only_a_yes_removes(
    store: str, edco: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for answer in ("n\n", "\n"):
        with typing(answer, monkeypatch):
            out, err = edco("runs", "rm", "going", expect=1)
        assert out == ""
        assert "40 scores" in err
        assert "remove all this for good? [y/N]" in err
        assert "nothing was removed" in err
    assert run_ids(store) == ["staying", "going"]
    with typing("y\n", monkeypatch):
        edco("runs", "rm", "going")
    assert run_ids(store) == ["staying"]


def test_the_last_run_of_a_data_set_takes_it_along_and_says_so(
    store: str, edco: Callable[..., Any]
) -> None:
    edco("runs", "rm", "going", "--yes")
    _, err = edco("runs", "rm", "staying", expect=2)
    assert "data set pool-a, which no other run uses" in err


def test_files_go_only_when_that_is_said_and_only_those_of_the_run(
    store: str, edco: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "runs" / "staying" / "config.yaml").unlink()
    _, err = edco("runs", "rm", "staying", "--yes", "--files", expect=2)
    assert f"{tmp_path}/runs/staying is not here, or not the folder of run staying" in err
    out, _ = edco("runs", "rm", "going", "--yes", "--files")
    assert f"removed {tmp_path}/runs/going" in out
    assert [each.name for each in (tmp_path / "runs").iterdir()] == ["staying"]
    assert run_ids(store) == ["staying"]


def test_a_run_is_removed_when_its_owner_is_dead_and_refused_while_he_lives(
    store: str, edco: Callable[..., Any], tmp_path: Path
) -> None:
    from flows.owner import this_process

    me = this_process()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ledger = open_ledger(store)
    ledger.create_run(make_spec("alive"), me)
    ledger.create_run(make_spec("dead"), me.replace(f"pid={os.getpid()}", f"pid={dead.pid}"))
    for words in (
        ("runs", "rm", "alive", "--yes"),
        ("db", "copy", store, f"duckdb:///{tmp_path / 'copy.duckdb'}"),
    ):
        _, err = edco(*words, expect=2)
        assert f"run alive is being worked on by {me}" in err
    edco("runs", "rm", "dead", "--yes")
    assert sorted(run_ids(store)) == ["alive", "going", "staying"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("runs", "rm", "nobody", "--yes"), "no run 'nobody'"),
        (("runs", "--json", "rm", "going"), "options go behind the command"),
        (("runs", "remove", "going"), "No such command 'remove'"),
        (("db", "vacuum", "--store", "duckdb:///none.duckdb"), "no ledger at"),
        (("db", "copy", "duckdb:///none.duckdb", "duckdb:///new.duckdb"), "no ledger at"),
        (("db", "copy", "duckdb:///edco.duckdb", "duckdb:///edco.duckdb"), "already"),
        (("db", "copy", "duckdb:///edco.duckdb", "mysql://user:s3cret@host/x"), "mysql"),
    ],
)
def test_what_cannot_be_is_refused_in_one_message_and_changes_nothing(
    words: tuple[str, ...], told: str, store: str, edco: Callable[..., Any], tmp_path: Path
) -> None:
    out, err = edco(*words, expect=2)
    assert out == ""
    assert told in err
    assert "s3cret" not in err
    assert run_ids(store) == ["staying", "going"]
    assert [each.name for each in tmp_path.glob("*.duckdb")] == ["edco.duckdb"]


# ---------------------------------------------------------------- edco db vacuum, edco db copy


def test_vacuum_prints_bytes_before_and_after(
    store: str, edco: Callable[..., Any], tmp_path: Path
) -> None:
    ledger = open_ledger(store)
    pool = make_pool(60_000, "large")
    ledger.register_pool(pool)
    ledger.create_run(make_spec("large", pool), "me", ttl_s=-1)
    edco("runs", "rm", "large", "--yes")
    out, _ = edco("db", "vacuum")
    told = re.fullmatch(r"duckdb:///edco.duckdb: (\d+) bytes before, (\d+) bytes after\n", out)
    assert told
    assert int(told[2]) == (tmp_path / "edco.duckdb").stat().st_size
    assert int(told[2]) < 0.7 * int(told[1])


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    server = own_postgres()
    yield server
    server.remove()


@pytest.mark.postgres
def test_a_ledger_goes_to_postgres_and_back_and_no_password_is_printed(
    store: str, edco: Callable[..., Any], server: OwnPostgres, tmp_path: Path
) -> None:
    there, back = server.new_url(), f"duckdb:///{tmp_path / 'back.duckdb'}"
    printed = [edco("db", "copy", store, there), edco("db", "copy", there, back),
               edco("db", "vacuum", "--store", there)]  # fmt: skip
    assert "2 runs, " in printed[0][0]
    assert "counts and checksums agree" in printed[0][0]
    assert printed[0][0].partition(": 2 runs")[2] == printed[1][0].partition(": 2 runs")[2]
    everything = "".join(out + err for out, err in printed)
    assert not [secret for secret in SECRETS if secret in everything]
    for command in (("show", "going"), ("turnover", "going"), ("difficult", "going", "--json")):
        assert edco(*command, "--store", back) == edco(*command, "--store", store)
        assert edco(*command, "--store", there) == edco(*command, "--store", store)


SCORES = (
    "SELECT interval, sample_id, score, n_tokens, rank, selected, position, checkpoint_id "
    "FROM sample_history ORDER BY 1, 2"
)


@pytest.mark.slow
@pytest.mark.postgres
def test_a_half_scored_run_resumed_in_a_copy_ends_as_if_nothing_had_happened(
    finished: Edco, new_edco: Callable[[], Edco], server: OwnPostgres
) -> None:
    edco = new_edco()
    shutil.copy(finished.folder / "edco.yaml", edco.folder)
    # The third shard of the second interval's scores does not come into the ledger.
    words = ("scoring", "8", "run", "edco.yaml", "--run-id", "whole")
    edco(*words, program=KILLED, expect=-signal.SIGKILL)
    copied = server.new_url()
    edco("db", "copy", "duckdb:///edco.duckdb", copied)
    (edco.folder / "edco.duckdb").rename(edco.folder / "first.duckdb")
    at = ("--store", copied)
    assert edco.json("runs", *at)[0]["alive"] is False
    assert edco.json("runs", *at)[0]["current_interval"] == 1
    edco("resume", "whole", *at)
    assert edco("query", SCORES, "--format", "csv", *at).stdout == (
        finished("query", SCORES, "--format", "csv").stdout
    )
    adapters = [
        hashlib.sha256((each.folder / "runs/whole/final/adapter_model.safetensors").read_bytes())
        for each in (edco, finished)
    ]
    assert adapters[0].hexdigest() == adapters[1].hexdigest()
    sample = edco.json("difficult", "whole", "--min-streak", "1", *at)[0]["sample_id"]
    for verb in (("show", "whole"), ("why", "whole", sample), ("turnover", "whole"),
                 ("replay", "whole")):  # fmt: skip
        edco(*verb, *at)


# ---------------------------------------------------------------- edco maintenance


def dead_owner() -> str:
    """A process of this machine that is gone."""
    from flows.owner import this_process

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    return this_process().replace(f"pid={os.getpid()}", f"pid={dead.pid}")


def test_a_process_in_another_container_may_be_alive() -> None:
    from flows.owner import is_dead_on_this_machine

    gone = dead_owner()
    assert is_dead_on_this_machine(gone)
    before, _, among = gone.partition(" among=")
    assert not is_dead_on_this_machine(f"{before} among=elsewhere-{among}")
    assert is_dead_on_this_machine(before)  # as it was written by earlier versions


def saved_run(store: str, tmp_path: Path) -> list[Path]:
    """A finished run with ``keep_checkpoints: 1``; the folders of its checkpoints 1 to 3."""
    run_dir = tmp_path / "runs" / "kept"
    folders = [run_dir / "checkpoints" / f"interval-{i:03d}" / f"checkpoint-{i}" for i in range(3)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"x" * 1000)
        mark_complete(folder, run_id="kept", step=1, num_tokens=0)
    ledger = open_ledger(store)
    config = {"run": {"keep_checkpoints": 1}}
    do_run(ledger, "kept", intervals=3, run_dir=str(run_dir), config=config)
    with ledger._database.writing() as connection:
        for interval, folder in enumerate(folders, start=1):
            connection.exec_driver_sql(
                f"UPDATE saved_checkpoints SET path = '{folder}' WHERE interval = {interval} "
                "AND run_key = (SELECT run_key FROM runs WHERE run_id = 'kept')"
            )
    return folders


def test_maintenance_makes_no_ledger_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "mistyped.duckdb"
    with pytest.raises(InputError):
        maintain(f"duckdb:///{path}")
    assert not path.exists()


def test_maintenance_tells_what_it_did_and_does_it_once(
    store: str, edco: Callable[..., Any], tmp_path: Path
) -> None:
    folders = saved_run(store, tmp_path)
    open_ledger(store).create_run(make_spec("dead"), dead_owner())
    out, _ = edco("maintenance")
    for told in ("interrupted; its process is gone", "removed", "bytes now"):
        assert told in out
    # The best of them by its metric is the second; the newest is the third.
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert queries.run(open_ledger(store), "dead")["status"] == "interrupted"
    again = json.loads(edco("maintenance", "--json")[0])
    assert [(deed["step"], deed["num_bytes"]) for deed in again] == [("vacuum", 0)]


def test_maintenance_leaves_alone_what_somebody_works_on(
    store: str, edco: Callable[..., Any], tmp_path: Path
) -> None:
    folders = saved_run(store, tmp_path)
    ledger = open_ledger(store)
    ledger.acquire("kept", "host=elsewhere pid=1 started=0")
    deeds = json.loads(edco("maintenance", "--json")[0])
    assert deeds == [
        {"step": "vacuum", "run_id": "kept", "num_bytes": 0,
         "done": "left alone: this run is being worked on"},
    ]  # fmt: skip
    assert all(folder.exists() for folder in folders)
    assert queries.run(ledger, "kept")["status"] == "running"


def test_the_flow_does_the_same_and_shows_it_as_a_table(
    store: str, tmp_path: Path, prefect_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = saved_run(store, tmp_path)
    program = (
        "from flows.maintenance import maintenance\nfrom prefect.artifacts import Artifact\n"
        f"print([deed.step for deed in maintenance({store!r})])\n"
        "print(Artifact.get('maintenance').data)"
    )
    given = {**os.environ, "PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(tmp_path)}
    given["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "INFO"
    done = subprocess.run(
        [sys.executable, "-c", program], env=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    steps, table = done.stdout.splitlines()
    assert steps == "['checkpoints', 'vacuum']"
    assert f"removed {folders[0]}" in table
    assert "sweep leases" in done.stderr
