"""Opening a ledger: addresses, versions, locks, read-only, and what is loaded for it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import duckdb_engine
import pytest
from sqlalchemy import make_url, text

from edco_core.errors import (
    InputError,
    LedgerBusyError,
    LedgerError,
    LedgerVersionError,
)
from storage import (
    HEAD_REVISION,
    Ledger,
    address_of,
    db_check,
    db_current,
    db_upgrade,
    is_secret,
    masked,
    open_ledger,
)  # fmt: skip
from storage.engine import Database
from storage.schema import REVISIONS
from storage.tables import metadata
from storage.views import VIEWS, VIEWS_SHA256
from tests.storage.conftest import do_run, make_spec

ROOT = Path(__file__).parents[2]


def in_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run code in another Python, with every warning an error."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def sql(url: str, statement: str) -> None:
    with Database(url).writing() as connection:
        connection.execute(text(statement))


# ---------------------------------------------------------------- versions


def test_the_first_opening_makes_a_ledger_and_later_ones_keep_it(empty_url: str) -> None:
    open_ledger(empty_url)
    assert db_current(empty_url) == HEAD_REVISION
    do_run(open_ledger(empty_url), intervals=1)
    assert open_ledger(empty_url).find_run("demo") == "demo-1"
    assert db_check(empty_url) == []


def test_the_head_revision_is_the_newest_migration_and_it_knows_the_views() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == HEAD_REVISION
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(revisions)) == REVISIONS
    head = scripts.get_revision("head")
    assert head is not None
    assert head.module.views_sha256 == VIEWS_SHA256, (
        "the views changed: add a revision carrying the new VIEWS_SHA256, so that ledgers get them"
    )


def test_migrated_tables_are_those_the_software_writes_to(ledger: Ledger) -> None:
    names = {
        "SMALLINT": "smallint",
        "INTEGER": "integer",
        "BIGINT": "bigint",
        "FLOAT": "double precision",
        "DOUBLE": "double precision",
        "DOUBLE PRECISION": "double precision",
        "TEXT": "text",
        "VARCHAR": "text",
        "BOOLEAN": "boolean",
        "BLOB": "bytes",
        "BYTEA": "bytes",
        "DATETIME": "timestamp",
        "TIMESTAMP": "timestamp",
        "TIMESTAMP WITHOUT TIME ZONE": "timestamp",
    }
    with ledger._database.reading() as connection:
        for table in metadata.tables.values():
            rows = connection.execute(
                text(
                    "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
                    "WHERE table_name = :t AND table_schema = current_schema() "
                    "ORDER BY ordinal_position"
                ),
                {"t": table.name},
            ).all()
            migrated = [(name, names[kind.upper()], null == "YES") for name, kind, null in rows]
            declared = [(c.name, names[str(c.type)], bool(c.nullable)) for c in table.columns]
            assert migrated == declared


def test_an_older_ledger_says_what_to_type(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sql(url, "UPDATE alembic_version SET version_num = '0000'")
    monkeypatch.setattr("storage.schema.REVISIONS", ("0000", *REVISIONS))
    for read_only in (True, False):
        with pytest.raises(LedgerVersionError, match=r"edco db upgrade --store \S+"):
            open_ledger(url, read_only=read_only)
    assert db_current(url) == "0000"
    assert "edco db upgrade" in db_check(url)[0]


def test_a_newer_ledger_is_refused(url: str) -> None:
    sql(url, "UPDATE alembic_version SET version_num = '9999'")
    for do in (open_ledger, db_upgrade, lambda it: open_ledger(it, read_only=True)):
        with pytest.raises(LedgerVersionError, match="newer version of EDCO"):
            do(url)
    assert db_current(url) == "9999"


def test_upgrade_makes_a_ledger_and_a_second_one_changes_nothing(empty_url: str) -> None:
    assert db_upgrade(empty_url) == (None, HEAD_REVISION)
    assert db_upgrade(empty_url) == (HEAD_REVISION, HEAD_REVISION)


def test_a_migration_that_fails_leaves_nothing(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VIEWS, "turnover", "SELECT nonsense FROM runs")
    with pytest.raises(LedgerError, match="nonsense"):
        open_ledger(empty_url)
    assert db_current(empty_url) is None
    monkeypatch.undo()
    open_ledger(empty_url)
    assert db_check(empty_url) == []


def test_a_database_of_other_software_is_left_alone(empty_url: str) -> None:
    sql(empty_url, "CREATE TABLE runs (x INTEGER)")
    with pytest.raises(InputError, match="other software"):
        open_ledger(empty_url)


def test_check_finds_what_is_missing(url: str) -> None:
    do_run(open_ledger(url), intervals=1)
    sql(url, "DELETE FROM selections WHERE position = 0")
    assert db_check(url) == [
        "run demo-1, interval 0: 9 rows in selections, 10 expected",
    ]
    sql(url, "DROP VIEW turnover")
    assert db_check(url) == ["turnover is missing"]


def test_two_processes_that_migrate_at_once_do_not_harm_each_other(empty_url: str) -> None:
    code = """
        import sys
        from storage import open_ledger
        open_ledger(sys.argv[1], busy_timeout_s=60)
    """
    processes = [in_process(code, empty_url) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert db_current(empty_url) == HEAD_REVISION
    assert db_check(empty_url) == []


# ---------------------------------------------------------------- reading only


def test_the_database_itself_refuses_writes_of_a_reader(url: str) -> None:
    database = Database(url, read_only=True)
    with pytest.raises(LedgerError, match=r"read.only"), database.reading() as connection:
        connection.execute(text("DELETE FROM runs"))
    with pytest.raises(LedgerError, match="opened read-only"), database.writing():
        pass


def test_reading_a_ledger_that_is_not_there_says_so_and_makes_nothing(empty_url: str) -> None:
    with pytest.raises(InputError, match=r"no ledger at .*edco run CONFIG"):
        open_ledger(empty_url, read_only=True)
    if empty_url.startswith("duckdb"):
        assert not Path(empty_url.removeprefix("duckdb:///")).exists()
        with pytest.raises(InputError, match="no ledger"):
            db_current(empty_url)
    else:
        assert db_current(empty_url) is None


def test_reading_loads_neither_torch_nor_prefect_nor_pandas_nor_alembic(url: str) -> None:
    do_run(open_ledger(url), intervals=2)
    code = """
        import sys
        import storage
        from storage import queries
        heavy = {"torch", "prefect", "pandas", "alembic", "transformers", "matplotlib"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        ledger = storage.open_ledger(sys.argv[1], read_only=True)
        run_id = ledger.find_run("demo")
        queries.runs(ledger), queries.run(ledger, run_id), queries.intervals(ledger, run_id)
        queries.turnover(ledger, run_id), queries.evaluations(ledger, run_id)
        sample = queries.difficult(ledger, run_id)[0]["sample_id"]
        queries.why(ledger, run_id, sample)
        ledger.run_state(run_id), ledger.stage_facts(run_id, 0, "scoring")
        ledger.scores(run_id, 0), ledger.selection(run_id, 1), ledger.checkpoint(run_id, 1)
        ledger.query("SELECT * FROM samples WHERE sample_id = :s", {"s": sample}, limit=3)
        storage.db_current(sys.argv[1]), storage.db_check(sys.argv[1])
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    process = in_process(code, url)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (
            "postgresql+psycopg://joe:s3cret@db:5432/edco",
            "postgresql+psycopg://joe:***@db:5432/edco",
        ),
        ("postgresql+psycopg://db/edco?user=joe&password=s3cret", None),
        ("postgresql+psycopg://joe:s3cret%40x@db/edco?sslpassword=s3cret", None),
        ("nonsense://joe:s3cret@x@y:port/z", None),
        ("postgresql+psycopg://joe:p@s3cret@db/edco", "postgresql+psycopg://joe:***@db/edco"),
        ("duckdb:///edco.duckdb", "duckdb:///edco.duckdb"),
    ],
)
def test_a_masked_address_shows_no_password(address: str, shown: str | None) -> None:
    assert "s3cret" not in masked(address)
    if shown:
        assert masked(address) == shown


@pytest.mark.parametrize(
    ("address", "has_one"),
    [
        ("postgresql+psycopg://joe:s3cret@db/edco", True),
        ("postgresql+psycopg://db/edco?password=s3cret", True),
        ("nonsense://joe:s3cret@x@y:port/z", True),
        # Written in another way by SQLAlchemy, and no secret for that.
        ("postgresql+psycopg:///edco?host=/var/run/postgresql", False),
        ("postgresql+psycopg://db/edco?application_name=a b", False),
        ("duckdb:///edco.duckdb", False),
    ],
)
def test_an_address_is_secret_when_it_has_a_password(address: str, has_one: bool) -> None:
    assert is_secret(address) == has_one


def test_a_password_with_an_at_sign_is_refused_and_told_how_to_write() -> None:
    with pytest.raises(InputError, match="%40") as refused:
        open_ledger("postgresql+psycopg://joe:p@s3cret@db/edco")
    assert "s3cret" not in str(refused.value)


def test_a_path_with_odd_characters_is_one_file_and_one_with_options_none(tmp_path: Path) -> None:
    path = tmp_path / "100%41 & more" / "edco.duckdb"
    path.parent.mkdir()
    open_ledger(address_of(path))
    assert path.is_file()
    with pytest.raises(InputError, match="no options"):
        open_ledger(f"duckdb:///{tmp_path}/a?b/edco.duckdb")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("edco.duckdb", "not an address"),
        ("sqlite:///edco.db", "unknown kind of database 'sqlite'"),
        ("postgresql+psycopg2://joe:s3cret@db/edco", "unknown kind of database"),
        ("duckdb:///:memory:", "must be a file"),
        ("duckdb://", "must be a file"),
        ("duckdb:///edco.duckdb?threads=2", "no options"),
        ("mysql://joe:s3cret@db:port/x", "not an address"),
    ],
)
def test_a_bad_address_says_what_is_allowed_and_hides_the_password(
    address: str, problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        open_ledger(address)
    assert "duckdb:///FILE.duckdb" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_bad_places_for_a_duckdb_ledger_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mkdir -p"):
        open_ledger(f"duckdb:///{tmp_path}/missing/edco.duckdb")
    with pytest.raises(InputError, match="is a folder"):
        open_ledger(f"duckdb:///{tmp_path}")
    (tmp_path / "notes.txt").write_text("not a database, but long enough to look at" * 200)
    for read_only in (True, False):
        with pytest.raises(InputError, match="not a DuckDB database"):
            open_ledger(f"duckdb:///{tmp_path}/notes.txt", read_only=read_only)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


@pytest.mark.postgres
def test_a_wrong_password_or_server_is_named_without_the_password(postgres_url: str) -> None:
    for address in (
        "postgresql+psycopg://joe:s3cret@127.0.0.1:1/edco",
        "postgresql+psycopg://joe:s3cret@/edco?host=/nowhere",
    ):
        started = time.monotonic()
        with pytest.raises(LedgerError, match="cannot be reached") as caught:
            open_ledger(address)
        assert "s3cret" not in str(caught.value)
        assert time.monotonic() - started < 10
    with pytest.raises(LedgerError, match="createdb"):
        open_ledger(make_url(postgres_url).set(database="nix").render_as_string(False))


# ---------------------------------------------------------------- a held DuckDB file

HOLD = """
    import sys, time
    from storage.engine import Database
    with Database(sys.argv[1]).writing() as connection:
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def duckdb_url(new_ledger_url: Callable[[str], str]) -> str:
    return new_ledger_url("duckdb")


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_held_by_another_process_is_an_error_naming_it(
    duckdb_url: str, read_only: bool
) -> None:
    with in_process(HOLD, duckdb_url, "60") as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        heard: list[str] = []
        with pytest.raises(LedgerBusyError, match=f"process {holder.pid}"):
            open_ledger(duckdb_url, read_only=read_only, busy_timeout_s=1.5, on_wait=heard.append)
        assert len(heard) == 1
        assert f"process {holder.pid}" in heard[0]
        holder.kill()


def test_a_file_that_becomes_free_in_time_is_opened(duckdb_url: str) -> None:
    with in_process(HOLD, duckdb_url, "1") as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert db_current(duckdb_url) == HEAD_REVISION


WRITE = """
    import sys, time
    from sqlalchemy import text
    from storage.engine import Database
    database = Database(sys.argv[1])
    while True:
        with database.writing() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
        print("written", flush=True)
        time.sleep(0.01)
"""


def test_a_process_that_writes_without_a_pause_lets_others_in(duckdb_url: str) -> None:
    with in_process(WRITE, duckdb_url) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        threading.Thread(target=writer.stdout.read, daemon=True).start()
        try:
            for _ in range(10):
                with Database(duckdb_url, busy_timeout_s=4).reading() as connection:
                    assert connection.execute(text("SELECT 1")).scalar() == 1
        finally:
            writer.kill()


COUNT = """
    import sys, threading
    from sqlalchemy import text
    from storage.engine import Database

    def count(url, times):
        database, reader = Database(url), Database(url, read_only=True)
        for _ in range(times):
            with database.writing() as connection:
                connection.execute(text("UPDATE counted SET n = n + 1"))
            database._lingering.end()  # the file is closed as often as can be
            with reader.reading() as connection:
                connection.execute(text("SELECT n FROM counted"))

    threads = [threading.Thread(target=count, args=(sys.argv[1], 30)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
"""


def test_threads_of_several_processes_write_one_file_and_nothing_is_lost(duckdb_url: str) -> None:
    sql(duckdb_url, "CREATE TABLE counted AS SELECT 0 AS n")
    processes = [in_process(COUNT, duckdb_url) for _ in range(2)]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert not any("Exception in thread" in each for each in said), said
    with Database(duckdb_url, read_only=True).reading() as connection:
        assert connection.execute(text("SELECT n FROM counted")).scalar() == 240


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_is_opened_and_closed_while_no_other_process_does_so(
    duckdb_url: str, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    """DuckDB reads a file's header before it locks the file: it could be one of before."""
    folder = os.open(Path(duckdb_url.removeprefix("duckdb:///")).parent, os.O_RDONLY)
    seen: list[str] = []

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with pytest.raises(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            seen.append(name)
            return original(*args, **kwargs)

        return call

    monkeypatch.setattr(duckdb, "connect", watched("opened", duckdb.connect))
    wrapper = duckdb_engine.ConnectionWrapper
    monkeypatch.setattr(wrapper, "close", watched("closed", wrapper.close))
    database = Database(duckdb_url, read_only=read_only)
    with database.reading():
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # others may try, and are told to wait
        fcntl.flock(folder, fcntl.LOCK_UN)
    database._lingering.end()
    os.close(folder)
    assert {"opened", "closed"} == set(seen)


def test_reader_and_writer_of_one_process_wait_for_each_other(duckdb_url: str) -> None:
    writer, reader = Database(duckdb_url), Database(duckdb_url, read_only=True)
    entered = threading.Event()

    def write() -> None:
        with writer.writing() as connection:
            entered.set()
            time.sleep(0.5)
            connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))

    thread = threading.Thread(target=write)
    thread.start()
    entered.wait()
    with reader.reading() as connection:
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    thread.join()
    assert version == "0002"


def test_what_a_killed_process_committed_stays_and_the_rest_is_gone(duckdb_url: str) -> None:
    code = """
        import os, signal, sys
        from sqlalchemy import make_url, text
        from storage.engine import Database
        database = Database(sys.argv[1])
        insert = "INSERT INTO bad_rows VALUES (1, '{}', 'x')"
        with database.writing() as connection:
            connection.execute(text(insert.format("kept")))
        with database.writing() as connection:
            connection.execute(text(insert.format("lost")))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    in_process(code, duckdb_url).communicate(timeout=60)
    with Database(duckdb_url, read_only=True).reading() as connection:
        rows = connection.execute(text("SELECT source FROM bad_rows")).scalars().all()
    assert rows == ["kept"]


# ---------------------------------------------------------------- a server that goes away


@pytest.mark.postgres
def test_after_a_dropped_connection_the_next_call_works_and_nothing_is_half_written(
    new_ledger_url: Callable[[str], str],
) -> None:
    url = new_ledger_url("postgres")
    ledger = open_ledger(url)

    def lose_the_connection() -> None:
        with ledger._database.writing() as connection:
            connection.execute(text("INSERT INTO bad_rows VALUES (1, 'lost', 'x')"))
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(LedgerError, match="was lost"):
        lose_the_connection()
    with ledger._database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM bad_rows")).scalar() == 0
    do_run(ledger, intervals=1)
    ledger.create_run(make_spec("demo-2"), "me")
