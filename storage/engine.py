"""What DuckDB and Postgres do differently with the ledger's tables: bulk paths, partitions, upkeep.

Together with ``storage/connecting.py`` (locks, waiting, failures, time) everything in which the two
databases differ.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import (
    Connection,
    Integer,
    SmallInteger,
    Table,
    bindparam,
    text,
)
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

from edco_core.errors import InputError, LedgerError
from storage.binary_copy import copy_in, copy_out
from storage.connecting import Connecting
from storage.duckdb_file import OnProgress, rewrite
from storage.streaming import (
    DuckDBStatement,
    InterruptedReadError,
    PostgresStatement,
    Statement,
)
from storage.table_stream import from_duckdb, from_postgres
from storage.tables import PARTITIONED_BY_RUN


class Database(Connecting):
    """One ledger's database: transactions, bulk transfer, partitions, and what people typed."""

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

    @property
    def scores_in_a_row(self) -> int:
        """How many scores a row that holds them as bytes is to have.

        DuckDB has 2048 rows at once in its hands, and writes a table's last ones anew each time it
        closes the file; Postgres keeps long values apart from the rows.
        """
        return 256 if self.on_duckdb else 1 << 20

    def spare_memory(self, connection: Connection, limit: str | None = "64MB") -> None:
        """Let what is written go to disk as it comes, however much memory the machine has.

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

    def analyze(self, connection: Connection, *names: str) -> None:
        """Tell Postgres's planner at once what is in tables: it takes unknown ones for small."""
        if not self.on_duckdb:
            connection.exec_driver_sql(f"ANALYZE {', '.join(names)}")

    def join_in_bulk(self, connection: Connection) -> None:
        """Until this transaction ends, join whole tables, and look no row up one by one.

        What Postgres knows of a run may be of a time before the interval that is asked for: it
        then expects no row of it and goes through a block range for each of a million.
        """
        if not self.on_duckdb:
            connection.exec_driver_sql("SET LOCAL enable_nestloop = off")

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


def _interrupt(driver: Any, expired: threading.Event) -> None:
    expired.set()
    driver.interrupt()


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
