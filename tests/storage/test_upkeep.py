"""Runs removed, ledgers made small again and copied elsewhere: nothing else is lost or changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import Table, event, make_url, select, text

from edco_core.errors import (
    InputError,
    LeaseLostError,
    LedgerBusyError,
    LedgerError,
    LedgerVersionError,
    NotFoundError,
    RunBusyError,
)
from storage import Ledger, db_check, db_copy, db_current, db_vacuum, open_ledger, queries
from storage.copying import Contents
from storage.duckdb_file import rewrite
from storage.engine import Database
from storage.tables import PARTITIONED_BY_RUN, metadata
from storage.views import VIEWS
from tests.storage.conftest import (
    BACKENDS,
    curriculum,
    do_interval,
    do_run,
    make_checkpoint,
    make_evaluation,
    make_outcome,
    make_pool,
    make_selection,
    make_spec,
    pool_scores,
    shard,
)

ROOT = Path(__file__).parents[2]
POOL = make_pool()
EVAL = make_pool(12, "eval-a")


def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Carry out one statement, and give its rows if it has any."""
    with Database(url).writing() as connection:
        result = connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def stored(url: str, but: tuple[str, ...] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, sorted, without the columns named."""
    found = {}
    with Database(url).reading() as connection:
        for table in metadata.tables.values():
            columns = [column for column in table.columns if column.name not in but]
            rows = [tuple(row) for row in connection.execute(select(*columns))]
            found[table.name] = sorted(rows, key=repr)
    return found


def seen(url: str, run_id: str) -> dict[str, list[str]]:
    """What the views tell of a run."""
    ledger = open_ledger(url, read_only=True)
    with ledger.snapshot():
        frames = {view: ledger.frame(view, run_id=run_id) for view in VIEWS if view not in OF_DATA}
    return {
        view: sorted(map(repr, frame.itertuples(index=False, name=None)))
        for view, frame in frames.items()
    }


OF_DATA = ("samples", "skipped_rows", "comparisons")
"""Views that know no runs."""


def in_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def killed(code: str, *arguments: str) -> None:
    """Run code in a Python that must end by killing itself."""
    process = in_process(code, *arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors


# ---------------------------------------------------------------- removing runs


def test_a_removed_run_is_gone_with_all_its_rows_and_no_other_run_is_touched(url: str) -> None:
    ledger = open_ledger(url)
    do_run(ledger, "going")
    do_run(ledger, "staying", intervals=2, run=1)
    before, rows = seen(url, "staying"), stored(url)
    told = ledger.removal("going")
    assert ledger.remove_run("going") == told
    assert seen(url, "staying") == before
    for name, left in stored(url).items():
        assert len(left) == len(rows[name]) - told.rows.get(name, 0)
    assert told.rows["scores"] == 3 * len(POOL)
    assert told.num_intervals == 3
    assert told.num_rows == sum(told.rows.values())
    with pytest.raises(NotFoundError):
        ledger.run_state("going")
    assert db_check(url) == []


def test_a_data_set_goes_with_the_last_run_that_uses_it_for_training_or_evaluation(
    url: str,
) -> None:
    ledger = open_ledger(url)
    ledger.register_pool(EVAL)
    do_run(ledger, "a", intervals=1, eval_dataset_id="eval-a")
    own = make_spec("b", EVAL, pool_size=len(EVAL))
    ledger.release(ledger.create_run(own, "me"), "failed")
    first = ledger.remove_run("a")
    assert (first.dataset_ids, first.kept_dataset_ids) == (("pool-a",), ("eval-a",))
    assert ledger.pool_size("eval-a") == len(EVAL)
    assert ledger.remove_run("b").dataset_ids == ("eval-a",)
    assert {name: rows for name, rows in stored(url).items() if rows} == {}


def test_a_run_that_somebody_works_on_is_refused_with_who_that_is(ledger: Ledger, url: str) -> None:
    ledger.register_pool(POOL)
    ledger.create_run(make_spec(), "host=a pid=7")
    before = stored(url)
    for verb in (ledger.removal, ledger.remove_run):
        with pytest.raises(RunBusyError, match="host=a pid=7"):
            verb("demo-1", lambda owner: owner != "host=a pid=7")
    assert stored(url) == before


def test_an_owner_who_is_dead_or_whose_lease_has_run_out_is_not_in_the_way(
    ledger: Ledger,
) -> None:
    ledger.register_pool(POOL)
    ledger.create_run(make_spec("dead"), "host=a pid=7")
    ledger.create_run(make_spec("late"), "host=a pid=8", ttl_s=-1)
    ledger.remove_run("dead", lambda owner: owner == "host=a pid=7")
    ledger.remove_run("late")
    assert queries.runs(ledger) == []


def test_who_comes_back_to_a_removed_run_can_write_nothing_also_after_a_new_one_of_its_name(
    ledger: Ledger,
) -> None:
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec(), "host=a pid=7", ttl_s=-1)
    ledger.remove_run("demo-1")
    with pytest.raises(LeaseLostError):
        ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 0.0)
    do_run(ledger, intervals=2)
    with pytest.raises(LeaseLostError):
        ledger.add_scores(lease, 2, shard(pool_scores(2, len(POOL))))
    assert queries.run(ledger, "demo-1")["intervals_done"] == 2


def test_a_removal_that_fails_has_removed_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(url)
    do_run(ledger, intervals=1)
    before = stored(url)
    removed = metadata.tables["runs"].to_metadata(type(metadata)(), name="no_such_table")
    monkeypatch.setattr("storage.upkeep.OF_DATASET", ())
    monkeypatch.setattr("storage.engine.PARTITIONED_BY_RUN", (*PARTITIONED_BY_RUN, removed))
    with pytest.raises(LedgerError, match="no_such_table"):
        ledger.remove_run("demo-1")
    monkeypatch.undo()
    assert stored(url) == before


@pytest.mark.postgres
def test_on_postgres_a_removed_run_leaves_no_partition(
    new_ledger_url: Callable[[str], str],
) -> None:
    url = new_ledger_url("postgres")
    ledger = open_ledger(url)
    do_run(ledger, intervals=1)
    parts = "SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE relkind='r'"
    assert sql(url, parts) == [(len(PARTITIONED_BY_RUN),)]
    ledger.remove_run("demo-1")
    assert sql(url, parts) == [(0,)]


@pytest.mark.postgres
def test_on_postgres_a_removal_gives_way_to_readers_and_says_so(
    new_ledger_url: Callable[[str], str],
) -> None:
    url = new_ledger_url("postgres")
    do_run(open_ledger(url), "going", intervals=1)
    do_run(open_ledger(url), "staying", intervals=1)
    said: list[str] = []
    hasty = open_ledger(url, busy_timeout_s=3, on_wait=said.append)
    refused: list[Exception] = []

    def remove() -> None:
        try:
            hasty.remove_run("going")
        except LedgerBusyError as error:
            refused.append(error)

    removing = threading.Thread(target=remove)
    database = Database(url, read_only=True)
    with database.reading() as long_one:
        long_one.execute(text("SELECT count(*) FROM scores"))
        removing.start()
        num_answers = 0
        while removing.is_alive():  # others get in between, the owners of runs among them
            with database.reading() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '1500ms'"))
                connection.execute(text("SELECT count(*) FROM scores"))
                num_answers += 1
    removing.join()
    assert num_answers > 1
    assert [str(error) for error in refused] != []
    assert said == [f"waiting for those who use the ledger {hasty.address}"]
    assert hasty.run_state("going").status == "finished"
    hasty.remove_run("going")
    assert [run["run_id"] for run in queries.runs(hasty)] == ["staying"]


# ---------------------------------------------------------------- giving space back


def test_a_vacuum_changes_nothing_that_is_stored(url: str) -> None:
    do_run(open_ledger(url), "going")
    do_run(open_ledger(url), "staying", run=1)
    open_ledger(url).remove_run("going")
    before = stored(url)
    db_vacuum(url)
    assert stored(url) == before
    assert db_check(url) == []
    do_run(open_ledger(url), "next", intervals=1)


def big_ledger(url: str) -> None:
    """A ledger with a large pool in it, and much space that a larger one had."""
    ledger = open_ledger(url)
    ledger.register_pool(make_pool(20_000, "kept"))
    pool = make_pool(60_000, "removed")
    ledger.register_pool(pool)
    ledger.create_run(make_spec("r", pool), "me", ttl_s=-1)
    with Database(url, alone=True).reading():
        pass  # once this is let in, the file was closed, and holds what was in its log
    ledger.remove_run("r")


def test_a_vacuum_makes_a_duckdb_file_smaller_and_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "it's.duckdb"
    link = tmp_path / "link.duckdb"
    link.symlink_to(path)
    big_ledger(f"duckdb:///{path}")
    path.chmod(0o640)
    before, after = db_vacuum(f"duckdb:///{link}")
    assert after == path.stat().st_size < 0.7 * before
    assert path.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["it's.duckdb", "link.duckdb"]
    assert open_ledger(f"duckdb:///{link}").pool_size("kept") == 20_000


@pytest.mark.postgres
def test_a_vacuum_of_postgres_tells_the_planner_about_our_tables_and_leaves_others_alone(
    new_ledger_url: Callable[[str], str],
) -> None:
    url = new_ledger_url("postgres")
    do_run(open_ledger(url))
    sql(url, "CREATE TABLE others AS SELECT 1 AS x")
    before, after = db_vacuum(url)
    assert before > 100_000
    assert after > 100_000
    known = dict(sql(url, "SELECT relname, reltuples FROM pg_class"))
    assert known["scores_1"] == 3 * len(POOL)
    assert known["pool_samples"] == len(POOL)
    assert known["others"] == -1


DIE_AT_RENAME = """
    import os, signal, sys
    from storage.engine import Database
    rename = os.replace
    def die(*names):
        if sys.argv[2] == "after":
            rename(*names)
        os.kill(os.getpid(), signal.SIGKILL)
    os.replace = die
    Database(sys.argv[1], alone=True).compact((), lambda done, total: None)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_vacuum_killed_at_its_rename_leaves_a_whole_ledger_and_the_next_cleans_up(
    moment: str, tmp_path: Path
) -> None:
    path = tmp_path / "edco.duckdb"
    url = f"duckdb:///{path}"
    do_run(open_ledger(url), intervals=1)
    killed(
        """
        import os, signal, sys
        from sqlalchemy import text
        from storage.engine import Database
        with Database(sys.argv[1]).writing() as connection:
            connection.execute(text("UPDATE runs SET message = 'in the log'"))
            connection.commit()
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        url,
    )
    assert path.with_name("edco.duckdb.wal").exists()  # the old file's, and not the new one's
    killed(DIE_AT_RENAME, url, moment)
    assert sql(url, "SELECT message FROM runs") == [("in the log",)]
    before = stored(url)
    db_vacuum(url)
    assert stored(url) == before
    assert [each.name for each in tmp_path.iterdir()] == ["edco.duckdb"]


def test_a_file_that_this_process_is_using_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "edco.duckdb"
    url = f"duckdb:///{path}"
    open_ledger(url)
    inode = path.stat().st_ino
    alone = Database(url, alone=True, busy_timeout_s=0.1)
    with Database(url).writing(), pytest.raises(LedgerBusyError, match="this process"):
        alone.compact((), lambda done, total: None)
    assert path.stat().st_ino == inode


def test_nothing_that_others_write_is_lost_while_the_file_is_rewritten_again_and_again(
    tmp_path: Path,
) -> None:
    url = f"duckdb:///{tmp_path / 'edco.duckdb'}"
    open_ledger(url)
    writer = in_process(
        """
        import sys
        from storage import open_ledger
        from tests.storage.conftest import make_pool
        ledger = open_ledger(sys.argv[1])
        for number in range(15):
            ledger.register_pool(make_pool(3, f"pool-{number}"))
        """,
        url,
    )
    num_vacuums = 0
    while writer.poll() is None:
        db_vacuum(url)
        num_vacuums += 1
    _, errors = writer.communicate()
    assert writer.returncode == 0, errors
    assert num_vacuums > 1
    assert sql(url, "SELECT count(*) FROM datasets") == [(15,)]


def test_who_opened_the_file_just_before_it_was_replaced_opens_the_new_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "edco.duckdb"
    url = f"duckdb:///{path}"
    open_ledger(url)
    database = Database(url)
    replaced = []

    def replace(*_connection: object) -> None:
        if not replaced:
            replaced.append(path.read_bytes())
            new = tmp_path / "new"
            new.write_bytes(replaced[0])
            new.replace(path)

    event.listen(database.engine, "connect", replace)
    Ledger(database).register_pool(POOL)
    assert replaced
    assert open_ledger(url).pool_size("pool-a") == len(POOL)


def test_a_rewritten_file_that_differs_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "edco.duckdb"
    url = f"duckdb:///{path}"
    do_run(open_ledger(url), intervals=1)
    before = stored(url)
    database = Database(url, alone=True)

    class Careless:
        """Loses the last bit of one score."""

        def __init__(self, driver: Any) -> None:
            self.driver = driver

        def execute(self, statement: str, *given: Any) -> Any:
            result = self.driver.execute(statement, *given)
            if statement.startswith("COPY"):
                score = np.nextafter(pool_scores(0, len(POOL))[5], 0).item()
                self.driver.execute(
                    f"UPDATE edco_rewritten.scores SET score = {score!r} WHERE ordinal = 5"
                )
            return result

    with database._connect() as connection, pytest.raises(LedgerError, match=r"in scores; nothing"):
        rewrite(Careless(database._driver(connection)), path, lambda done, total: None)
    assert stored(url) == before
    assert [each.name for each in tmp_path.iterdir()] == ["edco.duckdb"]


def test_there_is_nothing_to_vacuum_without_a_ledger(empty_url: str) -> None:
    with pytest.raises(InputError, match="no ledger at"):
        db_vacuum(empty_url)
    if empty_url.startswith("duckdb"):
        assert not Path(make_url(empty_url).database or "").exists()


# ---------------------------------------------------------------- copying


def make_source(url: str) -> str:
    """Two runs, one of them half scored, and two data sets."""
    ledger = open_ledger(url)
    ledger.register_pool(EVAL)
    do_run(ledger, "gone", intervals=1)
    do_run(ledger, "whole", intervals=2, run=1, eval_dataset_id="eval-a", experiment="it's")
    # Killed while the pool was scored for interval 1, and its lease has run out.
    lease = ledger.create_run(make_spec("half", POOL), "me", ttl_s=-1)
    do_interval(ledger, lease, 0, POOL)
    ledger.finish_checkpoint(lease, make_checkpoint(1, 4), None, 0.25)
    ledger.add_scores(lease, 1, shard(pool_scores(1, len(POOL)), 5, 20))
    ledger.add_scores(lease, 1, shard(pool_scores(1, len(POOL)), 30))
    ledger.remove_run("gone")  # run keys do not begin at 1, and rows were deleted
    return url


def go_on(ledger: Ledger) -> None:
    """What a resumed run does from there on, with times that repeat."""
    lease = ledger.acquire("half", "somebody else")
    scores = pool_scores(1, len(POOL))
    missing = np.setdiff1d(np.arange(len(POOL)), ledger.scored_ordinals("half", 1))
    assert len(missing) == 15
    ledger.add_scores(lease, 1, type(shard(scores))(missing, scores[missing], missing % 7 + 1))
    ledger.finish_scoring(lease, 1, 2.5)
    chosen = curriculum(1, len(POOL))
    ledger.finish_selection(lease, 1, make_selection(scores, chosen), 0.5)
    ledger.finish_training(lease, 1, make_outcome(1, chosen), make_evaluation(1))
    do_interval(ledger, lease, 2, POOL)
    ledger.release(lease, "finished")


@pytest.fixture(scope="module", params=BACKENDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ledger that tests only read."""
    if request.param == "postgres":
        return make_source(request.getfixturevalue("postgres_database"))
    return make_source(f"duckdb:///{tmp_path_factory.mktemp('source') / 'edco.duckdb'}")


TO = pytest.mark.parametrize("to", BACKENDS)
FROM_DUCKDB = pytest.mark.parametrize("source", ["duckdb"], indirect=True)


@TO
def test_a_copy_holds_the_same_rows_and_its_views_tell_the_same(
    source: str, to: str, new_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_BATCH_ROWS", 50), ("_TEXT_ROWS", 7), ("_BATCH_BYTES", 300)):
        monkeypatch.setattr(f"storage.table_stream.{name}", value)
    for name, value in (("_GROUP_PIECES", 3), ("_GROUP_RUNS", 1), ("_GROUP_ROWS", 100)):
        monkeypatch.setattr(f"storage.copying.{name}", value)
    target = new_url(to)
    before = stored(source)
    copied = db_copy(source, target)
    assert stored(source) == before
    lease = ("lease_owner", "lease_expires_at")
    there = stored(target, lease)
    assert there == stored(source, lease)
    assert copied.rows == {name: len(rows) for name, rows in there.items()}
    assert copied.num_runs == 2
    if to == "postgres":  # whose planner knows what came
        known = dict(sql(target, "SELECT relname, reltuples FROM pg_class"))
        assert (known["scores_2"], known["pool_samples"]) == (2 * len(POOL), 52)
    assert db_check(target) == []
    for run_id in ("whole", "half"):
        here, copied_views = seen(source, run_id), seen(target, run_id)
        for view in here.keys() - {"run_summary"}:
            assert copied_views[view] == here[view], view
    assert [run["run_id"] for run in queries.runs(open_ledger(target))] == ["half", "whole"]


@TO
def test_a_half_scored_run_goes_on_in_the_copy_as_it_would_have_here(
    url: str, to: str, new_url: Callable[[str], str]
) -> None:
    make_source(url)
    target = new_url(to)
    db_copy(url, target)
    for each in (url, target):
        go_on(open_ledger(each))
    moments = ("lease_owner", "lease_expires_at", "created_at", "finished_at")
    assert stored(target, moments) == stored(url, moments)
    do_run(open_ledger(target), "new", intervals=1)
    open_ledger(target).remove_run("half")
    assert db_check(target) == []


@TO
def test_nobody_owns_a_run_of_the_copy(
    ledger: Ledger, url: str, to: str, new_url: Callable[[str], str]
) -> None:
    ledger.register_pool(POOL)
    ledger.create_run(make_spec(), "host=a pid=7")
    target = new_url(to)
    db_copy(url, target, is_dead=lambda owner: owner == "host=a pid=7")
    (run,) = queries.runs(open_ledger(target))
    assert (run["alive"], run["lease_owner"], run["lease_expires_at"]) == (False, None, None)
    assert open_ledger(target).acquire("demo-1", "other").token == 2


def test_a_ledger_with_a_run_that_somebody_works_on_is_not_copied(
    ledger: Ledger, url: str, tmp_path: Path
) -> None:
    ledger.register_pool(POOL)
    ledger.create_run(make_spec(), "host=a pid=7")
    with pytest.raises(RunBusyError, match=r"run demo-1 .* host=a pid=7"):
        db_copy(url, f"duckdb:///{tmp_path / 'target.duckdb'}")
    assert not (tmp_path / "target.duckdb").exists()


def test_a_place_that_holds_something_is_refused_and_left_alone(
    url: str, empty_url: str, tmp_path: Path
) -> None:
    source = f"duckdb:///{tmp_path / 'source.duckdb'}"
    open_ledger(source)
    do_run(open_ledger(url), intervals=1)
    before = stored(url)
    for target in (url, source):
        with pytest.raises(InputError, match=r"there is a ledger at .* already"):
            db_copy(source, target)
    assert stored(url) == before
    sql(empty_url, "CREATE TABLE scores AS SELECT 1 AS x")
    with pytest.raises(InputError, match="other software"):
        db_copy(source, empty_url)
    assert sql(empty_url, "SELECT x FROM scores") == [(1,)]


def test_a_source_of_another_version_or_none_is_refused_and_nothing_is_made(
    url: str, tmp_path: Path
) -> None:
    target = tmp_path / "target.duckdb"
    sql(url, "UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(LedgerVersionError, match="edco db upgrade"):
        db_copy(url, f"duckdb:///{target}")
    with pytest.raises(InputError, match="no ledger at"):
        db_copy(f"duckdb:///{tmp_path / 'none.duckdb'}", f"duckdb:///{target}")
    assert list(tmp_path.glob("*target*")) == []


def lose_a_bit(self: Database, connection: Any, table: Table, *rest: Any, **more: Any) -> None:
    Database.kept_whole(self, connection, table, *rest, **more)  # type: ignore[attr-defined]
    if table.name == "scores":
        score = np.nextafter(pool_scores(0, len(POOL), 1)[5], 9).item()
        connection.execute(
            text(f"UPDATE scores SET score = {score!r} WHERE ordinal = 5 AND interval = 0")
        )


@TO
@FROM_DUCKDB
def test_a_copy_that_differs_in_one_bit_is_no_ledger_and_copying_again_begins_anew(
    source: str, to: str, new_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = new_url(to)
    monkeypatch.setattr(Database, "kept_whole", Database.bulk_insert, raising=False)
    monkeypatch.setattr(Database, "bulk_insert", lose_a_bit)
    with pytest.raises(LedgerError, match=r"differs in scores of run whole: 80 rows with .* 80 "):
        db_copy(source, target)
    monkeypatch.undo()
    for refused in (open_ledger, db_vacuum, lambda url: open_ledger(url, read_only=True)):
        with pytest.raises(LedgerVersionError, match="not copied to its end"):
            refused(target)
    with pytest.raises(LedgerVersionError, match="not copied to its end"):
        db_copy(target, new_url("duckdb"))
    db_copy(source, target)
    assert db_check(target) == []
    assert stored(target)["scores"] == stored(source)["scores"]


@TO
@FROM_DUCKDB
def test_a_copy_killed_in_the_middle_is_no_ledger_and_copying_again_begins_anew(
    source: str, to: str, new_url: Callable[[str], str]
) -> None:
    target = new_url(to)
    killed(
        """
        import os, signal, sys
        from contextlib import contextmanager
        from storage import db_copy
        @contextmanager
        def progress(what):
            def update(done, total):
                if done > total / 2:
                    os.kill(os.getpid(), signal.SIGKILL)
            yield update
        db_copy(*sys.argv[1:], progress=progress)
        """,
        source,
        target,
    )
    with pytest.raises(LedgerVersionError, match="not copied to its end"):
        open_ledger(target)
    assert db_current(target) == "copying"
    db_copy(source, target)
    assert db_check(target) == []


@TO
@FROM_DUCKDB
def test_a_copy_an_earlier_version_left_unfinished_is_cleared_away(
    source: str, to: str, new_url: Callable[[str], str]
) -> None:
    target = new_url(to)
    with Database(target).writing() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('copying')")
        connection.exec_driver_sql("CREATE TABLE checkpoints (run_key INTEGER)")
        connection.exec_driver_sql("CREATE TABLE partial_scores (run_key INTEGER)")
    db_copy(source, target)
    assert db_check(target) == []


@TO
@FROM_DUCKDB
def test_of_two_copies_to_one_place_at_once_one_is_refused(
    source: str, to: str, new_url: Callable[[str], str]
) -> None:
    target = new_url(to)
    code = """
        import sys
        from edco_core.errors import InputError
        from storage import db_copy
        try:
            db_copy(*sys.argv[1:])
        except InputError as error:
            assert "there is a ledger at" in str(error), error
            sys.exit(2)
    """
    copies = [in_process(code, source, target) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in copies]
    assert sorted(process.returncode for process in copies) == [0, 2], errors
    assert db_check(target) == []


@pytest.mark.postgres
def test_what_comes_into_the_source_meanwhile_is_not_in_the_copy(
    new_ledger_url: Callable[[str], str], tmp_path: Path
) -> None:
    source = new_ledger_url("postgres")
    do_run(open_ledger(source), "early", intervals=1)
    target = f"duckdb:///{tmp_path / 'target.duckdb'}"
    came: list[str] = []

    @contextmanager
    def progress(_what: str) -> Iterator[Callable[[int, int], None]]:
        if not came:
            do_run(open_ledger(source), "late", intervals=1)
            came.append("late")
        yield lambda done, total: None

    assert db_copy(source, target, progress=progress).num_runs == 1
    assert [run["run_id"] for run in queries.runs(open_ledger(target))] == ["early"]
    assert db_check(target) == []


# ---------------------------------------------------------------- checksums


def contents(*batches: dict[str, pa.Array]) -> str:
    found = Contents()
    for batch in batches:
        found.add(pa.RecordBatch.from_pydict(batch))
    return str(found)


ROWS = {
    "ordinal": pa.array([0, 1, 2], pa.int32()),
    "score": pa.array([0.1, 0.2, 0.30000000000000004]),
    "category": pa.array(["a", None, ""]),
    "bytes": pa.array([b"\0", b"", b"\0\0"]),
}


def test_a_checksum_does_not_depend_on_the_order_or_the_batches_of_rows() -> None:
    turned = {name: column[::-1] for name, column in ROWS.items()}
    parts = [{name: column[i : i + 1] for name, column in ROWS.items()} for i in (2, 0, 1)]
    assert contents(ROWS) == contents(turned) == contents(*parts)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("score", [0.1, 0.2, 0.3]),  # the last bit of one score
        ("score", [0.2, 0.1, 0.30000000000000004]),  # two samples' scores exchanged
        ("score", [0.1, 0.2, None]),
        ("ordinal", [0, 1, 3]),
        ("category", ["a", "", None]),
        ("category", ["a", None, " "]),
        ("bytes", [b"\0", b"", b"\0"]),
    ],
)
def test_a_checksum_tells_any_other_value(column: str, values: list[Any]) -> None:
    other = ROWS | {column: pa.array(values, ROWS[column].type)}
    assert contents(other) != contents(ROWS)


def test_a_checksum_tells_a_row_that_came_twice_and_another_not_at_all() -> None:
    first, second = ({name: column[i : i + 1] for name, column in ROWS.items()} for i in (0, 1))
    assert contents(first, first) != contents(first, second)
    zeros = {name: column[:1] for name, column in ROWS.items()}
    assert contents(zeros, zeros, zeros) != contents(zeros)
