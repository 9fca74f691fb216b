"""How each driver hands out the rows of one statement, a chunk at a time: as tuples or as Arrow.

Memory stays flat however many rows there are.  ``storage/engine.py`` chooses, limits the time and
translates the errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any, Protocol

import pyarrow as pa

_FETCHED_ROWS = 1000
_BATCH_ROWS = 1 << 16

Rows = Iterator[tuple[Any, ...]]
Batches = Iterator[pa.RecordBatch]


class InterruptedReadError(Exception):
    """Reading went wrong after the first row; Arrow knows no better than an OSError."""


class Statement(Protocol):
    """One statement that is about to be carried out; one of its two methods may be called, once."""

    def rows(self) -> tuple[list[str] | None, Rows]:
        """Names of the columns, and the rows; no names for a statement that has no rows."""

    def batches(self) -> tuple[pa.Schema | None, Batches]:
        """The rows as Arrow batches; no schema for a statement that has no rows."""

    def close(self) -> None:
        """Give up what was not read."""


class DuckDBStatement:
    """DuckDB computes as it is read, and gives out Arrow itself."""

    def __init__(self, driver: Any, sql: str, given: list[Any]) -> None:
        self._driver, self._sql, self._given = driver, sql, given
        self._reader: pa.RecordBatchReader | None = None

    def rows(self) -> tuple[list[str] | None, Rows]:
        cursor = self._driver.execute(self._sql, self._given)
        if cursor is None:  # nothing was asked
            return None, iter(())
        names = [column[0] for column in cursor.description or ()]
        return names or None, _fetched(cursor)

    def batches(self) -> tuple[pa.Schema | None, Batches]:
        relation = self._driver.sql(self._sql, params=self._given)
        if relation is None:
            return None, iter(())
        self._reader = relation.to_arrow_reader(_BATCH_ROWS)
        schema = pa.schema([pa.field(f.name, _narrowed(f.type)) for f in self._reader.schema])
        return schema, _read(self._reader, schema)

    def close(self) -> None:
        """Give up a reader that has batches left; rows DuckDB gives up itself."""
        if self._reader is not None:
            self._reader.close()


class PostgresStatement:
    """psycopg asks for some rows at a time; without that, libpq first collects all of them.

    The statement is sent with its parameters apart, and so can be one statement only: nobody
    leaves a read-only transaction with a COMMIT in front of something else.
    """

    def __init__(self, driver: Any, sql: str, given: Mapping[str, Any]) -> None:
        self._driver, self._sql, self._given = driver, sql, given
        self._stream: Any = None

    def rows(self) -> tuple[list[str] | None, Rows]:
        columns, rows = self._begun()
        return None if columns is None else [column.name for column in columns], rows

    def batches(self) -> tuple[pa.Schema | None, Batches]:
        columns, rows = self._begun()
        if columns is None:
            return None, rows
        schema = pa.schema(
            [pa.field(c.name, _POSTGRES_TYPES.get(c.type_code, pa.string())) for c in columns]
        )
        return schema, _typed(rows, schema)

    def close(self) -> None:
        """Cancel the query if the server is still at it."""
        if self._stream is not None:
            self._stream.close()

    def _begun(self) -> tuple[Any, Rows]:
        import psycopg

        cursor = self._driver.cursor()
        self._stream = cursor.stream(self._sql, self._given, size=_FETCHED_ROWS)
        try:
            first = next(self._stream, None)
        except psycopg.ProgrammingError as error:
            if error.sqlstate is None:  # psycopg's own: it was a command, such as SET
                return None, iter(())
            raise
        if first is None:
            # Without a row psycopg does not tell the columns; a cursor that is not read does.
            with self._driver.cursor(name="edco_columns") as unread:
                unread.execute(self._sql, self._given)
                return unread.description, iter(())
        return cursor.description, chain([first], self._stream)


# By object identifiers, which never change. Exact numbers become doubles: their scale is not known.
_POSTGRES_TYPES = {
    16: pa.bool_(), 21: pa.int16(), 23: pa.int32(), 20: pa.int64(), 700: pa.float32(),
    701: pa.float64(), 1700: pa.float64(), 1082: pa.date32(), 1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
}  # fmt: skip


TYPES_BY_NAME = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "varchar": pa.string(),
    "text": pa.string(),
    # The ledger keeps times in UTC without saying so.
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp without time zone": pa.timestamp("us", "UTC"),
}
"""What views are made of, by the names both databases give it in ``information_schema``."""


def _typed(rows: Rows, schema: pa.Schema) -> Batches:
    while some := list(islice(rows, _BATCH_ROWS)):
        columns = [
            pa.array(_plain(values, field.type), field.type)
            for values, field in zip(zip(*some, strict=True), schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain(values: tuple[Any, ...], arrow_type: pa.DataType) -> Any:
    """Values as Arrow takes them: psycopg makes Decimals, lists, dictionaries and more."""
    if arrow_type == pa.float64():
        return [None if value is None else float(value) for value in values]
    if arrow_type == pa.string():
        return [None if value is None else str(value) for value in values]
    return values


def _fetched(cursor: Any) -> Rows:
    while some := cursor.fetchmany(_FETCHED_ROWS):
        yield from some


def _narrowed(arrow_type: pa.DataType) -> pa.DataType:
    """Sums of integers are 128 bits wide in DuckDB; a whole number of 64 does for everybody."""
    if not pa.types.is_decimal(arrow_type):
        return arrow_type
    return pa.int64() if arrow_type.scale == 0 else pa.float64()


def _read(reader: pa.RecordBatchReader, schema: pa.Schema) -> Batches:
    try:
        for batch in reader:
            yield batch if batch.schema == schema else batch.cast(schema)
    except (OSError, pa.ArrowInvalid) as error:
        raise InterruptedReadError(str(error)) from error
