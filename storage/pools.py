"""Pools: the samples of a data set, kept once however many runs use them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sqlalchemy import bindparam, insert, select, text

from edco_core.errors import LedgerError, NotFoundError
from edco_core.records import Pool
from storage import tables
from storage.part import LedgerPart, next_key, retried

_BATCH_ROWS = 50_000
_COLUMNS = ("sample_id", "category", "prompt", "completion", "answer", "metadata", "source")


class Pools(LedgerPart):
    """Verbs about data sets."""

    @retried
    def register_pool(self, pool: Pool) -> None:
        """Keep the pool's samples and skipped rows; nothing is done for one that is known."""
        with self._database.writing() as connection:
            self._database.lock(connection, "datasets")
            known = connection.execute(
                select(tables.datasets.c.size).where(
                    tables.datasets.c.dataset_id == pool.fingerprint
                )
            ).scalar()
            if known is not None:
                if known != len(pool):
                    raise LedgerError(
                        f"data set {pool.fingerprint} has {known} samples in the ledger, "
                        f"{len(pool)} came"
                    )
                return
            key = next_key(connection, "datasets", "dataset_key")
            start = 0
            for batch in pool.table.select(_COLUMNS).to_batches(max_chunksize=_BATCH_ROWS):
                rows = pa.Table.from_batches([batch])
                rows = rows.add_column(
                    0, "ordinal", pa.array(np.arange(start, start + batch.num_rows))
                ).add_column(0, "dataset_key", pa.repeat(key, batch.num_rows))
                self._database.bulk_insert(connection, tables.pool_samples, rows)
                start += batch.num_rows
            if pool.skipped:
                connection.execute(
                    insert(tables.bad_rows),
                    [
                        {"dataset_key": key, "source": row.source, "problem": row.problem}
                        for row in pool.skipped
                    ],
                )
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
                },
            )

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
        """Id, category, prompt, completion, answer, metadata and source of samples, as asked for.

        For showing a few samples: raises NotFoundError when one of them does not exist.
        """
        wanted = [int(ordinal) for ordinal in ordinals]
        statement = text(
            "SELECT p.ordinal, p.sample_id, p.category, p.prompt, p.completion, p.answer, "
            "p.metadata, p.source FROM datasets d JOIN pool_samples p "
            "ON p.dataset_key = d.dataset_key "
            "WHERE d.dataset_id = :dataset_id AND p.ordinal IN :ordinals"
        ).bindparams(bindparam("ordinals", expanding=True))
        found: dict[int, dict[str, str | None]] = {}
        with self._database.reading() as connection:
            for start in range(0, len(wanted), 1000):
                rows = connection.execute(
                    statement, {"dataset_id": dataset_id, "ordinals": wanted[start : start + 1000]}
                ).mappings()
                for row in rows:
                    found[row["ordinal"]] = {name: row[name] for name in _COLUMNS}
        missing = [ordinal for ordinal in wanted if ordinal not in found]
        if missing:
            raise NotFoundError(f"data set {dataset_id!r} has no samples {missing[:5]}")
        return [found[ordinal] for ordinal in wanted]
