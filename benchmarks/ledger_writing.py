"""Seconds of writing one interval's scores and curriculum: our verbs, the engine alone, SQLAlchemy.

The engine's own path writes the very rows our verbs leave in ``scores`` and ``selections``, which
are ready in memory and in the tables' order, into two tables of the same columns, in one
transaction, from opening the connection until the commit.  On DuckDB that is an Arrow insert into a
fresh file; that the log is merged into the file when the last connection is closed is on neither
side, except where it happens between transactions.  On Postgres it is a binary COPY, its encoding
included, into tables without indices, and again into tables with those of ours.

Our verbs write as a run does: one transaction for each shard, so that nothing is scored twice after
a crash, and one each to finish the checkpoint, scoring and selection.  They also check, rank, and
count turnover; the engine's path does not.  What the transactions alone cost is shown by the
engine's path with one for each shard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import MetaData, Table, create_engine, insert
from sqlalchemy.pool import NullPool

from benchmarks.ledger_databases import (
    DuckDB,
    Place,
    duckdb_file,
    duckdb_reading,
    new_ledgers,
    postgres_address,
    postgres_parts,
)
from benchmarks.ledger_rows import make_checkpoint, make_pool, make_spec, shards
from benchmarks.ledger_runs import say, select
from edco_core.records import Selection
from storage import Ledger, open_ledger, tables

NAMES = ("scores", "selections")
"""The two tables."""

Rows = dict[str, pa.Table]


@dataclass
class Seconds:
    """Repeat after repeat, the same in all lists."""

    ours: list[dict[str, float]] = field(default_factory=list)
    """By verb, ``create_run`` to ``finish_selection``."""
    engine: list[dict[str, float]] = field(default_factory=list)
    """By table."""
    engine_per_shard: list[dict[str, float]] = field(default_factory=list)
    """By table, each shard in a connection and a transaction of its own, as our verbs do."""
    engine_with_indices: list[dict[str, float]] = field(default_factory=list)
    """By table; empty on DuckDB, where our tables have none."""
    sqlalchemy: list[float] = field(default_factory=list)
    """Both tables, scaled from ``num_sqlalchemy`` scores and a fourth as many selections."""


def measure_writing(
    all_places: tuple[Place, ...],
    *,
    pool_size: int,
    shard_rows: int,
    num_repeats: int,
    num_sqlalchemy: int,
) -> dict[str, Seconds]:
    """By database; within a repeat, all ways in turns."""
    pool = make_pool(pool_size)
    rows: Rows = {}
    found = {}
    for place in all_places:
        seconds = found[place.name] = Seconds()
        with new_ledgers(place) as new:
            url = new()
            ledger = open_ledger(url)
            ledger.register_pool(pool)
            _write_ours(ledger, 0, pool_size, shard_rows)  # to warm up
            if isinstance(place, DuckDB):
                rows = _rows_of(url)
            at_once, per_shard = [rows], _per_shard(rows, shard_rows)
            for repeat in range(num_repeats):
                say(f"{place.name}: writing, {repeat + 1} of {num_repeats}")
                seconds.ours.append(_write_ours(ledger, repeat + 1, pool_size, shard_rows))
                if isinstance(place, DuckDB):
                    seconds.engine.append(_arrow_insert(new, place, at_once))
                    seconds.engine_per_shard.append(_arrow_insert(new, place, per_shard))
                    alchemy_url = new()
                else:
                    seconds.engine.append(_copy(url, at_once))
                    seconds.engine_per_shard.append(_copy(url, per_shard))
                    seconds.engine_with_indices.append(_copy(url, at_once, with_indices=True))
                    alchemy_url = url
                few = {
                    name: rows[name].slice(0, max(1, num_sqlalchemy * len(rows[name]) // pool_size))
                    for name in NAMES
                }
                seconds.sqlalchemy.append(
                    _executemany(alchemy_url, few) * pool_size / len(few["scores"])
                )
                if isinstance(place, DuckDB):
                    place.drop(alchemy_url)
    return found


def _write_ours(ledger: Ledger, number: int, pool_size: int, shard_rows: int) -> dict[str, float]:
    spec = make_spec(number, pool_size, intervals=1)
    all_shards = list(shards(spec, 0, shard_rows))
    scores = np.empty(pool_size)
    for shard in all_shards:
        scores[shard.ordinals] = shard.scores
    selection: Selection = select(spec, 0, scores)
    start = time.perf_counter()
    lease = ledger.create_run(spec, "benchmark")
    ledger.finish_checkpoint(lease, make_checkpoint(spec, 0), None, 1.0)
    begun = time.perf_counter()
    for shard in all_shards:
        ledger.add_scores(lease, 0, shard)
    added = time.perf_counter()
    ledger.finish_scoring(lease, 0, 1.0)
    scored = time.perf_counter()
    ledger.finish_selection(lease, 0, selection, 1.0)
    return {
        "create_run, finish_checkpoint": begun - start,
        "add_scores": added - begun,
        "finish_scoring": scored - added,
        "finish_selection": time.perf_counter() - scored,
    }


def _rows_of(url: str) -> Rows:
    """What the one run of a DuckDB ledger left in the two tables."""
    with duckdb_reading(url) as connection:
        return {
            name: connection.sql(
                f"SELECT {', '.join(tables.metadata.tables[name].columns.keys())} FROM {name}"
            ).to_arrow_table()
            for name in NAMES
        }


def _per_shard(rows: Rows, shard_rows: int) -> list[Rows]:
    """The transactions of somebody who keeps every shard of scores at once."""
    scores, selections = (rows[name] for name in NAMES)
    starts = range(0, len(scores), shard_rows)
    return [
        *({NAMES[0]: scores.slice(start, shard_rows)} for start in starts),
        {NAMES[1]: selections},
    ]


def _arrow_insert(
    new: Callable[[], str], place: Place, transactions: list[Rows]
) -> dict[str, float]:
    url = new()
    _make_tables(url)
    seconds = _timed_by_table(
        transactions,
        connect=lambda: duckdb.connect(duckdb_file(url)).begin(),
        write=lambda connection, name, rows: connection.register("incoming", rows).execute(
            f"INSERT INTO raw_{name} SELECT * FROM incoming"
        ),
    )
    place.drop(url)
    return seconds


def _copy(url: str, transactions: list[Rows], *, with_indices: bool = False) -> dict[str, float]:
    if with_indices:
        with psycopg.connect(postgres_address(url)) as connection:
            for name in NAMES:
                ours = postgres_parts(connection, name)[0]
                connection.execute(f"CREATE TABLE raw_{name} (LIKE {ours} INCLUDING ALL)")
    else:
        _make_tables(url)

    def write(connection: psycopg.Connection[Any], name: str, rows: pa.Table) -> None:
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY raw_{name} FROM STDIN (FORMAT BINARY)") as copy,
        ):
            for batch in _binary(rows):
                copy.write(batch)

    seconds = _timed_by_table(
        transactions, connect=lambda: psycopg.connect(postgres_address(url)), write=write
    )
    _drop_tables(url)
    return seconds


def _timed_by_table(
    transactions: list[Rows],
    *,
    connect: Callable[[], Any],
    write: Callable[[Any, str, pa.Table], object],
) -> dict[str, float]:
    """A connection for each transaction; a table's seconds hold what begins or ends with it."""
    seconds = dict.fromkeys(NAMES, 0.0)
    connection = None
    start = time.perf_counter()
    for rows in transactions:
        if connection is not None:
            connection.close()
        connection = connect()
        for position, (name, part) in enumerate(rows.items(), start=1):
            write(connection, name, part)
            if position == len(rows):
                connection.commit()
            end = time.perf_counter()
            seconds[name] += end - start
            start = end
    if connection is not None:
        connection.close()
    return seconds


def _binary(rows: pa.Table, batch_rows: int = 65_536) -> Any:
    """Postgres's binary format, in parts: per row the number of columns, per value its length."""
    yield b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    for batch in rows.to_batches(max_chunksize=batch_rows):
        kinds: list[tuple[str, str]] = [("columns", ">i2")]
        arrays: dict[str, Any] = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            kinds.append((f"bytes of {name}", ">i4"))
            if column.null_count == len(column):
                continue
            if pa.types.is_string(column.type):
                (only,) = pc.unique(column).to_pylist()  # the run's id
                arrays[name] = np.array(only.encode())
            else:
                arrays[name] = column.to_numpy(zero_copy_only=False)
            kinds.append((name, arrays[name].dtype.newbyteorder(">").str))
        packed = np.empty(len(batch), dtype=kinds)
        packed["columns"] = batch.num_columns
        for name in batch.schema.names:
            packed[f"bytes of {name}"] = arrays[name].itemsize if name in arrays else -1
            if name in arrays:
                packed[name] = arrays[name]
        yield packed.tobytes()
    yield b"\xff\xff"


def _executemany(url: str, rows: Rows) -> float:
    """SQLAlchemy Core, a dict for each row; these are made outside the time."""
    made = _make_tables(url)
    records = {name: rows[name].to_pylist() for name in NAMES}
    engine = create_engine(url, poolclass=NullPool)
    start = time.perf_counter()
    with engine.begin() as connection:
        for name in NAMES:
            connection.execute(insert(made[name]), records[name])
    seconds = time.perf_counter() - start
    _drop_tables(url)
    return seconds


def _make_tables(url: str) -> Mapping[str, Table[Any]]:
    """Tables with the columns of ours, without indices or partitions."""
    metadata = MetaData()
    made = {
        name: tables.metadata.tables[name].to_metadata(metadata, name=f"raw_{name}")
        for name in NAMES
    }
    metadata.create_all(create_engine(url, poolclass=NullPool), checkfirst=False)
    return made


def _drop_tables(url: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for name in NAMES:
            connection.exec_driver_sql(f"DROP TABLE raw_{name}")
