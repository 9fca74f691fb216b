"""Raw rows of one file, by its format.

Readers know nothing of samples: they yield ``(line, row)`` with what stands there, and an
:class:`Unreadable` in place of a row that cannot be taken apart.  What makes a whole file
unreadable is a DataError, or the error of the library that met it.  Readers that are told which
lines are wanted may leave the others out, where that saves taking them apart.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json

from edco_core.errors import DataError

BATCH_ROWS = 4096
_BOM = b"\xef\xbb\xbf"
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 2


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in for a row that could not be taken apart, and says why."""

    problem: str


RawRow = tuple[int, Any]
"""Line (row, where there are no lines), 1-based; and a row as it came, or Unreadable."""

Lines = Collection[int] | None
"""Those that are wanted; None: all."""


def shown(value: object) -> str:
    """A value for a message: short, whatever its size."""
    return _SHORT.repr(value)


def format_of(path: Path) -> str:
    """``.jsonl`` for ``a.jsonl`` and ``a.jsonl.gz``; Parquet is compressed inside already."""
    name = path.name.lower()
    inner = Path(name.removesuffix(".gz")).suffix
    return name if name.endswith(".parquet.gz") else inner


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _read_json_lines(path: Path, lines: Lines = None) -> Iterator[RawRow]:
    with _open(path) as stream:
        yield from _json_lines(stream, lines)


def _json_lines(stream: Iterable[bytes], lines: Lines) -> Iterator[RawRow]:
    for line, raw in enumerate(stream, start=1):
        if lines is not None and line not in lines:
            continue
        if line == 1:
            raw = raw.removeprefix(_BOM)
        if not raw or raw.isspace():
            continue
        try:
            row = from_json(raw, allow_inf_nan=False)
        except ValueError as error:
            row = _explain_bad_json(raw, str(error))
        yield line, row


def _explain_bad_json(raw: bytes, problem: str) -> Unreadable:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        came = raw[max(0, error.start - 20) : error.end + 20]
        return Unreadable(
            f"not UTF-8, byte {error.start + 1}: {shown(came)} came. Save it as UTF-8."
        )
    # The parser counts within what it was given: one line and its line break.
    problem = problem.replace("at line 1 column", "at column")
    problem = problem.replace("at line 2 column 0", "at the end of the line")
    return Unreadable(
        f"not JSON ({problem}): {shown(text.strip())} came. "
        "Expected one JSON object on each line, or a file .json that is one list of them."
    )


def _read_json(path: Path, lines: Lines = None) -> Iterator[RawRow]:
    """A list of objects, or JSON lines: the first character tells."""
    with _open(path) as stream:
        content = stream.read().removeprefix(_BOM)
    if not re.match(rb"\s*\[", content):
        yield from _json_lines(io.BytesIO(content), lines)
        return
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8. Save it as UTF-8.") from error
    del content
    yield from _json_list(path, text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _json_list(path: Path, text: str) -> Iterator[RawRow]:
    """Objects one at a time, so that each is known by its line and only one is in memory."""
    blank = re.compile(r"\s*")
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def skip_blank(position: int) -> int:
        match = blank.match(text, position)
        assert match is not None  # the pattern matches the empty text too
        return match.end()

    def refuse(position: int, problem: str) -> NoReturn:
        # What follows a broken list element is anyone's guess: this file is not skipped in part.
        at = text.count("\n", 0, position) + 1
        raise DataError(
            f"{path}:{at}: not JSON ({problem}): {shown(text[position : position + 60])} came. "
            "Expected a list of objects, or one object on each line (.jsonl)."
        )

    line, counted = 1, 0
    position = skip_blank(skip_blank(0) + 1)
    if text[position : position + 1] == "]":
        end = position
    else:
        while True:
            line += text.count("\n", counted, position)
            counted = position
            try:
                row, end = decoder.raw_decode(text, position)
            except json.JSONDecodeError as error:
                refuse(error.pos, error.msg)
            except (ValueError, RecursionError) as error:
                refuse(position, str(error))
            yield line, row
            end = skip_blank(end)
            if text[end : end + 1] != ",":
                break
            position = skip_blank(end + 1)
        if text[end : end + 1] != "]":
            refuse(end, "expected ',' or ']'")
    if skip_blank(end + 1) != len(text):
        refuse(skip_blank(end + 1), "extra data after the list")


def _read_csv(path: Path, lines: Lines = None) -> Iterator[RawRow]:
    """Rows by their header's names; an empty cell is no value.

    Bytes that are no UTF-8 become lone surrogates, which the check of texts refuses row by row.
    """
    csv.field_size_limit(2**31 - 1)  # process-wide; the default of 128 Ki refuses long prompts
    with (
        _open(path) as stream,
        io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        reader = csv.reader(text, strict=True)
        try:
            header = next((cells for cells in reader if cells), None)
        except csv.Error as error:
            raise DataError(f"{path}:1: the header is not CSV: {error}.") from error
        if header is None:
            return
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise DataError(
                f"{path}:1: the header has more than one {', '.join(map(repr, repeated))}."
            )
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error) and reader.line_num > line:
                    # Skipping it would skip all rows behind it, as if they were one.
                    raise DataError(
                        f"{path}:{line}: a quote is opened and never closed, so that all lines "
                        f"from here to {reader.line_num} cannot be told apart. Close it."
                    ) from error
                where = f"lines {line} to {reader.line_num}"
                yield line, Unreadable(f"not CSV ({error}), {where}. Check the quotes.")
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                yield (
                    line,
                    Unreadable(
                        f"{len(cells)} columns came: {shown(cells)}. "
                        f"Expected {len(header)}: {', '.join(header)}."
                    ),
                )
                continue
            yield line, {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _read_parquet(path: Path, lines: Lines = None) -> Iterator[RawRow]:
    with pq.ParquetFile(path) as file:
        yield from arrow_rows(file.iter_batches(batch_size=BATCH_ROWS), lines)


def arrow_rows(batches: Iterable[Any], lines: Lines = None) -> Iterator[RawRow]:
    first = 1
    for each in batches:
        batch = _as_written(each)
        nested = [field.name for field in batch.schema if _has_struct(field.type)]
        try:
            if lines is None or any(first <= line < first + batch.num_rows for line in lines):
                for number, row in enumerate(batch.to_pylist(), first):
                    for name in nested:
                        row[name] = _without_nulls(row[name])
                    yield number, row
        except UnicodeDecodeError:  # one row spoils its batch: find it
            for index in range(batch.num_rows):
                try:
                    row = batch.slice(index, 1).to_pylist()[0]
                except UnicodeDecodeError as error:
                    row = Unreadable(f"not UTF-8: {error.reason}.")
                yield first + index, row
        first += batch.num_rows


def _has_struct(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return True
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and _has_struct(kind.value_type)


def _without_nulls(value: Any) -> Any:
    """Without the keys that Arrow fills in, as all structs of a column have those of any."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


def _as_written(batch: Any) -> Any:
    """Floats of 32 bits as the numbers they were made of: 0.1, not 0.10000000149011612."""
    for index, field in enumerate(batch.schema):
        if pa.types.is_float32(field.type):
            written = batch.column(index).cast(pa.string()).cast(pa.float64())
            batch = batch.set_column(index, field.name, written)
    return batch


READERS: dict[str, Callable[[Path, Lines], Iterator[RawRow]]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
