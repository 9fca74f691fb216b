"""Postgres's binary COPY format to and from arrays, without a Python object per value."""

from __future__ import annotations

from collections.abc import Mapping
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
    pa.timestamp("us"): "timestamp",
}


def copy_in(copy: Any, rows: pa.Table) -> None:
    """Write rows in Postgres's binary format; numbers without touching them one by one."""
    fields: list[Any] = [("columns", ">i2")]
    for index, column in enumerate(rows.columns):
        fields.append((f"length{index}", ">i4"))
        if column.null_count == 0:
            fields.append((f"value{index}", _FIXED_WIDTH.get(column.type)))
        elif column.null_count < rows.num_rows:
            fields.append((f"value{index}", None))
    if any(kind is None for _, kind in fields):
        copy.set_types([_POSTGRES_TYPES[column.type] for column in rows.columns])
        for batch in rows.to_batches(max_chunksize=_CHUNK_ROWS):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                copy.write_row(row)
        return
    copy.write(_HEADER)
    for batch in rows.to_batches(max_chunksize=_CHUNK_ROWS):
        packed = np.empty(batch.num_rows, dtype=fields)
        packed["columns"] = batch.num_columns
        for index, column in enumerate(batch.columns):
            if f"value{index}" in packed.dtype.names:
                packed[f"length{index}"] = column.type.bit_width // 8
                packed[f"value{index}"] = column.to_numpy(zero_copy_only=False)
            else:
                packed[f"length{index}"] = -1
        copy.write(packed.tobytes())
    copy.write(_TRAILER)


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
