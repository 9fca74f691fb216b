"""``edco export``: everything the ledger's views say about a run, as one file per view."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TextIO
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from edco_core.errors import EdcoError, InputError
from flows.display import OnProgress, progress
from flows.reading import Answer
from storage import Ledger, queries
from storage.queries import Rows
from storage.views import VIEWS

_SLICE_ROWS = 1_000_000
"""Larger views are read interval by interval where a run could not write meanwhile."""


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...


def export_run(ledger: Ledger, prefix: str, form: str, folder: Path | None) -> Answer:
    """Write each view's rows about a run, and the samples of its data set, to a new folder.

    Rows go from the database to the file in batches, in no defined order. The folder appears when
    it is complete. On Postgres all files are of one moment; on DuckDB, where a run has to wait
    while the ledger is read, they are read one after another. Raises InputError for an unknown
    format and for a folder that exists.
    """
    if form not in _WRITERS:
        raise InputError(f"--format {form}: allowed are {', '.join(sorted(_WRITERS))}.")
    run_id = ledger.find_run(prefix)
    folder = Path(f"{run_id}-export") if folder is None else folder
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} exists already and is not overwritten; name another with -o.")
    unfinished = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.unfinished")
    moment: AbstractContextManager[None] = ledger.snapshot()
    if ledger.readers_block_writers:
        moment = nullcontext()
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made: {error.strerror}; name another with -o."
        ) from error
    try:
        with moment, progress(f"export of {run_id}") as on_progress:
            files = _write_views(ledger, run_id, form, unfinished, on_progress)
        unfinished.rename(folder)
    except OSError as error:
        raise EdcoError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    facts = {"run_id": run_id, "format": form, "folder": str(folder), "files": files}
    columns = {"file": "file", "rows": "rows", "bytes": "bytes"}
    return Answer(facts, files, columns, after=[f"written to {folder}"])


def _write_views(
    ledger: Ledger, run_id: str, form: str, folder: Path, on_progress: OnProgress
) -> Rows:
    with ledger.snapshot():
        about = queries.run(ledger, run_id)
        every = {view: ledger.view_schema(view) for view in VIEWS}
        # Others, such as comparisons, are of no single run.
        schemas = {
            view: schema
            for view, schema in every.items()
            if {"run_id", "dataset_id"} & set(schema.names)
        }
        filters = {
            view: {
                name: about[name]
                for name in ("run_id", "dataset_id")
                if name in schema.names and (name == "run_id" or "run_id" not in schema.names)
            }
            for view, schema in schemas.items()
        }
        sizes = _sizes(ledger, filters, queries.intervals(ledger, run_id))
    done, total = 0, sum(sizes.values())
    files = Rows(("view", "file", "rows", "bytes"), ())
    for view, schema in schemas.items():
        path, before = folder / f"{view}.{form}", done
        slices: list[dict[str, Any]] = [{}]
        by_interval = ledger.readers_block_writers and "interval" in schema.names
        if by_interval and sizes[view] > _SLICE_ROWS:
            slices = [{"interval": k} for k in range(-1, about["intervals_planned"])]
        with _WRITERS[form](path, schema) as writer:
            for one in slices:
                with ledger.view_batches(view, **filters[view], **one) as (_, batches):
                    for batch in batches:
                        writer.write_batch(batch)
                        done += batch.num_rows
                        on_progress(done, max(done, total))
        files.append(
            {"view": view, "file": path.name, "rows": done - before, "bytes": path.stat().st_size}
        )
    return files


def _sizes(ledger: Ledger, filters: dict[str, dict[str, Any]], intervals: Rows) -> dict[str, int]:
    """Rows of each view; the largest are known, and counting them takes long on Postgres."""
    sizes = {
        "sample_history": sum(row["n_scored"] or 0 for row in intervals),
        "curriculum": sum(row["n_selected"] or 0 for row in intervals),
    }
    for view in filters.keys() - sizes.keys():
        ((name, value),) = filters[view].items()
        sql = f"SELECT count(*) FROM {view} WHERE {name} = :value"
        sizes[view] = ledger.query(sql, {"value": value})[1][0][0]
    return sizes


@contextmanager
def _parquet(path: Path, schema: pa.Schema) -> Iterator[_Writer]:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, schema) as writer:
        yield writer


@contextmanager
def _csv(path: Path, schema: pa.Schema) -> Iterator[_Writer]:
    import pyarrow.csv

    with pyarrow.csv.CSVWriter(path, schema) as writer:
        yield writer


@contextmanager
def _jsonl(path: Path, schema: pa.Schema) -> Iterator[_Writer]:
    with path.open("w", encoding="utf-8") as file:
        yield _JsonLines(file)


class _JsonLines:
    """One JSON object per line; times as ISO 8601, numbers that are not finite as null."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write_batch(self, batch: pa.RecordBatch) -> None:
        columns = [
            pc.if_else(pc.is_finite(column), column, None)
            if pa.types.is_floating(column.type)
            else column
            for column in batch.columns
        ]
        names = batch.schema.names
        for row in zip(*(column.to_pylist() for column in columns), strict=True):
            line = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False, default=_iso)
            self._file.write(f"{line}\n")


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


_WRITERS: dict[str, Callable[[Path, pa.Schema], AbstractContextManager[_Writer]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
