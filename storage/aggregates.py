"""Pictures of a run's whole pool, aggregated by the database: what comes back is small.

On tables, not on views, whose joins the whole of a pool would go through.  A pool of more than
``MOST_SAMPLES`` is represented by every n-th sample, so that the database's memory stays flat as
well: samples are numbered by their ids, which are hashes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, text

from storage import tables
from storage.ledger import Ledger
from storage.part import retried, run_row
from storage.queries import Rows, jsonable

MOST_SAMPLES = 1_000_000

_SETTINGS = """
SELECT config, plan, versions FROM runs WHERE run_key = :key
"""

# interval NULL is the pool itself.
_COMPOSITION = """
SELECT CAST(NULL AS INTEGER) AS interval, p.category, count(*) AS n
FROM pool_samples p
WHERE p.dataset_key = :dataset AND p.ordinal % :stride = 0
GROUP BY p.category
UNION ALL
SELECT x.interval, p.category, count(*)
FROM {selections} x
JOIN pool_samples p ON p.dataset_key = :dataset AND p.ordinal = x.ordinal
WHERE x.run_key = :key AND x.ordinal % :stride = 0
GROUP BY x.interval, p.category
"""

# One row per cell of a grid that is not empty; its first column and row begin at low_mean and 0.
_DATA_MAP = """
WITH each AS (
    SELECT ordinal, avg(score) AS mean, coalesce(stddev_pop(score), 0) AS spread
    FROM {scores}
    WHERE run_key = :key AND ordinal % :stride = 0
    GROUP BY ordinal
), limits AS (
    SELECT min(mean) AS low_mean, max(mean) AS high_mean, max(spread) AS high_spread FROM each
), placed AS (
    SELECT each.ordinal, limits.*,
        least(:columns - 1, coalesce(floor(
            :columns * (mean - low_mean) / nullif(high_mean - low_mean, 0)), 0)) AS cell_x,
        least(:rows - 1, coalesce(floor(
            :rows * spread / nullif(high_spread, 0)), 0)) AS cell_y
    FROM each CROSS JOIN limits
)
SELECT cell_x, cell_y, count(*) AS n, avg(coalesce(e.times_selected, 0)) AS times_selected,
    min(low_mean) AS low_mean, min(high_mean) AS high_mean, min(high_spread) AS high_spread
FROM placed
LEFT JOIN {selected_samples} e ON e.run_key = :key AND e.ordinal = placed.ordinal
GROUP BY cell_x, cell_y
ORDER BY cell_x, cell_y
"""

_ORDINALS = """
SELECT sample_id, ordinal FROM pool_samples
WHERE dataset_key = :dataset AND sample_id IN :samples
"""

_HISTORIES = """
SELECT s.ordinal, s.interval, s.score, x.ordinal IS NOT NULL AS selected
FROM {scores} s
LEFT JOIN {selections} x
    ON x.run_key = :key AND x.ordinal = s.ordinal AND x.interval = s.interval
WHERE s.run_key = :key AND s.ordinal IN :ordinals
ORDER BY s.ordinal, s.interval
"""


def settings(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """A run's ``config``, ``plan`` and ``versions``. Raises NotFoundError."""
    (row,) = _ask(ledger, run_id, _SETTINGS)
    return {name: json.loads(value) for name, value in row.items()}


def composition(ledger: Ledger, run_id: str) -> Rows:
    """How many samples each category has in each curriculum, and in the pool (interval None).

    Of a pool larger than ``MOST_SAMPLES``, in every n-th sample of it.
    """
    return _ask(ledger, run_id, _COMPOSITION)


def data_map(ledger: Ledger, run_id: str, columns: int, rows: int) -> Rows:
    """Samples by the mean of their scores (``columns`` cells) and their spread (``rows`` cells).

    Each cell that is not empty has the number of its samples and how often they were selected on
    average; the spread is the standard deviation over the intervals. The limits of the grid are
    the same in all cells. Of a pool larger than ``MOST_SAMPLES``, every n-th sample.
    """
    return _ask(ledger, run_id, _DATA_MAP, columns=columns, rows=rows)


def histories(
    ledger: Ledger, run_id: str, sample_ids: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Interval, score and ``selected`` of some samples, by their ids."""
    if not sample_ids:
        return {}
    found = _ask(ledger, run_id, _ORDINALS, samples=list(sample_ids))
    names = {row["ordinal"]: row["sample_id"] for row in found}
    answer: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for row in _ask(ledger, run_id, _HISTORIES, ordinals=list(names)):
        answer[names[row.pop("ordinal")]].append(row)
    return answer


def stride(pool_size: int) -> int:
    """Every how many samples one stands for a pool."""
    return -(-pool_size // MOST_SAMPLES)


@retried
def _ask(ledger: Ledger, /, run_id: str, sql: str, **params: Any) -> Rows:
    """The answer of a statement; ``:key``, ``:dataset`` and ``:stride`` are those of the run."""
    database = ledger._database
    with database.reading() as connection:
        run = run_row(connection, run_id)
        if sql in (_COMPOSITION, _DATA_MAP):
            database.join_in_bulk(connection)
        parts = {
            table.name: database.part(table, run.run_key) for table in tables.PARTITIONED_BY_RUN
        }
        known = {"key": run.run_key, "dataset": run.dataset_key, "stride": stride(run.pool_size)}
        statement = text(sql.format(**parts))
        given = {name: known[name] for name in known if f":{name}" in sql} | params
        lists = [name for name, value in params.items() if isinstance(value, list)]
        found = connection.execute(
            statement.bindparams(*(bindparam(name, expanding=True) for name in lists)), given
        )
        columns = list(found.keys())
        return Rows(columns, (dict(zip(columns, map(jsonable, row), strict=True)) for row in found))
