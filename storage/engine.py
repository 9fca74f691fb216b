"""Everything in which DuckDB and Postgres differ: addresses, locks, bulk paths, time, read-only.

A ``Database`` opens one short-lived connection per transaction.  A DuckDB file belongs to one
process while any connection to it is open, readers included, so nothing is ever kept open between
transactions and whoever finds the file held waits, says so, and gives up after a time limit.  On
Postgres the same habit makes a restarted server a matter of the next transaction.

Longer than 400 lines so that there is one place to look for what differs.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    SmallInteger,
    Table,
    bindparam,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import BigInteger, Boolean, DateTime, Double, NullType, Text, TypeEngine

from edco_core.errors import InputError, LedgerBusyError, LedgerError
from storage.address import masked, parse_url, secrets
from storage.binary_copy import copy_in, copy_out
from storage.tables import PARTITIONED_BY_RUN

logger = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 60.0

_HELD_BY_OTHERS = re.compile(
    r"Could not set lock on file|being used by another process|"
    r"same database file with a different configuration"
)
_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_SERVER_AWAY = re.compile(
    r"Connection refused|No such file or directory|starting up|shutting down|"
    r"server closed the connection|terminating connection|too many clients"
)

_locks: dict[str, threading.RLock] = {}
_locks_guard = threading.Lock()


class DuplicateRowsError(LedgerError):
    """Rows came whose key is in the table already; nothing of them was written."""


class Database:
    """One ledger's database: transactions, bulk transfer and the errors that can come of them.

    ``read_only`` is enforced by the database itself.  One process uses either writing or
    read-only connections to a DuckDB file, never both at once.  ``on_wait`` is called with a
    message when another process holds the file; without it the message goes to the log.
    """

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = False,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        parsed = parse_url(url)
        self.read_only = read_only
        self.address = masked(url)
        self.on_duckdb = parsed.drivername == "duckdb"
        self.path = Path(parsed.database or "").absolute() if self.on_duckdb else None
        self._busy_timeout_s = busy_timeout_s
        self._on_wait = on_wait or logger.warning
        self._secrets = secrets(parsed)
        self._reached = False
        arguments: dict[str, Any] = {"read_only": read_only} if self.on_duckdb else {}
        self.engine: Engine = create_engine(
            parsed, poolclass=NullPool, connect_args=arguments, hide_parameters=True
        )
        if self.on_duckdb:
            event.listen(self.engine, "connect", _speak_like_postgres)
        self._driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        with _locks_guard:
            self._write_lock = _locks.setdefault(
                str(self.path or parsed.render_as_string(hide_password=True)), threading.RLock()
            )

    def exists(self) -> bool:
        """Whether there can be a ledger: the DuckDB file is there. Always true for a server."""
        return self.path is None or self.path.exists()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One read-only transaction."""
        with self._translated(), self._connect() as connection, connection.begin():
            if not self.on_duckdb:
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
                # Compiling a plan costs more than these short queries take.
                connection.exec_driver_sql("SET LOCAL jit = off")
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: committed when the block ends, undone when it raises.

        Writers of one process wait for each other.
        """
        if self.read_only:
            raise LedgerError(f"the ledger {self.address} was opened read-only")
        with (
            self._write_lock,
            self._translated(),
            self._connect() as connection,
            connection.begin(),
        ):
            if not self.on_duckdb:
                connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
                connection.exec_driver_sql("SET LOCAL work_mem = '128MB'")
            yield connection

    def bulk_insert(
        self, connection: Connection, table: Table, rows: pa.Table, *, unique: Sequence[str] = ()
    ) -> None:
        """Insert an Arrow table within the connection's transaction: Arrow scan or binary COPY.

        Columns are matched by name and cast to the table's types. ``unique`` names the columns of
        a unique key: raises DuplicateRowsError when one of the rows is there already.
        """
        schema = pa.schema(
            [pa.field(name, _arrow_type(table.c[name].type)) for name in rows.column_names]
        )
        rows = rows.cast(schema)
        if rows.num_rows == 0:
            return
        names = ", ".join(rows.column_names)
        driver = self._driver(connection)
        if self.on_duckdb:
            driver.register("edco_rows", rows)
            try:
                if unique:
                    on = " AND ".join(f"t.{name} = n.{name}" for name in unique)
                    found = driver.execute(
                        f"SELECT count(*) FROM edco_rows n SEMI JOIN {table.name} t ON {on}"
                    ).fetchall()[0][0]
                    if found:
                        raise DuplicateRowsError(f"{found} rows are in {table.name} already")
                driver.execute(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM edco_rows")
            finally:
                driver.unregister("edco_rows")
            return
        import psycopg

        try:
            with (
                driver.cursor() as cursor,
                cursor.copy(f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy_in(copy, rows)
        except psycopg.errors.UniqueViolation as error:
            if not unique:
                raise
            raise DuplicateRowsError(f"rows are in {table.name} already") from error

    def fetch_arrays(
        self, connection: Connection, sql: str, types: Mapping[str, str], **integers: int
    ) -> dict[str, NDArray[Any]]:
        """Columns of a query without nulls, as arrays; no Python object per row.

        ``types`` gives the NumPy type of each column in the order of the query; ``:name`` in the
        query stands for one of ``integers``.
        """
        sql = re.sub(r":(\w+)", lambda match: str(int(integers[match[1]])), sql)
        driver = self._driver(connection)
        if self.on_duckdb:
            columns = driver.execute(sql).fetchnumpy()
            return {name: columns[name].astype(kind) for name, kind in types.items()}
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT BINARY)") as copy,
        ):
            return copy_out(copy, types)

    def run_sql(
        self,
        connection: Connection,
        sql: str,
        params: Mapping[str, Any],
        limit: int | None,
        timeout_s: float | None,
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Run one statement somebody typed; at most ``limit`` rows.

        Raises InputError for what the database refuses, LedgerError after ``timeout_s`` seconds.
        """
        driver = self._driver(connection)
        # Without a type of its own a text becomes what it is compared with, on both databases.
        untyped = [bindparam(name, value, type_=NullType()) for name, value in params.items()]
        compiled = text(sql).bindparams(*untyped).compile(dialect=connection.dialect)
        bound = compiled.construct_params()
        given: Any = [bound[n] for n in compiled.positiontup or ()] if self.on_duckdb else bound
        alarm = None
        try:
            if self.on_duckdb:
                # A read-only connection still may COPY … TO a file, the ledger's own among them.
                driver.execute("SET enable_external_access = false")
                if timeout_s is not None:
                    alarm = threading.Timer(timeout_s, driver.interrupt)
                    alarm.daemon = True
                    alarm.start()
                cursor = driver.execute(str(compiled), given)
            else:
                if timeout_s is not None:
                    driver.execute(f"SET LOCAL statement_timeout = {max(1, int(timeout_s * 1000))}")
                # A prepared statement is one statement: nobody leaves the read-only transaction
                # with a COMMIT in front of something else.
                cursor = driver.execute(str(compiled), given, prepare=True)
            if cursor.description is None:
                raise InputError("the statement returns no rows; ask with SELECT")
            names = [column[0] for column in cursor.description]
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
        except self._driver_error as error:
            if type(error).__name__ in ("InterruptException", "QueryCanceled"):
                raise LedgerError(f"the query took longer than {timeout_s:g} s") from error
            raise InputError(f"the ledger cannot run this query: {self.scrub(error)}") from error
        finally:
            if alarm is not None:
                alarm.cancel()
                alarm.join()
        return names, [tuple(row) for row in rows]

    def utc_now(self, connection: Connection) -> datetime:
        """The time by the database's clock, UTC without a zone.

        Leases of several machines are compared by the one clock they share.
        """
        if self.on_duckdb:
            return datetime.now(UTC).replace(tzinfo=None)
        now: datetime = connection.execute(
            text("SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS timestamp)")
        ).scalar_one()
        return now

    def lock(self, connection: Connection, name: str) -> None:
        """Let one transaction at a time do what ``name`` says, to its end."""
        # A DuckDB file has one writing process, and its threads wait for each other.
        if not self.on_duckdb:
            connection.execute(
                text("SELECT pg_advisory_xact_lock(hashtext('edco'), hashtext(:name))"),
                {"name": name},
            )

    def make_partitions(self, connection: Connection, run_key: int) -> None:
        """Give a new run its own partitions."""
        if self.on_duckdb:
            return
        for table in PARTITIONED_BY_RUN:
            # Attaching, unlike CREATE TABLE … PARTITION OF, does not wait for those who write
            # to other runs.
            part = f"{table.name}_{run_key}"
            connection.exec_driver_sql(f"CREATE TABLE {part} (LIKE {table.name} INCLUDING ALL)")
            connection.exec_driver_sql(
                f"ALTER TABLE {table.name} ATTACH PARTITION {part} FOR VALUES IN ({run_key})"
            )

    def discard_partial_scores(self, connection: Connection, run_key: int) -> None:
        """Empty a run's partial scores."""
        if self.on_duckdb:
            connection.execute(
                text("DELETE FROM partial_scores WHERE run_key = :key"), {"key": run_key}
            )
        else:  # leaves no dead rows behind, and is undone with the transaction like a DELETE
            connection.exec_driver_sql(f"TRUNCATE partial_scores_{run_key}")

    def refresh_statistics(self, connection: Connection, table: Table, run_key: int) -> None:
        """Let the planner know about rows that came in bulk, before the server finds the time.

        Without it Postgres takes a run's new partition for a small one: measured ten times slower.
        """
        if not self.on_duckdb:
            connection.exec_driver_sql(f"ANALYZE {table.name}_{run_key}")

    def scrub(self, error: BaseException) -> str:
        """An error's own words, without passwords and on one line."""
        message = " ".join(str(error).split())
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return message

    def _driver(self, connection: Connection) -> Any:
        """The driver's own connection, inside SQLAlchemy's transaction."""
        driver = connection.connection.driver_connection
        assert driver is not None
        if self.on_duckdb:
            driver.complete()  # it does nothing else while an earlier result has rows left
        return driver

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the driver raises into one clear message."""
        try:
            yield
        except DBAPIError as error:
            raise LedgerError(
                f"the ledger {self.address} failed: {self.scrub(error.orig or error)}"
            ) from error
        except (SQLAlchemyError, self._driver_error) as error:
            raise LedgerError(f"the ledger {self.address} failed: {self.scrub(error)}") from error

    def _connect(self) -> Connection:
        """Connect; wait while another process holds the file or the server restarts."""
        self._check_place()
        started = time.monotonic()
        pause_s, told = 0.02, False
        while True:
            try:
                connection = self.engine.connect()
            except DBAPIError as error:
                reason = self._why_wait(str(error.orig))
                if reason is None:
                    raise self._unreachable(error) from error
                waited_s = time.monotonic() - started
                if waited_s >= self._busy_timeout_s:
                    raise LedgerBusyError(
                        f"the ledger {self.address} is held by {reason}; waited {waited_s:.0f} s. "
                        "Try again when it is free, or end that process"
                    ) from error
                if waited_s > 1 and not told:
                    self._on_wait(f"waiting for the ledger {self.address}: held by {reason}")
                    told = True
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.25)
            else:
                self._reached = True
                return connection

    def _why_wait(self, problem: str) -> str | None:
        """Who is in the way, when waiting may help."""
        if self.on_duckdb:
            if not _HELD_BY_OTHERS.search(problem):
                return None
            holder = _HOLDER.search(problem)
            if holder:
                return f"process {holder['pid']} ({holder['program']})"
            if "different configuration" in problem:
                return f"this process ({os.getpid()}), in another mode"
            return "another process"
        if "too many clients" in problem or (self._reached and _SERVER_AWAY.search(problem)):
            return f"a server that is away ({' '.join(problem.split())})"
        return None

    def _check_place(self) -> None:
        if self.path is None:
            return
        if self.path.is_dir():
            raise InputError(
                f"the ledger {self.address} is a folder; name a file in it, such as "
                f"duckdb:///{self.path / 'edco.duckdb'}"
            )
        if self.read_only and not self.path.exists():
            raise InputError(
                f"there is no ledger at {self.address}; `edco run CONFIG` makes one, "
                "or name another with --store URL"
            )
        if not self.path.parent.is_dir():
            raise InputError(
                f"the ledger {self.address} cannot be made: there is no folder "
                f"{self.path.parent}; make it (mkdir -p {self.path.parent}) or name another "
                "with --store URL"
            )
        if not self.path.exists() and not os.access(self.path.parent, os.W_OK):
            raise InputError(
                f"the ledger {self.address} cannot be made: no permission to write to "
                f"{self.path.parent}; name another place with --store URL"
            )

    def _unreachable(self, error: DBAPIError) -> LedgerError | InputError:
        problem = self.scrub(error.orig or error)
        if self.on_duckdb:
            if "not a valid DuckDB database file" in problem:
                return InputError(
                    f"{self.path} is not a DuckDB database; name another file with --store URL"
                )
            return LedgerError(f"the ledger {self.address} cannot be opened: {problem}")
        if re.search(r'database ".*" does not exist', problem):
            hint = "create the database (createdb) or name another with --store URL"
        elif "authentication failed" in problem or "no password supplied" in problem:
            hint = "check user and password in the address"
        else:
            hint = "check that the server runs and the address is right"
        return LedgerError(f"the ledger {self.address} cannot be reached: {problem}; {hint}")


def _speak_like_postgres(connection: Any, _record: object) -> None:
    """Make the same SQL mean the same: nulls first when descending, 1/2 = 0 for integers."""
    connection.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
    connection.execute("SET integer_division = true")


def _arrow_type(column_type: TypeEngine[Any]) -> pa.DataType:
    kinds: list[tuple[type[TypeEngine[Any]], pa.DataType]] = [
        (BigInteger, pa.int64()),
        (SmallInteger, pa.int16()),
        (Integer, pa.int32()),
        (Double, pa.float64()),
        (Boolean, pa.bool_()),
        (DateTime, pa.timestamp("us")),
        (Text, pa.string()),
    ]
    return next(arrow for kind, arrow in kinds if isinstance(column_type, kind))
