"""Connections and transactions: who may be at the database now, and what it says when it fails.

A ``Connecting`` opens one short-lived connection per transaction.  A DuckDB file belongs to one
process while any connection to it is open, readers included, so nothing is kept open for longer
than a moment between transactions, and whoever finds the file held waits, says so, and gives up
after a time limit.  On Postgres a restarted server is a matter of the next transaction.

Longer than 400 lines so that waiting and the messages about it are in one place.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from duckdb import CatalogException
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from edco_core.errors import InputError, LedgerBusyError, LedgerError
from storage.address import address_of, masked, parse_url, secrets
from storage.duckdb_file import undisturbed
from storage.lingering import LOOK_EVERY_S, Lingering

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
    r"max_locks_per_transaction": (
        "the upgrade of a ledger of many runs takes more locks than this server has. Set "
        "max_locks_per_transaction = 1024 in its postgresql.conf, restart it and type the same "
        "again: nothing was changed"
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

_locks: dict[str, tuple[threading.RLock, threading.RLock]] = {}
"""Of each database: for whoever writes to it, and for opening and closing its file."""
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


class Connecting:
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
        self._lingering = Lingering(self.path)
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
        self._driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        with _locks_guard:
            self._write_lock, opening = _locks.setdefault(
                os.path.realpath(self.path) if self.path else parsed.render_as_string(),
                (threading.RLock(), threading.RLock()),
            )
        if self.path is not None:
            _one_at_a_time(self.engine, opening, Path(os.path.realpath(self.path)))
            event.listen(self.engine, "connect", _speak_like_postgres)

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
        self._lingering.give_way()
        try:
            return self._wait_to_connect()
        finally:
            self._lingering.wait_no_more()

    def _wait_to_connect(self) -> Connection:
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
                self._lingering.wait()
                time.sleep(pause_s)
                pause_s = min(pause_s * 1.5, LOOK_EVERY_S)
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
                f"{address_of(self.path / 'edco.duckdb')}"
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


def first_value(connection: Connection, sql: str) -> Any:
    """What a query gives, as committed before; None also where its table is not there.

    For DuckDB, and what is asked with every command: to look whether there is a table takes it
    longer than all else in opening a ledger, and a query that fails would end the transaction.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    with driver.duplicate() as other:
        try:
            row = other.execute(sql).fetchone()
        except CatalogException:
            return None
    return row[0] if row else None


def _advice(problem: str) -> str:
    return next((f"; {what}" for words, what in _ADVICE.items() if re.search(words, problem)), "")


def _one_at_a_time(engine: Engine, opening: threading.RLock, path: Path) -> None:
    """Let nobody open a DuckDB file while another thread or process does so or closes it.

    To the system a file's lock is the process's, and gone when any of its handles is closed: where
    DuckDB 2.0 closes a file in one thread and opens it in another, the new handle ends up without
    a lock, other processes get in, and what one of them writes is lost or the file damaged.
    """
    dialect = engine.dialect
    close = dialect.do_close

    def do_close(connection: Any) -> None:
        with opening, undisturbed(path):
            close(connection)

    def do_connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Any:
        with opening, undisturbed(path):
            return dialect.connect(*arguments, **options)

    dialect.do_close = do_close  # type: ignore[method-assign, assignment]
    event.listen(engine, "do_connect", do_connect)


def _speak_like_postgres(connection: Any, _record: object) -> None:
    """Make the same SQL mean the same: nulls first when descending, 1/2 = 0 for integers."""
    connection.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
    connection.execute("SET integer_division = true")
