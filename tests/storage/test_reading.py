"""Reading by SQL: frames, streams of rows, one moment, and who may do no more than read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from edco_core.errors import InputError, LedgerError
from storage import Ledger, open_ledger, open_snapshot, queries
from storage.engine import Database
from storage.schema import create_views, drop_views
from storage.views import VIEWS
from tests.storage.conftest import do_interval, do_run, make_pool, make_spec

LEDGER_DOC = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")


@pytest.fixture
def told(url: str) -> Ledger:
    """A ledger with a finished run, read-only."""
    do_run(open_ledger(url))
    return open_ledger(url, read_only=True)


@pytest.fixture
def connections() -> Iterator[list[object]]:
    """Every connection to any database that is opened in this process meanwhile."""
    opened: list[object] = []

    def note(connection: object, _record: object) -> None:
        opened.append(connection)

    event.listen(Engine, "connect", note)
    yield opened
    event.remove(Engine, "connect", note)


# ---------------------------------------------------------------- frames


def test_columns_of_a_frame_have_the_same_types_on_both_databases_with_and_without_rows(
    new_ledger_url: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("postgres_url")
    found = []
    for backend in ("duckdb", "postgres"):
        ledger = open_ledger(new_ledger_url(backend))
        empty = {view: ledger.frame(view).dtypes.to_dict() for view in VIEWS}
        do_run(ledger)
        found += [empty, {view: ledger.frame(view).dtypes.to_dict() for view in VIEWS}]
    for view in VIEWS:
        first = found[0][view]
        assert list(first), view
        assert all(each[view] == first for each in found), view


def test_a_frame_has_the_types_a_notebook_wants(told: Ledger) -> None:
    history = told.frame("sample_history", run_id="demo-1")
    assert history["score"].dtype == "float64"
    assert history["selected"].dtype == "boolean"
    assert history["position"].dtype == "Int32"
    assert history["position"].isna().sum() == 90
    assert history["sample_id"].dtype == "str"
    (created_at,) = told.frame("run_summary")["created_at"]
    assert queries.jsonable(created_at.to_pydatetime()) == queries.runs(told)[0]["created_at"]
    assert str(created_at.tz) == "UTC"


def test_a_frame_holds_what_the_view_holds(told: Ledger) -> None:
    for view in VIEWS:
        names, rows = told.query(f"SELECT * FROM {view}")
        frame = told.frame(view)
        assert list(frame.columns) == names
        mine = frame.astype(object).where(frame.notna(), None)
        assert sorted(map(_plain, mine.itertuples(index=False))) == sorted(map(_plain, rows)), view


def _plain(row: tuple[object, ...]) -> str:
    return json.dumps([queries.jsonable(getattr(v, "to_pydatetime", lambda v=v: v)()) for v in row])


def test_a_frame_needs_no_read_only_ledger(url: str) -> None:
    ledger = open_ledger(url)
    do_run(ledger)
    assert list(ledger.frame("turnover", run_id="demo-1")["n_selected"]) == [10, 10, 10]


def test_a_value_of_the_wrong_kind_is_the_users_mistake(told: Ledger) -> None:
    with pytest.raises(InputError, match="cannot run this query"):
        told.frame("turnover", interval="first")


# ---------------------------------------------------------------- streams


NUMBERS = (
    "SELECT a.ordinal * 64000 + b.ordinal * 1600 + c.ordinal * 40 + d.ordinal AS n "
    "FROM samples a, samples b, samples c, samples d"
)


def test_rows_come_in_chunks_and_all_of_them(told: Ledger) -> None:
    with told.query_rows(f"{NUMBERS} WHERE a.ordinal < 2") as (names, rows):
        assert names == ["n"]
        assert sum(n for (n,) in rows) == 128_000 * 127_999 // 2
    with told.query_batches(f"{NUMBERS} WHERE a.ordinal < 2") as (schema, batches):
        sizes = [batch.num_rows for batch in batches]
        assert schema.names == ["n"]
    assert sum(sizes) == 128_000
    assert max(sizes) <= 1 << 16


def test_a_stream_may_be_left_before_its_end(told: Ledger) -> None:
    with told.query_rows(NUMBERS) as (_, rows):
        next(rows)
    with told.query_batches(NUMBERS) as (_, batches):
        next(batches)
    assert len(told.query(NUMBERS, limit=3)[1]) == 3


@pytest.mark.parametrize("form", ["rows", "batches"])
def test_the_time_limit_holds_while_rows_are_read(told: Ledger, form: str) -> None:
    endless = f"SELECT x.n FROM ({NUMBERS}) x, ({NUMBERS}) y"
    read = told.query_rows if form == "rows" else told.query_batches
    with (
        pytest.raises(LedgerError, match=r"longer than 0\.5 s"),
        read(endless, timeout_s=0.5) as (_, found),
    ):
        for _ in found:
            pass


@pytest.mark.parametrize("form", ["rows", "batches"])
def test_an_error_in_a_late_row_is_the_users_mistake(told: Ledger, form: str) -> None:
    late = "SELECT CAST(CASE WHEN n = 127999 THEN 'x' ELSE '1' END AS INTEGER) AS one "
    late += f"FROM ({NUMBERS} WHERE a.ordinal < 2) q ORDER BY n"
    read = told.query_rows if form == "rows" else told.query_batches
    with pytest.raises(InputError, match="cannot run this query"), read(late) as (_, found):
        for _ in found:
            pass


def test_an_answer_without_rows_still_has_its_columns(told: Ledger) -> None:
    sql = "SELECT interval, score FROM curriculum WHERE run_id = :run; -- nobody"
    assert told.query(sql, {"run": "nobody"}) == (["interval", "score"], [])
    with told.query_batches(sql, {"run": "nobody"}) as (schema, batches):
        assert list(schema.types) == [pa.int16(), pa.float64()]
        assert list(batches) == []


def test_a_plan_can_be_asked_for(told: Ledger) -> None:
    assert told.query("EXPLAIN SELECT * FROM turnover")[1]


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "SELECT 1; DELETE FROM runs"])
def test_a_query_is_one_statement(told: Ledger, sql: str) -> None:
    with pytest.raises(InputError):
        told.query(sql)
    with pytest.raises(InputError), told.query_batches(sql):
        pass


def test_sums_and_means_are_plain_numbers_in_arrow(told: Ledger) -> None:
    with told.query_batches("SELECT sum(n_selected) AS s, avg(n_left) AS a FROM turnover") as (
        schema,
        batches,
    ):
        assert not any(pa.types.is_decimal(kind) for kind in schema.types)
        assert pa.Table.from_batches(batches).to_pylist()[0]["s"] == 30


# ---------------------------------------------------------------- one moment


def test_a_snapshot_is_one_connection(told: Ledger, connections: list[object]) -> None:
    with told.snapshot():
        queries.run(told, told.find_run("demo"))
        queries.intervals(told, "demo-1")
        told.frame("curriculum")
        told.query("SELECT 1")
    assert len(connections) == 1
    queries.runs(told)
    assert len(connections) == 2


def test_opening_a_snapshot_and_asking_is_one_connection(
    told: Ledger, url: str, connections: list[object]
) -> None:
    with open_snapshot(url) as ledger:
        assert [row["run_id"] for row in queries.runs(ledger)] == ["demo-1"]
    assert len(connections) == 1


def test_a_snapshot_can_end_before_its_block_does(told: Ledger, url: str) -> None:
    with told.snapshot():
        queries.runs(told)
        told.end_snapshot()
        told.end_snapshot()
        # On DuckDB nobody could write, were the file still open to read.
        open_ledger(url).create_run(make_spec("demo-2"), "me")
        assert len(queries.runs(told)) == 2


def test_opening_a_snapshot_of_no_ledger_says_so(empty_url: str) -> None:
    with pytest.raises(InputError, match="there is no ledger"), open_snapshot(empty_url):
        pass


@pytest.mark.postgres
def test_a_snapshot_does_not_see_what_is_written_meanwhile(
    new_ledger_url: Callable[[str], str],
) -> None:
    url = new_ledger_url("postgres")  # on DuckDB nobody can write meanwhile
    writer, reader = open_ledger(url), open_ledger(url, read_only=True)
    pool = make_pool()
    writer.register_pool(pool)
    with reader.snapshot():
        assert queries.runs(reader) == []
        do_interval(writer, writer.create_run(make_spec("demo-1"), "me"), 0, pool)
        assert queries.runs(reader) == []
        assert len(reader.frame("sample_history")) == 0
    assert len(queries.runs(reader)) == 1


# ---------------------------------------------------------------- a role for BI tools


@pytest.fixture
def role(new_ledger_url: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """The addresses of a ledger for its owner and for a role made as docs/ledger.md says."""
    url = new_ledger_url("postgres")
    do_run(open_ledger(url))
    name = f"edco_reader_{uuid4().hex[:8]}"
    (block,) = re.findall(r"```postgres\n(.*?)```", LEDGER_DOC, re.DOTALL)
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in block.replace("edco_reader", name).split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    yield url, make_url(url).set(username=name, password="choose one").render_as_string(False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {name}")
        connection.exec_driver_sql(f"DROP ROLE {name}")


@pytest.mark.postgres
def test_the_role_of_the_readme_reads_every_view_also_after_an_upgrade(
    role: tuple[str, str],
) -> None:
    url, as_reader = role
    with Database(url).writing() as connection:  # what an upgrade does to the views
        drop_views(connection)
        create_views(connection)
    ledger = open_ledger(as_reader, read_only=True)
    for view in VIEWS:
        if view not in (
            "rollouts",
            "rollout_texts",
            "pass_rates",
            "beliefs",
            "alarms",
            "comparisons",
        ):  # of reinforcement learning only
            assert len(ledger.frame(view)) > 0, view
    run_id = ledger.find_run("demo")
    assert queries.why(ledger, run_id, queries.difficult(ledger, run_id)[0]["sample_id"])


@pytest.mark.postgres
def test_the_role_of_the_readme_cannot_write_even_if_it_wants_to(role: tuple[str, str]) -> None:
    engine = create_engine(role[1], poolclass=NullPool)

    def execute(*statements: str) -> None:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    for statement in (
        "DELETE FROM runs",
        "UPDATE runs SET name = 'x'",
        "DROP VIEW turnover",
        "CREATE TABLE mine (x INTEGER)",
    ):
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            execute("SET TRANSACTION READ WRITE", statement)
    with pytest.raises(DBAPIError, match="read-only"):
        execute("CREATE TEMPORARY TABLE mine (x INTEGER)")


@pytest.mark.postgres
def test_a_superusers_query_can_start_no_program_and_write_no_file(
    new_ledger_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_ledger_url("postgres")
    do_run(open_ledger(url), "demo-1", 1)
    reader = open_ledger(url, read_only=True)
    target = tmp_path / "written"
    for way in (f"TO '{target}'", f"TO PROGRAM 'touch {target}'"):
        with pytest.raises(InputError, match="permission denied"):
            reader.query(f"COPY (SELECT 1) {way}")
    assert not target.exists()
    assert reader.query("SELECT count(*) FROM turnover")[1] == [(1,)]
