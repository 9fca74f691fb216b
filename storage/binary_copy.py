"""Postgres's binary COPY format to and from arrays, without a Python object per value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_CHUNK_ROWS = 1 << 16
_FIXED_WIDTH = {pa.int16(): ">i2", pa.int32(): ">i4", pa.int64(): ">i8", pa.float64(): ">f8"}
_POSTGRES_TYPES = {
    pa.int16(): "int2",
    pa.int32(): "int4",
    pa.int64(): "int8",
    pa.float64(): "float8",
    pa.bool_(): "bool",
    pa.string(): "text",
    pa.binary(): "bytea",
    pa.timestamp("us"): "timestamp",
}


def copy_in(
    copy: Any,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    constants: Mapping[str, tuple[pa.DataType, int | str]],
) -> None:
    """Write batches in Postgres's binary format; numbers without touching them one by one.

    ``constants`` are columns before those of the batches, by type and value.
    """
    kinds = [kind for kind, _ in constants.values()] + list(schema.types)
    values = [value for _, value in constants.values()]
    if not all(kind in _FIXED_WIDTH for kind in schema.types):
        copy.set_types([_POSTGRES_TYPES[kind] for kind in kinds])
        for batch in batches:
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                copy.write_row((*values, *row))
        return
    fixed: list[Any] = [("columns", ">i2", len(kinds))]
    for index, (kind, value) in enumerate(constants.values()):
        coded = value.encode() if isinstance(value, str) else value
        width = len(coded) if isinstance(coded, bytes) else kind.bit_width // 8
        fixed.append((f"constant length {index}", ">i4", width))
        if width:  # an empty text has no bytes
            fixed.append((f"constant {index}", _FIXED_WIDTH.get(kind, f"S{width}"), coded))
    copy.write(_HEADER)
    for whole in batches:
        for start in range(0, whole.num_rows, _CHUNK_ROWS):
            for batch in _alike_in_nulls(whole.slice(start, _CHUNK_ROWS)):
                copy.write(_packed(batch, fixed).tobytes())
    copy.write(_TRAILER)


def _alike_in_nulls(batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
    """The rows in groups whose nulls are in the same columns: rows of one length in the format."""
    if all(column.null_count in (0, len(column)) for column in batch.columns):
        return [batch]
    patterns = np.zeros(batch.num_rows, np.int64)
    for index, column in enumerate(batch.columns):
        patterns |= column.is_null().to_numpy(zero_copy_only=False).astype(np.int64) << index
    return [batch.filter(pa.array(patterns == pattern)) for pattern in np.unique(patterns)]


def _packed(batch: pa.RecordBatch, fixed: list[Any]) -> NDArray[Any]:
    fields = [(name, kind) for name, kind, _ in fixed]
    for index, column in enumerate(batch.columns):
        fields.append((f"length {index}", ">i4"))
        if column.null_count < len(column):
            fields.append((f"value {index}", _FIXED_WIDTH[column.type]))
    packed = np.empty(batch.num_rows, dtype=fields)
    for name, _, value in fixed:
        packed[name] = value
    for index, column in enumerate(batch.columns):
        if column.null_count == len(column):
            packed[f"length {index}"] = -1
            continue
        packed[f"length {index}"] = column.type.bit_width // 8
        packed[f"value {index}"] = column.to_numpy(zero_copy_only=False)
    return packed


def copy_out(copy: Any, types: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """Columns without nulls of what Postgres sends in its binary format."""
    fields: list[Any] = [("columns", ">i2")]
    for name, kind in types.items():
        fields += [(f"length of {name}", ">i4"), (name, f">{kind}")]
    data = b"".join(bytes(block) for block in copy)
    row_bytes = np.dtype(fields).itemsize
    num_rows, rest = divmod(len(data) - len(_HEADER) - len(_TRAILER), row_bytes)
    assert rest == 0, "a column is null or of another type than was asked for"
    packed = np.frombuffer(data, dtype=fields, count=num_rows, offset=len(_HEADER))
    return {name: packed[name].astype(kind) for name, kind in types.items()}
