"""A whole ledger copied to another place, on either database, and compared there.

Until all has arrived and agrees, the copy carries no revision but ``UNFINISHED``, which every
command refuses and only another copy to the same place clears away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, LargeBinary, Table, func, select, text

from edco_core.errors import InputError, LedgerError
from storage.duckdb_file import OnProgress
from storage.engine import Database
from storage.schema import (
    EARLIER_TABLES,
    HEAD_REVISION,
    UNFINISHED,
    apply_migrations,
    check_revision,
    current_revision,
    drop_views,
    refuse_foreign,
)
from storage.tables import PARTITIONED_BY_RUN, metadata, runs
from storage.upkeep import TABLES, IsDead, refuse_owned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

Progress = Callable[[str], AbstractContextManager[OnProgress]]
Passed = Callable[[int], None]
Reading = Callable[[], AbstractContextManager[Connection]]

_LEASE = ("lease_owner", "lease_expires_at")
"""Columns of ``runs`` that are not copied: nobody owns a run of the copy."""

_MEMORY_LIMIT = "1GB"
"""What DuckDB may keep in memory of what it has read or written, of each of two ledgers.

Not while it reads or writes arrays, or writes them into its file later: it needs all in memory
then, 16 bytes for each sample scored in the interval.
"""

# A transaction of Postgres takes a lock on each table and index it touches, and has some thousands
# of them; what is inserted in one transaction stays in the memory of DuckDB.
_GROUP_PIECES = 100
_GROUP_RUNS = 20
_GROUP_ROWS = 1 << 20

_RUNS = select(runs.c.run_key, runs.c.run_id).order_by(runs.c.run_key)

_NULL = np.uint64(0x9E3779B97F4A7C15)
"""What stands for a null among the words of a column."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied, and agrees."""

    num_runs: int
    rows: Mapping[str, int]
    """By table."""

    @property
    def num_rows(self) -> int:
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is copied in one transaction: a table, or a run's rows of one."""

    table: Table
    run: tuple[int, str] | None = None
    """Key and id."""

    def __str__(self) -> str:
        return self.table.name + (f" of run {self.run[1]}" if self.run else "")

    @property
    def has_arrays(self) -> bool:
        return any(isinstance(column.type, LargeBinary) for column in self.table.columns)

    @property
    def constants(self) -> dict[str, int | str]:
        """The columns that ``batches`` leaves out."""
        keys: dict[str, int | str] = {}
        if self.run:
            keys = {"run_key": self.run[0], "run_id": self.run[1]}
        return {name: value for name, value in keys.items() if name in self.table.c}

    def count(self, database: Database, connection: Connection) -> int:
        rows = select(func.count()).select_from(self.table)
        if self.run:
            part = self.table.name
            if self.table in PARTITIONED_BY_RUN:
                part = database.part(self.table, self.run[0])
            rows = select(func.count()).select_from(text(part))
            rows = rows.where(text("run_key = :key").bindparams(key=self.run[0]))
        return int(connection.execute(rows).scalar_one())

    def batches(
        self,
        database: Database,
        connection: Connection,
        contents: Contents,
        passed: Passed,
    ) -> Iterator[pa.RecordBatch]:
        """The rows as they are to be in the copy; ``contents`` has seen them after that."""
        for stored in database.table_batches(connection, self.table, self.run):
            batch = _without_lease(stored) if self.table is runs else stored
            contents.add(batch)
            passed(batch.num_rows)
            yield batch


class Contents:
    """Number of rows, and a sum that tells any two sets of rows apart, in whatever order.

    The sum of one hash per row, modulo 2^64. Values are hashed by their bits, so that the last one
    of a score counts; equal values in the two databases have equal bits.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self._sum = 0

    def add(self, batch: pa.RecordBatch) -> None:
        hashes = np.full(batch.num_rows, batch.num_columns, np.uint64)
        for column in batch.columns:
            hashes = _mixed(hashes ^ _words(column))
        self.num_rows += batch.num_rows
        self._sum = (self._sum + int(hashes.sum(dtype=np.uint64))) % 2**64

    def __str__(self) -> str:
        return f"{self.num_rows} rows with checksum {self._sum:016x}"


def db_copy(
    source_url: str,
    target_url: str,
    *,
    progress: Progress = lambda what: nullcontext(lambda done, total: None),
    is_dead: IsDead | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> Copied:
    """Copy a ledger, as it is at this moment, to a place without one, and compare both.

    Runs are owned by nobody in the copy. Memory does not grow with the ledger, but with the scores
    of one interval that is not scored to its end. ``progress(what)`` shows rows: (done, of how
    many).
    Raises InputError for a target that is not empty, LedgerVersionError for a source of another
    version, RunBusyError while a run of the source is being worked on (of whose owner ``is_dead``
    does not say that he is gone), and LedgerError when source and copy differ.
    """
    source = Database(source_url, read_only=True, on_wait=on_wait)
    target = Database(target_url, on_wait=on_wait)
    with source.reading() as connection:  # before anything is made
        _check_source(source, connection, is_dead)
    with target.held("copy"):
        _make_room(target)
        with source.frozen() as reading:
            with reading() as connection:
                _check_source(source, connection, is_dead)
                run_ids = [(key, run_id) for key, run_id in connection.execute(_RUNS)]
            groups = _groups(source, reading, run_ids)
            total = sum(group.num_rows for group in groups)
            _make_tables(target, run_ids)
            with progress("copying") as update:
                passed = _counted(update, total)
                for group in groups:
                    _send(source, reading, target, group, passed)
        with progress("comparing") as update:
            passed = _counted(update, total)
            for group in groups:
                _compare(target, group, passed)
        with target.writing() as connection:
            _set_revision(connection, HEAD_REVISION)
        target.vacuum(TABLES)
    rows = dict.fromkeys(metadata.tables, 0)
    for group in groups:
        for piece in group.pieces:
            rows[piece.table.name] += group.sent[piece].num_rows
    return Copied(len(run_ids), rows)


@dataclass(slots=True)
class _Group:
    """Pieces copied in one transaction: few enough for its locks, or one however large."""

    num_rows: int
    pieces: list[_Piece]
    sent: dict[_Piece, Contents]
    """What went to the target, by piece."""


def _groups(source: Database, reading: Reading, run_ids: Sequence[tuple[int, str]]) -> list[_Group]:
    """All that has rows; arrays come last."""
    pieces = []
    for table in metadata.tables.values():
        whole = _Piece(table)
        if table in PARTITIONED_BY_RUN or whole.has_arrays:
            pieces += [_Piece(table, run) for run in run_ids]
        else:
            pieces.append(whole)
    pieces.sort(key=lambda piece: piece.has_arrays)
    groups: list[_Group] = []
    for start in range(0, len(pieces), _GROUP_PIECES):
        with reading() as connection:
            for piece in pieces[start : start + _GROUP_PIECES]:
                num_rows = piece.count(source, connection)
                last = groups[-1] if groups else None
                if not num_rows:
                    continue
                if (
                    last is None
                    or last.num_rows + num_rows > _GROUP_ROWS
                    or len(last.pieces) == _GROUP_PIECES
                    or last.pieces[-1].has_arrays != piece.has_arrays
                ):
                    groups.append(_Group(num_rows, [piece], {}))
                else:
                    last.num_rows += num_rows
                    last.pieces.append(piece)
    return groups


def _send(
    source: Database, reading: Reading, target: Database, group: _Group, passed: Passed
) -> None:
    with reading() as here, target.writing() as there:
        limit = None if group.pieces[0].has_arrays else _MEMORY_LIMIT
        source.spare_memory(here, limit)
        target.spare_memory(there, limit)
        for piece in group.pieces:
            contents = group.sent[piece] = Contents()
            batches = piece.batches(source, here, contents, passed)
            target.bulk_insert(there, piece.table, batches, constants=piece.constants)


def _compare(target: Database, group: _Group, passed: Passed) -> None:
    with target.reading() as connection:
        for piece, sent in group.sent.items():
            arrived = Contents()
            for _ in piece.batches(target, connection, arrived, passed):
                pass
            if str(arrived) != str(sent):
                raise LedgerError(
                    f"the copy differs in {piece}: {arrived} came to {target.address}, {sent} went "
                    "there. No command will use it; copying again begins anew"
                )


def _check_source(source: Database, connection: Connection, is_dead: IsDead | None) -> None:
    check_revision(source, current_revision(connection))
    refuse_owned(source, connection, is_dead)


def _make_room(target: Database) -> None:
    """Refuse a place that holds anything but a copy that did not come to its end; clear that."""
    with target.reading() as connection:
        revision = current_revision(connection)
        if revision is None:
            refuse_foreign(target, connection)
            return
        if revision != UNFINISHED:
            raise InputError(
                f"there is a ledger at {target.address} already, and copies go to empty places "
                "only; name another"
            )
    with target.writing() as connection:
        drop_views(connection)
    target.remove_tables((*EARLIER_TABLES, *TABLES))


def _make_tables(target: Database, run_ids: Sequence[tuple[int, str]]) -> None:
    with target.writing() as connection:
        target.lock(connection, "migration")
        apply_migrations(connection)
        _set_revision(connection, UNFINISHED)
    for start in range(0, len(run_ids), _GROUP_RUNS):
        with target.writing() as connection:
            for run_key, run_id in run_ids[start : start + _GROUP_RUNS]:
                target.make_partitions(connection, run_key, run_id)


def _set_revision(connection: Connection, revision: str) -> None:
    connection.execute(
        text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
    )


def _counted(update: OnProgress, total: int) -> Passed:
    done = 0

    def passed(num_rows: int) -> None:
        nonlocal done
        done += num_rows
        update(done, total)

    return passed


def _without_lease(batch: pa.RecordBatch) -> pa.RecordBatch:
    for name in _LEASE:
        index = batch.schema.get_field_index(name)
        field = batch.schema.field(index)
        batch = batch.set_column(index, field, pa.nulls(batch.num_rows, field.type))
    return batch


def _mixed(words: Words) -> Words:
    """Every bit of the result depends on every bit of the word (the finish of SplitMix64)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _words(column: pa.Array) -> Words:
    """64 bits for each value: its own, or a hash of its bytes."""
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        # A text that comes again and again is hashed once.
        coded = column.cast(pa.binary()).fill_null(b"").dictionary_encode()
        import pandas as pd

        values = np.array([*coded.dictionary.to_pylist(), b""], dtype=object)
        words = pd.util.hash_array(values, categorize=False)[coded.indices.to_numpy()]
    elif pa.types.is_floating(column.type):
        words = column.fill_null(0.0).to_numpy(zero_copy_only=False).view(np.uint64)
    else:
        words = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    found: Words = np.where(column.is_null().to_numpy(zero_copy_only=False), _NULL, words)
    return found
