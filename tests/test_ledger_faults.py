"""Runs and commands whose ledger fails under them, as real processes."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import yaml
from command_line import Edco
from own_postgres import SECRETS, OwnPostgres, own_postgres
from sqlalchemy import text
from test_resume import FACTS

from storage import open_ledger
from storage.tables import metadata

HERE = Path(__file__).parent
DISTURBED = ("-P", str(HERE / "disturbed.py"))  # -P: tests/storage is not storage

IN_THE_WAY = re.compile(r"waiting for the ledger|the connection to the ledger .* was lost")


def everything(edco: Edco, url: str, run_id: str) -> dict[str, Any]:
    """What a run left: all that the ledger knows of it, and the hash of its adapter."""
    ledger = open_ledger(url, read_only=True)
    facts: dict[str, Any] = {name: ledger.query(sql)[1] for name, sql in FACTS.items()}
    adapter = edco.folder / "runs" / run_id / "final" / "adapter_model.safetensors"
    return facts | {"adapter": hashlib.sha256(adapter.read_bytes()).hexdigest()}


def duckdb_url(edco: Edco) -> str:
    return f"duckdb:///{edco.folder / 'edco.duckdb'}"


def one_error(stderr: str) -> str:
    """The one message of a command that failed, without a traceback."""
    assert "Traceback" not in stderr
    (error,) = (line for line in stderr.splitlines() if line.startswith("error: "))
    return error


# ---------------------------------------------------------------- a run and its ledger


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    server = own_postgres()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def on_postgres(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any], server: OwnPostgres
) -> Edco:
    """A folder with a configuration and the environment for a ledger with a password."""
    edco = new_edco()
    url = server.new_url()
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump({**tiny_config, "store": {"url": url}}))
    return replace(edco, environment={**edco.environment, "EDCO_STORE": url})


def stopping(server: OwnPostgres) -> str:
    return shlex.join([sys.executable, str(HERE / "own_postgres.py"), "stop", str(server.folder)])


def read_on(process: Popen[str], on_wait: Callable[[], object]) -> str:
    """All that a process says for people; ``on_wait`` is called whenever it waits."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if IN_THE_WAY.match(line):
            on_wait()
    return "".join(said)


@pytest.fixture(scope="module")
def through_restarts(on_postgres: Edco, server: OwnPostgres) -> str:
    """What a run named ``whole`` printed, whose Postgres was stopped three times and came back."""
    stop = stopping(server)
    process = on_postgres.start(
        *("stage-row", "2", stop),  # in the transaction that ranks the first scores
        *("shard", "8", stop),  # between two shards of the second interval
        *("training", "7", stop),  # while nobody talks to the ledger
        *("--", "run", "edco.yaml", "--run-id", "whole"),
        program=DISTURBED,
    )
    said = read_on(process, server.start)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said + stdout


@pytest.mark.slow
@pytest.mark.postgres
def test_a_run_whose_postgres_is_restarted_goes_on_and_nothing_is_lost_or_doubled(
    finished: Edco, on_postgres: Edco, through_restarts: str
) -> None:
    assert "Traceback" not in through_restarts
    for told in (IN_THE_WAY, re.compile(r"the ledger .* is back; going on")):
        assert sum(bool(told.match(line)) for line in through_restarts.splitlines()) == 3
    url = on_postgres.environment["EDCO_STORE"]
    assert everything(on_postgres, url, "whole") == everything(
        finished, duckdb_url(finished), "whole"
    )


@pytest.mark.slow
@pytest.mark.postgres
def test_no_password_is_printed_logged_or_kept(
    on_postgres: Edco, server: OwnPostgres, through_restarts: str, prefect_home: Path
) -> None:
    url = on_postgres.environment["EDCO_STORE"]
    wrong = url.replace("s3cret", "s3cret-wrong")
    printed = [through_restarts]

    def edco(line: str, *more: str, expect: int = 0, **options: Any) -> str:
        done = on_postgres(*line.split(), *more, expect=expect, **options)
        printed.extend([done.stdout, done.stderr])
        return done.stderr

    edco("logits 2 nan -- run edco.yaml --run-id nan", program=DISTURBED, expect=1)
    kept = all_rows(url)
    process = on_postgres.start(
        *("shard", "1", stopping(server), "--", "resume", "nan", "--store", url), program=DISTURBED
    )
    try:
        said = read_on(process, lambda: process.send_signal(signal.SIGTERM))
        printed += [said, process.communicate(timeout=60)[0]]
        assert process.returncode == 1
        assert "is away" in one_error(said)
        assert "To carry on: " in said
        assert "cannot be reached" in one_error(edco("runs", expect=1))
    finally:
        server.start()
    for command in ("runs --json", "show nan", "resume whole"):
        edco(command)
    for command in ("runs", "run edco.yaml", "resume nan", "doctor"):
        edco(command, "--store", wrong, expect=1)
    edco("run edco.yaml", "--store", url.replace("?host=", "?host=/nowhere"), expect=1)
    for store in (url.replace("+psycopg", "+nix"), url.replace("/edco_", ":port/edco_")):
        edco("runs", "--store", store, expect=2)
    edco("run edco.yaml", "--set", f"store.adress={url}", expect=2)
    edco("query", "SELECT nix", expect=2)

    files = [path for path in on_postgres.folder.rglob("*") if path.is_file()]
    places = {
        "printed": "".join(printed),
        "logged": contents(path for path in prefect_home.rglob("*") if path.is_file()),
        "in the ledger": kept + all_rows(url),
        "in the folder": contents(path for path in files if path.name != "edco.yaml"),
    }
    # What is searched is what it should be.
    for place in ("printed", "logged", "in the ledger"):
        assert "NaN or infinite" in places[place]
    assert "output_dir: " in places["in the folder"]
    assert places["printed"].count("edco:***@") > 5
    for place, found in places.items():
        assert [secret for secret in SECRETS if secret in found] == [], place


def all_rows(url: str) -> str:
    with open_ledger(url, read_only=True)._database.reading() as connection:
        return "".join(
            repr(connection.execute(text(f"SELECT * FROM {name}")).all())
            for name in metadata.tables
        )


def contents(paths: Iterable[Path]) -> str:
    return "".join(path.read_bytes().decode("utf-8", "replace") for path in paths)


@pytest.mark.slow
def test_after_broken_scores_and_full_disks_a_run_is_resumed_as_if_nothing_had_happened(
    finished: Edco, new_edco: Callable[[], Edco]
) -> None:
    edco = new_edco()
    shutil.copy(finished.folder / "edco.yaml", edco.folder)
    command = ["run", "edco.yaml", "--run-id", "whole"]
    for point, nth, deed, message in (
        ("logits", "12", "nan", r"interval 0: .* scores are NaN or infinite .*look at"),
        ("stage-row", "1", "full-disk", r"the ledger .*no room left.*Make room"),
        ("saving", "2", "full-disk", r"no room left. Make room on the disks of .*runs/whole"),
    ):
        failed = edco(point, nth, deed, "--", *command, program=DISTURBED, expect=1)
        assert re.search(message, one_error(failed.stderr)), failed.stderr
        assert "To carry on: edco resume whole" in failed.stderr
        command = ["resume", "whole"]
    edco("resume", "whole")
    assert everything(edco, duckdb_url(edco), "whole") == everything(
        finished, duckdb_url(finished), "whole"
    )


@pytest.mark.slow
def test_a_signal_as_soon_as_a_run_is_in_the_ledger_ends_it_in_order(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(tiny_config))
    run = ("run", "edco.yaml", "--run-id", "whole")
    stopped = edco("entered", "1", "sigterm", "--", *run, program=DISTURBED, expect=1)
    assert "stopped by" in one_error(stopped.stderr)
    assert "To carry on: edco resume whole" in stopped.stderr
    assert edco.json("runs")[0]["status"] == "interrupted"


# ---------------------------------------------------------------- commands and a ledger in use

HOLD = (
    "-c",
    "import sys, time\n"
    "from storage.engine import Database\n"
    "with Database(sys.argv[1]).writing():\n"
    "    print('held', file=sys.stderr, flush=True)\n"
    "    time.sleep(600)\n",
)

IMPATIENT = (
    "-c",
    "from flows.cli import main\n"
    "from storage.engine import Database\n"
    "from storage.ledger import open_ledger\n"
    "for each in (Database.__init__, open_ledger):\n"
    "    each.__kwdefaults__['busy_timeout_s'] = 1.2\n"
    "main()\n",
)


@pytest.fixture(scope="module")
def held(finished: Edco, new_edco: Callable[[], Edco]) -> Iterator[tuple[Edco, Popen[str]]]:
    """A folder whose ledger another process holds, and that process."""
    edco = new_edco()
    for name in ("edco.yaml", "edco.duckdb"):
        shutil.copy(finished.folder / name, edco.folder)
    holder = edco.start(duckdb_url(edco), program=HOLD)
    assert holder.stderr is not None
    assert holder.stderr.readline() == "held\n"
    yield edco, holder
    holder.kill()
    holder.communicate()


@pytest.mark.parametrize(
    "command",
    ["runs", "show whole", "query 'SELECT 1'", "run edco.yaml", "resume whole", "db upgrade"],
)
def test_a_command_waits_for_a_held_file_and_then_names_who_holds_it(
    held: tuple[Edco, Popen[str]], command: str
) -> None:
    edco, holder = held
    failed = edco(*shlex.split(command), program=IMPATIENT, expect=1)
    waiting, error = failed.stderr.splitlines()
    who = rf"held by process {holder.pid} \(.*python.*\)"
    assert re.match(rf"waiting for the ledger duckdb:///edco.duckdb: {who}", waiting)
    assert re.match(rf"error: the ledger .* is {who}; waited \d s\. .*end that process", error)
    assert failed.stdout == ""


# ---------------------------------------------------------------- places that may not be used

WITHOUT_PRIVILEGES = (
    "-c",
    "import ctypes, os\n"
    "if os.geteuid() == 0:\n"
    "    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
    "    assert ctypes.CDLL(None).capset(header, none) == 0\n"
    "from flows.cli import main\n"
    "main()\n",
)
"""Root may write everywhere, unless it gives up what Linux calls capabilities."""


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_ledger_that_may_only_be_read_is_read_and_a_run_is_refused_before_it_begins(
    finished: Edco, new_edco: Callable[[], Edco], read_only: str
) -> None:
    edco = new_edco()
    folder = edco.folder
    for name in ("edco.yaml", "edco.duckdb"):
        shutil.copy(finished.folder / name, folder)
    (folder / "edco.duckdb").chmod(0o444 if read_only == "file" else 0o666)
    folder.chmod(0o555 if read_only == "folder" else 0o777)
    try:
        assert "whole" in edco("runs", program=WITHOUT_PRIVILEGES).stdout
        for command in ("run edco.yaml", "validate edco.yaml"):
            refused = edco(*command.split(), program=WITHOUT_PRIVILEGES, expect=2)
            assert "store.url: " in one_error(refused.stderr)
            assert "cannot be written to by this user" in one_error(refused.stderr)
        assert sorted(path.name for path in folder.iterdir()) == ["edco.duckdb", "edco.yaml"]
    finally:
        folder.chmod(0o777)
