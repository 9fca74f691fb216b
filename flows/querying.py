"""``edco query``: rows of somebody's SQL in one of four formats."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import IO, Any

import pyarrow as pa

from edco_core.errors import EdcoError, InputError
from flows.display import print_table, say
from flows.reading import cell, csv_writer
from storage import Ledger, queries
from storage.streaming import Batches, Rows

_TERMINAL_ROWS = 100
_FORMATS = ("csv", "json", "parquet", "table")


def run_query(
    ledger: Ledger,
    sql: str,
    params: list[str],
    output: str,
    limit: int | None,
    timeout_s: float,
) -> None:
    """Run read-only SQL and write its rows to standard output."""
    if output not in _FORMATS:
        raise InputError(f"--format {output}: allowed are {', '.join(_FORMATS)}.")
    given = {}
    for param in params:
        name, separator, value = param.partition("=")
        if not separator or not name.isidentifier():
            raise InputError(f"-p {param}: expected name=value, for :name in the SQL.")
        given[name] = value  # text: the database knows what it is compared with
    if "run" in given:
        _tell_whole_id(ledger, given["run"])
    if output == "table":
        _print_table(ledger, sql, given, limit, timeout_s)
        return
    if output == "parquet" and sys.stdout.isatty():
        raise InputError("--format parquet writes bytes; send them to a file: … > rows.parquet")
    # First to a file: a slow reader must not hold the ledger, nor a failure leave half an answer.
    with tempfile.TemporaryFile() as file:
        try:
            if output == "parquet":
                with ledger.query_batches(sql, given, timeout_s) as (schema, batches):
                    _refuse_twins(schema.names)
                    write_parquet(file, schema, _first(batches, limit))
            else:
                with ledger.query_rows(sql, given, timeout_s) as (names, rows):
                    write = {"csv": _write_csv, "json": _write_json}[output]
                    write(file, names, islice(rows, limit or None))
        except pa.ArrowException as error:
            raise InputError(f"--format {output}: {error}. CAST that column in the SQL.") from error
        except OSError as error:
            raise EdcoError(
                f"the answer cannot be kept in {tempfile.gettempdir()} ({error.strerror}); "
                "name a folder with more room in TMPDIR"
            ) from error
        file.seek(0)
        sys.stdout.flush()
        shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.flush()


def write_parquet(file: Any, schema: pa.Schema, batches: Batches) -> int:
    """Write batches to a file as they come; the number of rows."""
    import pyarrow.parquet as pq

    num_rows = 0
    with pq.ParquetWriter(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            num_rows += batch.num_rows
    return num_rows


def _tell_whole_id(ledger: Ledger, run: str) -> None:
    """Commands take the beginning of a run's id; SQL would find nothing, without a word."""
    with suppress(EdcoError):
        if (found := ledger.find_run(run)) != run:
            say(f"no run is called {run!r}, and SQL needs the whole id: -p run={found}")


def _print_table(
    ledger: Ledger, sql: str, given: dict[str, str], limit: int | None, timeout_s: float
) -> None:
    is_cut = limit is None and sys.stdout.isatty()
    most = _TERMINAL_ROWS + 1 if is_cut else limit or None
    names, rows = ledger.query(sql, given, limit=most, timeout_s=timeout_s)
    # By position: two columns of a result may have one name.
    print_table(
        [
            {str(i): value for i, value in enumerate(row)}
            for row in (rows[:_TERMINAL_ROWS] if is_cut else rows)
        ],
        {str(i): name for i, name in enumerate(names)},
    )
    if is_cut and len(rows) > _TERMINAL_ROWS:
        say(f"first {_TERMINAL_ROWS} rows; --limit 0 shows all")


def _write_csv(file: IO[bytes], names: list[str], rows: Rows) -> None:
    lines = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv_writer(lines)
    writer.writerow(names)
    writer.writerows([cell(value) for value in row] for row in rows)
    lines.detach()


def _write_json(file: IO[bytes], names: list[str], rows: Rows) -> None:
    _refuse_twins(names)
    separator = "[\n  "
    for row in rows:
        record = dict(zip(names, map(queries.jsonable, row), strict=True))
        text = json.dumps(record, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        file.write(f"{separator}{text}".encode())
        separator = ",\n  "
    file.write(b"[]\n" if separator.startswith("[") else b"\n]\n")


def _refuse_twins(names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two columns are named {twice}: only one would be kept. Rename with AS.")


def _first(batches: Batches, limit: int | None) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in batches:
        if left:
            batch = batch.slice(0, left)
            left -= batch.num_rows
        yield batch
        if limit and not left:
            return
