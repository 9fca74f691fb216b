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
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

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
from sqlalchemy.types import (
    BigInteger,
    Boolean,
    DateTime,
    Double,
    LargeBinary,
    NullType,
    Text,
    TypeEngine,
)

from edco_core.errors import InputError, LedgerBusyError, LedgerError
from storage.address import masked, parse_url, secrets
from storage.binary_copy import copy_in, copy_out
from storage.duckdb_file import OnProgress, rewrite
from storage.lingering import Lingering
from storage.streaming import (
    DuckDBStatement,
    InterruptedReadError,
    PostgresStatement,
    Statement,
)
from storage.table_stream import from_duckdb, from_postgres
from storage.tables import PARTITIONED_BY_RUN

logger = logging.getLogger(__name__)
logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of what it raises next

Result = TypeVar("Result")

BUSY_TIMEOUT_S = 60.0

_HELD_BY_OTHERS = re.compile(
    r"Could not set lock on file|being used by another process|"
    r"same database file with a different configuration"
)
_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_SERVER_BUSY = re.compile(
    r"starting up|shutting down|in recovery mode|not yet accepting connections|"
    r"too many clients|connection slots are reserved"
)
_SERVER_AWAY = re.compile(
    r"Connection refused|No such file or directory|server closed the connection|"
    r"terminating connection|Connection reset|timeout expired|timed out|unreachable|"
    r"No route to host|could not translate host name|failed to resolve host"
)
_ADVICE = {
    r"No space left|File too large|Disk quota exceeded|disk is full": (
        "there is no room left for it. Make room on its disk and try again: what was finished "
        "before is kept"
    ),
    r"Permission denied|permission denied|Read-only file system|read-only transaction": (
        "this user may not do that there. Change the permissions, or name another ledger with "
        "--store URL"
    ),
}
"""What to do about failures that have the same reason on both databases, by their words."""

_PATIENCE = {
    "connect_timeout": "10",
    # A connection whose other end has vanished is noticed within a minute, not after hours.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""Settings of libpq that the address may override."""

_locks: dict[str, threading.RLock] = {}
_locks_guard = threading.Lock()


class ConnectionLostError(LedgerError):
    """The server ended a connection, and with it a transaction.

    ``committing``: nobody told whether the transaction was committed before that.
    """

    def __init__(self, message: str, *, committing: bool) -> None:
        super().__init__(message)
        self.committing = committing


class TablesBusyError(LedgerBusyError):
    """Somebody is using tables that a transaction needs for itself; it was undone."""


class Database:
    """One ledger's database: transactions, bulk transfer and the errors that can come of them.

    ``read_only`` is enforced by the database itself.  One process uses either writing or
    read-only connections to a DuckDB file, never both at once.  ``on_wait`` is called with a
    message when another process holds the file or the server is away, and when that is over;
    without it the message goes to the log.  With ``alone`` a DuckDB file has one connection at a
    time, also within this process.
    """

    def __init__(
        self,
        url: str,
        *,
        read_only: bool = False,
        alone: bool = False,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        parsed = parse_url(url)
        self.read_only = read_only
        self.address = masked(url)
        self.on_duckdb = parsed.drivername == "duckdb"
        self.path = Path(parsed.database or "").absolute() if self.on_duckdb else None
        self.busy_timeout_s = busy_timeout_s
        self._on_wait = on_wait or logger.warning
        self._secrets = secrets(parsed)
        self._reached = False
        self._told = False
        self._lingering = Lingering()
        self._shared = threading.local()
        arguments: dict[str, Any] = {
            key: value for key, value in _PATIENCE.items() if key not in parsed.query
        }
        if self.on_duckdb:
            arguments = {"read_only": read_only}
            if alone:  # DuckDB shares a file only between connections of the same settings
                arguments["config"] = {"custom_user_agent": uuid4().hex}
        # A run's owner keeps its connection to a server, and looks whether it still is one.
        keeps = not self.on_duckdb and not read_only
        pool: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 16}
        self.engine: Engine = create_engine(
            parsed,
            connect_args=arguments,
            hide_parameters=True,
            **(pool if keeps else {"poolclass": NullPool}),
        )
        # Also when Python ends, before the drivers are taken down.
        weakref.finalize(self, self.engine.dispose)
        weakref.finalize(self, self._lingering.end)
        if self.on_duckdb:
            event.listen(self.engine, "connect", _speak_like_postgres)
        self._driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        with _locks_guard:
            self._write_lock = _locks.setdefault(
                str(self.path or parsed.render_as_string(hide_password=True)), threading.RLock()
            )

    def exists(self) -> bool:
        """Whether there can be a ledger: the DuckDB file is there. Always true for a server."""
        if self.path is None:
            return True
        try:
            return self.path.exists()
        except OSError as error:  # a folder on the way to it may not be entered
            raise self._out_of_reach(error) from error

    @property
    def readers_block_writers(self) -> bool:
        """Whether nobody can write while a transaction is open, and long ones do harm."""
        return self.on_duckdb

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One read-only transaction; inside a ``snapshot`` of this thread, that one."""
        if self.in_snapshot:
            yield self._shared.connection
            return
        with self._transaction() as connection:
            if not self.on_duckdb:
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
                # Compiling a plan costs more than these short queries take.
                connection.exec_driver_sql("SET LOCAL jit = off")
            yield connection

    @property
    def in_snapshot(self) -> bool:
        return getattr(self._shared, "connection", None) is not None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all this thread reads inside the block be one transaction, and so of one moment.

        A DuckDB file is opened once instead of once for each question, and held all that time.
        """
        if self.in_snapshot:
            yield
            return
        with ExitStack() as stack:
            connection = stack.enter_context(self.reading())
            if not self.on_duckdb:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._shared.connection, self._shared.end = connection, stack.close
            try:
                yield
            finally:
                self._shared.connection = None

    def end_snapshot(self) -> None:
        """End this thread's snapshot, if it is in one, before its block does."""
        if self.in_snapshot:
            self._shared.connection = None
            self._shared.end()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: committed when the block ends, undone when it raises.

        Writers of one process wait for each other.
        """
        if self.read_only:
            raise LedgerError(f"the ledger {self.address} was opened read-only")
        with self._write_lock, self._transaction() as connection:
            if not self.on_duckdb:
                connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
                connection.exec_driver_sql("SET LOCAL work_mem = '128MB'")
            yield connection

    @contextmanager
    def frozen(self) -> Iterator[Callable[[], AbstractContextManager[Connection]]]:
        """Many read-only transactions that all see the ledger as it is now.

        On Postgres one transaction would keep a lock on every partition it has read, and servers
        run out of those at some hundred runs.
        """
        with self.reading() as first:
            if self.on_duckdb:
                yield lambda: nullcontext(first)
                return
            first.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            moment = first.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()

            @contextmanager
            def reading() -> Iterator[Connection]:
                with self.reading() as connection:
                    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{moment}'")
                    # Rows in the order they are stored, not from where another reader is.
                    connection.exec_driver_sql("SET LOCAL synchronize_seqscans = off")
                    yield connection

            yield reading

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Be the only process that does what ``name`` says, over several transactions.

        On DuckDB nobody else gets at the file meanwhile.
        """
        with self._transaction() as connection:
            self.lock(connection, name)
            yield

    def patiently(self, do: Callable[[Connection], Result]) -> Result:
        """One writing transaction that needs tables for itself, begun again while others use them.

        On Postgres whoever waits for a table makes wait all who come after, the owners of runs
        among them: it gives way within a fraction of a second.  Raises LedgerBusyError.
        """
        started, told = time.monotonic(), False
        while True:
            try:
                with self.writing() as connection:
                    if not self.on_duckdb:
                        connection.exec_driver_sql("SET LOCAL lock_timeout = '300ms'")
                    return do(connection)
            except TablesBusyError:
                if not told:
                    self._on_wait(f"waiting for those who use the ledger {self.address}")
                    told = True
                if time.monotonic() - started >= self.busy_timeout_s:
                    raise
                time.sleep(0.2)

    def table_batches(
        self, connection: Connection, table: Table, run: tuple[int, str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a table as they are stored; all, or those of a run (key and id).

        A run's rows come without the columns that say which run it is.  The connection does nothing
        else until the last batch was read.
        """
        keys: dict[str, int | str] = {"run_key": run[0], "run_id": run[1]} if run else {}
        fields = [
            pa.field(column.name, _arrow_type(column.type), bool(column.nullable))
            for column in table.columns
            if column.name not in keys
        ]
        partitioned = run is not None and table in PARTITIONED_BY_RUN
        rest = f"FROM {self.part(table, run[0]) if run and partitioned else table.name}"
        conditions = [
            f"{name} = {_literal(value)}" for name, value in keys.items() if name in table.c
        ]
        if conditions:
            rest += f" WHERE {' AND '.join(conditions)}"
        read = from_duckdb if self.on_duckdb else from_postgres
        yield from read(self._driver(connection), pa.schema(fields), rest)

    def bulk_insert(
        self,
        connection: Connection,
        table: Table,
        rows: pa.Table | Iterable[pa.RecordBatch],
        *,
        constants: Mapping[str, int | str] | None = None,
    ) -> None:
        """Insert Arrow data within the connection's transaction: Arrow scan or binary COPY.

        Columns are matched by name and cast to the table's types; ``constants`` are the columns
        that have one value in all rows.  An iterable of batches is read as it is written, and must
        not use the connection meanwhile.
        """
        batches = iter(rows.to_batches() if isinstance(rows, pa.Table) else rows)
        first = next(batches, None)
        if first is None:
            return
        given = dict(constants or {})
        schema = pa.schema(
            [pa.field(name, _arrow_type(table.c[name].type)) for name in first.schema.names]
        )
        stream = (batch.cast(schema) for batch in chain([first], batches))
        names = ", ".join([*given, *schema.names])
        driver = self._driver(connection)
        if self.on_duckdb:
            values = ", ".join(["?"] * len(given) + schema.names)
            driver.register("edco_rows", pa.RecordBatchReader.from_batches(schema, stream))
            try:
                driver.execute(
                    f"INSERT INTO {table.name} ({names}) SELECT {values} FROM edco_rows",
                    list(given.values()),
                )
            finally:
                driver.unregister("edco_rows")
            return
        target = table.name
        if table in PARTITIONED_BY_RUN and "run_key" in given:
            target = self.part(table, int(given["run_key"]))
        types = {name: _arrow_type(table.c[name].type) for name in given}
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY {target} ({names}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy_in(copy, schema, stream, {name: (types[name], given[name]) for name in given})

    def spare_memory(self, connection: Connection, limit: str | None = "64MB") -> None:
        """Let a long insert go to disk as it comes, however much memory the machine has.

        Until this process has closed its last connection. DuckDB has 2048 rows at once in its
        hands: the limit must leave room for so many. None is DuckDB's own, most of the memory.
        """
        if self.on_duckdb:
            connection.exec_driver_sql(
                "RESET memory_limit" if limit is None else f"SET memory_limit = '{limit}'"
            )

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

    @contextmanager
    def statement(
        self,
        connection: Connection,
        sql: str,
        params: Mapping[str, Any],
        timeout_s: float | None = None,
    ) -> Iterator[Statement]:
        """One statement somebody typed, to be read inside the block; ``:name`` is a parameter.

        Raises InputError for what the database refuses and LedgerError after ``timeout_s``
        seconds, both also while rows are read. The transaction is over when it is not read to its
        end.
        """
        driver = self._driver(connection)
        # Without a type of its own a text becomes what it is compared with, on both databases.
        untyped = [bindparam(name, value, type_=NullType()) for name, value in params.items()]
        compiled = text(sql).bindparams(*untyped).compile(dialect=connection.dialect)
        given = compiled.construct_params()
        alarm, expired = None, threading.Event()
        asked: Statement
        try:
            if self.on_duckdb:
                if self.read_only:
                    # Such a connection still may COPY … TO a file, the ledger's own among them.
                    driver.execute("SET enable_external_access = false")
                if len(driver.extract_statements(str(compiled))) > 1:
                    raise InputError("the ledger runs one statement at a time; give only one")
                if timeout_s is not None:
                    alarm = threading.Timer(timeout_s, _interrupt, (driver, expired))
                    alarm.daemon = True
                    alarm.start()
                positions = [given[name] for name in compiled.positiontup or ()]
                asked = DuckDBStatement(driver, str(compiled), positions)
            else:
                # A read-only transaction of a superuser still may COPY … TO PROGRAM.
                if connection.exec_driver_sql(
                    "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
                ).scalar():
                    driver.execute("SET LOCAL ROLE pg_read_all_data")
                if timeout_s is not None:
                    driver.execute(f"SET LOCAL statement_timeout = {max(1, int(timeout_s * 1000))}")
                asked = PostgresStatement(driver, str(compiled), given)
            with closing(asked):
                yield asked
        except (self._driver_error, InterruptedReadError) as error:
            if expired.is_set() or type(error).__name__ == "QueryCanceled":
                raise LedgerError(f"the query took longer than {timeout_s:g} s") from error
            if any(kind.__name__ == "OperationalError" for kind in type(error).__mro__):
                raise  # the database is at fault, and not the query
            raise InputError(f"the ledger cannot run this query: {self.scrub(error)}") from error
        finally:
            if alarm is not None:
                alarm.cancel()
                alarm.join()

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

    def part(self, table: Table, run_key: int) -> str:
        """What a run's rows of a table partitioned by run are to be read from and written to.

        On Postgres the partition itself, which it would have to find again for every row.
        """
        return table.name if self.on_duckdb else f"{table.name}_{run_key}"

    def make_partitions(self, connection: Connection, run_key: int, run_id: str) -> None:
        """Give a new run its own partitions."""
        if self.on_duckdb:
            return
        value = run_id.replace("'", "''").replace("%", "%%")  # DDL takes no parameters
        for table in PARTITIONED_BY_RUN:
            # Attaching, unlike CREATE TABLE … PARTITION OF, does not wait for those who write
            # to other runs.
            part = self.part(table, run_key)
            connection.exec_driver_sql(f"CREATE TABLE {part} (LIKE {table.name} INCLUDING ALL)")
            connection.exec_driver_sql(
                f"ALTER TABLE {table.name} ATTACH PARTITION {part} FOR VALUES IN ('{value}')"
            )

    def remove_partitions(self, connection: Connection, run_key: int) -> None:
        """Remove a run's rows from all tables partitioned by run."""
        for table in PARTITIONED_BY_RUN:
            if self.on_duckdb:
                connection.execute(table.delete().where(table.c.run_key == run_key))
            else:
                connection.exec_driver_sql(f"DROP TABLE {self.part(table, run_key)}")

    def remove_tables(self, names: Iterable[str]) -> None:
        """Remove tables with all they hold, in as many transactions as there are partitions."""
        for name in names:
            parts: list[str] = []
            if not self.on_duckdb:
                with self.reading() as connection:
                    parts = list(
                        connection.execute(
                            text(
                                "SELECT CAST(relid AS text) FROM "
                                "pg_partition_tree(to_regclass(:name)) WHERE level > 0"
                            ),
                            {"name": name},
                        ).scalars()
                    )
            for each in (*parts, name):
                with self.writing() as connection:
                    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {each}")

    def num_bytes(self, names: Iterable[str]) -> int:
        """What the ledger's tables take on disk, all partitions included; on DuckDB, its file."""
        if self.path is not None:
            log = self.path.with_name(f"{self.path.name}.wal")
            return sum(path.stat().st_size for path in (self.path, log) if path.exists())
        with self.reading() as connection:
            return sum(
                connection.execute(
                    text(
                        "SELECT CAST(coalesce(sum(pg_total_relation_size(relid)), 0) AS bigint) "
                        "FROM (SELECT to_regclass(:name) AS relid UNION "
                        "SELECT relid FROM pg_partition_tree(to_regclass(:name))) t"
                    ),
                    {"name": name},
                ).scalar_one()
                for name in names
            )

    def compact(self, names: Sequence[str], on_progress: OnProgress) -> None:
        """Give back the space that nothing uses any more; on Postgres, of the tables named.

        A DuckDB file is rewritten, which needs a database opened ``alone``.
        """
        if self.path is None:
            self.vacuum(names, on_progress)
            return
        self._lingering.end()
        with self._translated(), self._connect() as connection:
            rewrite(self._driver(connection), self.path, on_progress)

    def vacuum(self, names: Sequence[str], on_progress: OnProgress | None = None) -> None:
        """Let Postgres tidy tables and learn what is in them, which stops nobody."""
        if self.on_duckdb:
            return
        refused: list[str] = []
        with self._translated(), self._connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            self._driver(connection).add_notice_handler(
                lambda notice: refused.append(notice.message_primary or "")
            )
            for done, name in enumerate(names, start=1):
                connection.exec_driver_sql(f"VACUUM (ANALYZE) {name}")
                if on_progress is not None:
                    on_progress(done, len(names))
        denied = [message for message in refused if "permission denied" in message]
        if denied:
            raise LedgerError(
                f"the ledger {self.address}: {denied[0]}; let the owner of its tables do it"
            )

    def refresh_statistics(
        self, connection: Connection, table: Table, run_key: int, interval: int
    ) -> None:
        """Let the planner know about rows that came in bulk, before the server finds the time.

        Without it Postgres takes a run's new partition for a small one: measured ten times slower.
        """
        if self.on_duckdb:
            return
        part = self.part(table, run_key)
        # Postgres scales what it knows by the table's growth; a doubling is soon enough to look
        # again.
        if (interval + 1) & interval == 0:
            connection.exec_driver_sql(f"ANALYZE {part}")
        connection.execute(
            text(
                "SELECT brin_summarize_new_values(i.indexrelid) FROM pg_index i "
                "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
                "WHERE i.indrelid = to_regclass(:part) AND a.amname = 'brin'"
            ),
            {"part": part},
        )

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
    def _transaction(self) -> Iterator[Connection]:
        """A connection and a transaction; what the driver raises becomes one clear message."""
        committing = False
        try:
            with self._connect() as connection:
                with connection.begin():
                    yield connection
                    committing = True
                if self.on_duckdb and not self.read_only:
                    self._lingering.after(self.engine.raw_connection)
        except (SQLAlchemyError, self._driver_error) as error:
            raise self._failure(error, committing) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """The same for what is no transaction."""
        try:
            yield
        except (SQLAlchemyError, self._driver_error) as error:
            raise self._failure(error, committing=False) from error

    def _failure(self, error: Exception, committing: bool) -> LedgerError:
        first = error.orig if isinstance(error, DBAPIError) and error.orig else error
        while isinstance(first.__context__, self._driver_error):
            first = first.__context__  # the later ones only say that the connection is gone
        problem = self.scrub(first)
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return ConnectionLostError(
                f"the connection to the ledger {self.address} was lost: {problem}; "
                "try again when its server is well",
                committing=committing,
            )
        if type(first).__name__ in ("LockNotAvailable", "DeadlockDetected"):
            return TablesBusyError(
                f"the ledger {self.address} is in use ({problem}); nothing was changed. "
                "Try again when its readers are done"
            )
        return LedgerError(f"the ledger {self.address} failed: {problem}{_advice(problem)}")

    def tell(self, message: str) -> None:
        """Say what is in the way, once until the next connection."""
        if not self._told:
            self._told = True
            self._on_wait(message)

    def _connect(self) -> Connection:
        """Connect; wait while another process holds the file or the server restarts."""
        self._check_place()
        started = time.monotonic()
        pause_s = 0.02
        while True:
            file = self._file()
            try:
                connection = self.engine.connect()
            except DBAPIError as error:
                waiting = self._why_wait(self.scrub(error.orig or error))
                if waiting is None:
                    raise self._unreachable(error) from error
                reason, advice = waiting
                waited_s = time.monotonic() - started
                if waited_s > 1:
                    self.tell(f"waiting for the ledger {self.address}: {reason}")
                if waited_s >= self.busy_timeout_s:
                    raise LedgerBusyError(
                        f"the ledger {self.address} is {reason}; waited {waited_s:.0f} s. {advice}"
                    ) from error
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, 0.25)
            else:
                if self._file() != file and file is not None:
                    connection.close()  # to the file that this one took the name of
                    continue
                if self._told:
                    self._told = False
                    self._on_wait(f"the ledger {self.address} is back; going on")
                self._reached = True
                return connection

    def _file(self) -> int | None:
        """Which file it is that has the ledger's name: a rewritten one is another."""
        try:
            return None if self.path is None else self.path.stat().st_ino
        except FileNotFoundError:
            return None

    def _why_wait(self, problem: str) -> tuple[str, str] | None:
        """Who is in the way when waiting may help, and what to do when it does not."""
        if self.on_duckdb:
            if not _HELD_BY_OTHERS.search(problem):
                return None
            holder = _HOLDER.search(problem)
            if holder:
                who = f"process {holder['pid']} ({holder['program']})"
            elif "different configuration" in problem:
                who = f"this process ({os.getpid()}), in another mode"
            else:
                who = "another process"
            return f"held by {who}", "Try again when it is free, or end that process"
        if _SERVER_BUSY.search(problem) or (self._reached and _SERVER_AWAY.search(problem)):
            return f"away ({problem})", "Try again when the server is back"
        return None

    def _out_of_reach(self, error: OSError) -> InputError:
        problem = f"{error.strerror}: {error.filename}"
        return InputError(f"the ledger {self.address} is out of reach: {problem}{_advice(problem)}")

    def _check_place(self) -> None:
        if self.path is None:
            return
        exists = self.exists()
        if self.path.is_dir():
            raise InputError(
                f"the ledger {self.address} is a folder; name a file in it, such as "
                f"duckdb:///{self.path / 'edco.duckdb'}"
            )
        if self.read_only and not exists:
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
        if not exists and not os.access(self.path.parent, os.W_OK):
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
            return LedgerError(
                f"the ledger {self.address} cannot be opened: {problem}{_advice(problem)}"
            )
        if re.search(r'database ".*" does not exist', problem):
            hint = "create the database (createdb) or name another with --store URL"
        elif "authentication failed" in problem or "no password supplied" in problem:
            hint = "check user and password in the address"
        else:
            hint = "check that the server runs and the address is right"
        return LedgerError(f"the ledger {self.address} cannot be reached: {problem}; {hint}")


def _advice(problem: str) -> str:
    return next((f"; {what}" for words, what in _ADVICE.items() if re.search(words, problem)), "")


def _interrupt(driver: Any, expired: threading.Event) -> None:
    expired.set()
    driver.interrupt()


def _speak_like_postgres(connection: Any, _record: object) -> None:
    """Make the same SQL mean the same: nulls first when descending, 1/2 = 0 for integers."""
    connection.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
    connection.execute("SET integer_division = true")


def _literal(value: int | str) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _arrow_type(column_type: TypeEngine[Any]) -> pa.DataType:
    kinds: list[tuple[type[TypeEngine[Any]], pa.DataType]] = [
        (BigInteger, pa.int64()),
        (SmallInteger, pa.int16()),
        (Integer, pa.int32()),
        (Double, pa.float64()),
        (Boolean, pa.bool_()),
        (LargeBinary, pa.binary()),
        (DateTime, pa.timestamp("us")),
        (Text, pa.string()),
    ]
    return next(arrow for kind, arrow in kinds if isinstance(column_type, kind))
