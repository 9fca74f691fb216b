"""Pools: the samples of a data set, kept once however many runs use them; with or without texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, bindparam, delete, insert, select, text

from edco_core.errors import InputError, LedgerError, NotFoundError
from edco_core.records import Pool
from storage import tables
from storage.part import LedgerPart, next_key, retried

_BATCH_ROWS = 50_000
_LISTED = 5
_TEXTS = ("prompt", "completion", "answer", "metadata")
_COLUMNS = ("sample_id", "category", *_TEXTS, "source", "content_hash")
_PRIVATE_PROBLEM = (
    "not kept, since it may quote the row (store.keep_texts: false); "
    "edco validate CONFIG --set data.on_bad_rows=error shows the first"
)


class Pools(LedgerPart):
    """Verbs about data sets."""

    @retried
    def register_pool(self, pool: Pool, keep_texts: bool = True) -> None:
        """Keep the pool's samples and skipped rows; of a known pool, skipped rows of another file.

        Without ``keep_texts`` no prompt, completion, answer or metadata goes to the database, nor
        what was wrong with skipped rows, which may quote them.  A data set known without its texts
        is entered anew with them when they are to be kept.  Raises InputError when they are not,
        but runs of this ledger kept them.

        Categories and metadata are no part of a data set's identity: where they came otherwise they
        are corrected, for earlier runs, too.
        """
        with self._database.writing() as connection:
            self._database.lock(connection, "datasets")
            known = connection.execute(
                select(tables.datasets).where(tables.datasets.c.dataset_id == pool.fingerprint)
            ).first()
            if known is not None and known.size != len(pool):
                raise LedgerError(
                    f"data set {pool.fingerprint} has {known.size} samples in the ledger, "
                    f"{len(pool)} came"
                )
            is_same = known is not None and known.texts_kept == keep_texts
            if known is not None and is_same and self._has_labels(connection, known, pool):
                self._keep_skipped(connection, known.dataset_key, pool, keep_texts)
                return
            if known is None:
                key = next_key(connection, "datasets", "dataset_key")
            else:
                if not keep_texts:
                    self._refuse_kept_texts(connection, [pool.fingerprint])
                key = known.dataset_key
                gone = [tables.datasets, tables.pool_samples]
                for table in gone if is_same else [*gone, tables.bad_rows]:
                    connection.execute(delete(table).where(table.c.dataset_key == key))
            self._database.bulk_insert(
                connection,
                tables.pool_samples,
                _sample_batches(pool, keep_texts),
                constants={"dataset_key": key},
            )
            self._database.analyze(connection, "pool_samples")
            self._keep_skipped(connection, key, pool, keep_texts)
            connection.execute(
                insert(tables.datasets),
                {
                    "dataset_key": key,
                    "dataset_id": pool.fingerprint,
                    "source": pool.source,
                    "size": len(pool),
                    "conversational": pool.conversational,
                    "num_duplicates": pool.num_duplicates,
                    "created_at": self._database.utc_now(connection),
                    "texts_kept": keep_texts,
                },
            )

    def _has_labels(self, connection: Connection, known: Any, pool: Pool) -> bool:
        """Whether the ledger has the pool's categories and, with texts, its metadata."""
        names = ["category", "metadata"] if known.texts_kept else ["category"]
        columns = [tables.pool_samples.c[name] for name in names]
        rows = connection.execute(
            select(*columns)
            .where(tables.pool_samples.c.dataset_key == known.dataset_key)
            .order_by(tables.pool_samples.c.ordinal)
        )
        for batch in pool.table.select(names).to_batches(max_chunksize=_BATCH_ROWS):
            kept = [tuple(row) for row in rows.fetchmany(batch.num_rows)]
            if kept != list(zip(*(column.to_pylist() for column in batch.columns), strict=True)):
                return False
        return True

    def _keep_skipped(
        self, connection: Connection, dataset_key: int, pool: Pool, keep_texts: bool
    ) -> None:
        """Keep skipped rows that are not kept yet: another file may have the same good rows."""
        rows = {
            (row.source, row.problem if keep_texts else _PRIVATE_PROBLEM) for row in pool.skipped
        }
        table = tables.bad_rows
        known = connection.execute(
            select(table.c.source, table.c.problem).where(table.c.dataset_key == dataset_key)
        )
        new = rows - {(source, problem) for source, problem in known}
        if new:
            connection.execute(
                insert(table),
                [
                    {"dataset_key": dataset_key, "source": source, "problem": problem}
                    for source, problem in sorted(new)
                ],
            )

    @retried
    def refuse_kept_texts(self, dataset_ids: Sequence[str]) -> None:
        """Raise InputError where runs have put texts of these data sets into the ledger."""
        with self._database.reading() as connection:
            self._refuse_kept_texts(connection, dataset_ids)

    def _refuse_kept_texts(self, connection: Connection, dataset_ids: Sequence[str]) -> None:
        for dataset_id in dataset_ids:
            kept_by = connection.execute(
                text(
                    "SELECT r.run_id FROM datasets d JOIN runs r "
                    "ON r.dataset_key = d.dataset_key OR r.eval_dataset_id = d.dataset_id "
                    "WHERE d.dataset_id = :dataset_id AND d.texts_kept ORDER BY r.run_key"
                ),
                {"dataset_id": dataset_id},
            ).scalars()
            run_ids = list(kept_by)
            if run_ids:
                some = ", ".join(run_ids[:_LISTED])
                more = f" and {len(run_ids) - _LISTED} more" if len(run_ids) > _LISTED else ""
                raise InputError(
                    f"store.keep_texts: false came, but the ledger {self._database.address} has "
                    f"the texts of data set {dataset_id} already, for run {some}{more}. Give "
                    "another ledger with --store URL; or remove those runs (edco runs rm RUN, then "
                    "edco db vacuum); or let the texts be there: store.keep_texts=true"
                )

    @retried
    def sample_places(
        self, dataset_id: str, sample_ids: Sequence[str]
    ) -> dict[str, tuple[str, str | None]]:
        """Hash of the content, and file and line, of samples by id; the unknown are left out."""
        statement = text(
            "SELECT p.sample_id, p.content_hash, p.source FROM datasets d JOIN pool_samples p "
            "ON p.dataset_key = d.dataset_key "
            "WHERE d.dataset_id = :dataset_id AND p.content_hash IS NOT NULL "
            "AND p.sample_id IN :ids"
        ).bindparams(bindparam("ids", expanding=True))
        with self._database.reading() as connection:
            return {
                row.sample_id: (row.content_hash, row.source)
                for row in _in_slices(connection, statement, dataset_id, "ids", sample_ids)
            }

    @retried
    def pool_size(self, dataset_id: str) -> int:
        """Samples of a data set. Raises NotFoundError."""
        with self._database.reading() as connection:
            size = connection.execute(
                select(tables.datasets.c.size).where(tables.datasets.c.dataset_id == dataset_id)
            ).scalar()
        if size is None:
            raise NotFoundError(f"no data set {dataset_id!r} in the ledger")
        return int(size)

    @retried
    def pool_texts(self, dataset_id: str, ordinals: Sequence[int]) -> list[dict[str, str | None]]:
        """Samples as they are in a pool's table, as asked for; texts that were not kept are None.

        For showing a few samples: raises NotFoundError when one of them does not exist.
        """
        wanted = [int(ordinal) for ordinal in ordinals]
        statement = text(
            "SELECT p.ordinal, p.sample_id, p.category, p.prompt, p.completion, p.answer, "
            "p.metadata, p.source, p.content_hash FROM datasets d JOIN pool_samples p "
            "ON p.dataset_key = d.dataset_key "
            "WHERE d.dataset_id = :dataset_id AND p.ordinal IN :ordinals"
        ).bindparams(bindparam("ordinals", expanding=True))
        with self._database.reading() as connection:
            found = {
                row.ordinal: {name: getattr(row, name) for name in _COLUMNS}
                for row in _in_slices(connection, statement, dataset_id, "ordinals", wanted)
            }
        missing = [ordinal for ordinal in wanted if ordinal not in found]
        if missing:
            raise NotFoundError(f"data set {dataset_id!r} has no samples {missing[:5]}")
        return [found[ordinal] for ordinal in wanted]


def _in_slices(
    connection: Connection, statement: Any, dataset_id: str, name: str, values: Sequence[Any]
) -> Iterator[Any]:
    """Rows of a query about some of a data set's samples, however many those are."""
    for start in range(0, len(values), 1000):
        some = list(values[start : start + 1000])
        yield from connection.execute(statement, {"dataset_id": dataset_id, name: some})


def _sample_batches(pool: Pool, keep_texts: bool) -> Iterable[pa.RecordBatch]:
    """The pool's rows as they are stored; texts that are not kept do not get any further."""
    kept = [name for name in _COLUMNS if keep_texts or name not in _TEXTS]
    start = 0
    for batch in pool.table.select(_COLUMNS).to_batches(max_chunksize=_BATCH_ROWS):
        columns = {
            "ordinal": pa.array(range(start, start + batch.num_rows), pa.int32()),
            **{name: batch[name] for name in kept},
            "prompt_chars": pc.utf8_length(batch["prompt"]),
            "completion_chars": pc.utf8_length(batch["completion"]),
        }
        yield pa.RecordBatch.from_pydict(columns)
        start += batch.num_rows
