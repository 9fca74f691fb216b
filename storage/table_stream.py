"""Whole tables of the ledger as Arrow batches, in memory that does not grow with them.

Numbers come from Postgres in its binary format without a Python object per value; tables that hold
texts or bytes are fewer rows by orders of magnitude, and go value by value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 1 << 24
_TEXT_ROWS = 1 << 12
_HEADER_BYTES = 19
_TRAILER = b"\xff\xff"
_NUMBERS = {
    pa.int16(): (">i2", "smallint"),
    pa.int32(): (">i4", "integer"),
    pa.int64(): (">i8", "bigint"),
    pa.float64(): (">f8", "double precision"),
}
_OTHERS = {
    pa.int16(): "int2",
    pa.int32(): "int4",
    pa.int64(): "int8",
    pa.float64(): "float8",
    pa.bool_(): "bool",
    pa.string(): "text",
    pa.binary(): "bytea",
    pa.timestamp("us"): "timestamp",
}


def from_duckdb(driver: Any, schema: pa.Schema, rest: str) -> Iterator[pa.RecordBatch]:
    """``SELECT <the columns of schema> <rest>``, in the order the rows are stored."""
    num_rows = _BATCH_ROWS if _all_numbers(schema) else _TEXT_ROWS
    relation = driver.sql(f"SELECT {', '.join(schema.names)} {rest}")
    for batch in relation.to_arrow_reader(num_rows):
        yield batch.cast(schema)


def from_postgres(driver: Any, schema: pa.Schema, rest: str) -> Iterator[pa.RecordBatch]:
    """The same, in the order of the heap."""
    if _all_numbers(schema):
        query, read = _select_numbers(schema, rest), _numbers
    else:
        query, read = f"SELECT {', '.join(schema.names)} {rest}", _values
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)") as copy,
    ):
        yield from read(copy, schema)


def _all_numbers(schema: pa.Schema) -> bool:
    return all(kind in _NUMBERS for kind in schema.types)


def _select_numbers(schema: pa.Schema, rest: str) -> str:
    """Every row in as many bytes as any other: a null as zero, and a mark that it is one."""
    columns = []
    for field in schema:
        if field.nullable:
            kind = _NUMBERS[field.type][1]
            columns += [
                f"CAST(coalesce({field.name}, 0) AS {kind})",
                f"CAST(CAST({field.name} IS NULL AS integer) AS smallint)",
            ]
        else:
            columns.append(field.name)
    return f"SELECT {', '.join(columns)} {rest}"


def _numbers(copy: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    layout: list[tuple[str, str]] = [("columns", ">i2")]
    for field in schema:
        layout += [(f"length of {field.name}", ">i4"), (field.name, _NUMBERS[field.type][0])]
        if field.nullable:
            layout += [(f"length of null {field.name}", ">i4"), (f"null {field.name}", ">i2")]
    row = np.dtype(layout)
    waiting, num_bytes, to_skip = [], 0, _HEADER_BYTES
    for block in copy:
        waiting.append(bytes(block))
        num_bytes += len(block)
        if num_bytes >= to_skip + row.itemsize * _BATCH_ROWS:
            data = b"".join(waiting)
            num_rows = (len(data) - to_skip) // row.itemsize
            yield _unpacked(data, row, num_rows, to_skip, schema)
            waiting = [data[to_skip + num_rows * row.itemsize :]]
            num_bytes, to_skip = len(waiting[0]), 0
    data = b"".join(waiting)
    num_rows, rest = divmod(len(data) - to_skip - len(_TRAILER), row.itemsize)
    assert rest == 0, "a column is of another type than its table says"
    yield _unpacked(data, row, num_rows, to_skip, schema)


def _unpacked(
    data: bytes, row: np.dtype[Any], num_rows: int, start: int, schema: pa.Schema
) -> pa.RecordBatch:
    packed = np.frombuffer(data, dtype=row, count=num_rows, offset=start)
    columns = []
    for field in schema:
        values = packed[field.name].astype(packed.dtype[field.name].newbyteorder("="))
        mask = packed[f"null {field.name}"] != 0 if field.nullable else None
        columns.append(pa.array(values, field.type, mask=mask))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _values(copy: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    copy.set_types([_OTHERS[kind] for kind in schema.types])
    rows: list[tuple[Any, ...]] = []
    num_bytes = 0
    for row in copy.rows():
        rows.append(row)
        num_bytes += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(rows) >= _TEXT_ROWS or num_bytes >= _BATCH_BYTES:
            yield _batch(rows, schema)
            rows, num_bytes = [], 0
    yield _batch(rows, schema)


def _batch(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
