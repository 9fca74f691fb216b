"""The questions people ask a ledger, each one SQL statement over the public views.

Each function returns plain values that ``json.dumps`` takes: times as ISO 8601 in UTC, NaN as
None. The statements are constants so that documentation can show exactly what is asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from edco_core.errors import NotFoundError
from storage.ledger import Ledger
from storage.part import retried

RUNS = """
SELECT * FROM run_summary ORDER BY created_at DESC, run_id
"""

RUN = """
SELECT * FROM run_summary WHERE run_id = :run
"""

INTERVALS = """
SELECT * FROM interval_summary WHERE run_id = :run ORDER BY interval
"""

TURNOVER = """
SELECT * FROM turnover WHERE run_id = :run ORDER BY interval
"""

_DIFFICULT = """
SELECT d.run_id, d.dataset_id, s.sample_id, d.times_selected, d.longest_streak, d.first_interval,
       d.last_interval, d.score_first, d.score_last, d.score_mean, s.category, s.prompt
FROM (
    SELECT * FROM persistent_ordinals
    WHERE run_id = :run AND longest_streak >= :min_streak{condition}
    ORDER BY times_selected DESC, longest_streak DESC, score_last DESC, ordinal
    LIMIT :limit
) d
JOIN samples s ON s.dataset_id = d.dataset_id AND s.ordinal = d.ordinal
ORDER BY d.times_selected DESC, d.longest_streak DESC, d.score_last DESC, d.ordinal
"""

DIFFICULT = _DIFFICULT.format(condition="")

NEVER_LEARNED = _DIFFICULT.format(condition=" AND score_last >= score_first")

NEVER_SOLVED = """
SELECT p.sample_id, CAST(count(*) AS INTEGER) AS n_intervals,
       CAST(sum(p.n) AS INTEGER) AS n_answers, avg(h.percentile) AS percentile_mean,
       max(h.score) AS score_max
FROM pass_rates p
JOIN sample_history h
    ON h.run_id = p.run_id AND h.interval = p.interval AND h.sample_id = p.sample_id
WHERE p.run_id = :run AND h.run_id = :run
GROUP BY p.sample_id
HAVING sum(p.n_correct) = 0 AND avg(h.percentile) >= 75
ORDER BY score_max DESC, p.sample_id
LIMIT :limit
"""

SOLVED_AT_LAST = """
SELECT e.sample_id, e.first_interval, e.last_interval, l.pass_rate,
       a.score AS score_first, b.score AS score_last
FROM (
    SELECT sample_id, min(interval) AS first_interval, max(interval) AS last_interval
    FROM pass_rates WHERE run_id = :run GROUP BY sample_id
) e
JOIN pass_rates f
    ON f.run_id = :run AND f.sample_id = e.sample_id AND f.interval = e.first_interval
JOIN pass_rates l
    ON l.run_id = :run AND l.sample_id = e.sample_id AND l.interval = e.last_interval
JOIN sample_history a
    ON a.run_id = :run AND a.sample_id = e.sample_id AND a.interval = e.first_interval
JOIN sample_history b
    ON b.run_id = :run AND b.sample_id = e.sample_id AND b.interval = e.last_interval
WHERE f.n_correct = 0 AND l.pass_rate >= 0.5
ORDER BY l.pass_rate DESC, e.sample_id
LIMIT :limit
"""

WHY_SAMPLE = """
SELECT * FROM samples
WHERE dataset_id = :dataset AND sample_id >= :low AND sample_id < :high
ORDER BY sample_id LIMIT 6
"""

WHY_HISTORY = """
SELECT interval, score, n_tokens, rank, percentile, selected, position, probability, reason,
       change, checkpoint_id, scored_at_interval
FROM sample_history
WHERE run_id = :run AND sample_id = :sample
ORDER BY interval
"""

# Apart from WHY_HISTORY: planning both views at once takes DuckDB longer than both answers.
WHY_INTERVALS = """
SELECT interval, cutoff, n_scored, n_selected, selection_reason, selection_facts, n_groups
FROM interval_summary WHERE run_id = :run
"""

# Only of reinforcement learning.
WHY_ANSWERS = """
SELECT interval, n AS n_answers, n_correct FROM pass_rates
WHERE run_id = :run AND sample_id = :sample
"""

WHY_BELIEFS = """
SELECT interval, alpha, beta FROM beliefs WHERE run_id = :run AND sample_id = :sample
"""

_OF_ANSWERS = ("n_answers", "n_correct", "alpha", "beta")

CHECKPOINTS = """
SELECT * FROM checkpoints WHERE run_id = :run ORDER BY interval
"""

EVALUATIONS = """
SELECT * FROM evaluations WHERE run_id = :run
ORDER BY interval, metric, category NULLS FIRST
"""

SAMPLE_AT = """
SELECT s.sample_id FROM samples s
JOIN run_summary r ON r.dataset_id = s.dataset_id
WHERE r.run_id = :run AND s.ordinal = :ordinal
"""


_LAST = chr(0x10FFFF)


class Rows(list[dict[str, Any]]):
    """An answer: its rows, and the names of its columns also where there are no rows."""

    def __init__(self, columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> None:
        super().__init__(rows)
        self.columns = tuple(columns)


def jsonable(value: Any) -> Any:
    """A value as the database gives it, as ``json.dumps`` takes it."""
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, (float, Decimal)) and not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def best_checkpoint(checkpoints: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of rows of the view ``checkpoints``, trained and measured, the one with the best metric.

    The earliest of equals; None where nothing was measured.
    """
    measured = [row for row in checkpoints if row["interval"] > 0 and row["metric"] is not None]
    return max(measured, key=lambda row: float(row["metric"]), default=None)


def runs(ledger: Ledger) -> Rows:
    """All runs, newest first; ``alive`` says whether somebody holds a lease right now."""
    return _with_life(_ask(ledger, RUNS))


def run(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """One run. Raises NotFoundError."""
    rows = _with_life(_ask(ledger, RUN, run=run_id))
    if not rows:
        raise NotFoundError(f"no run {run_id!r} in the ledger; see what there is: edco runs")
    return rows[0]


def intervals(ledger: Ledger, run_id: str) -> Rows:
    """A run, interval by interval, as far as it got."""
    return _ask(ledger, INTERVALS, run=run_id)


def turnover(ledger: Ledger, run_id: str) -> Rows:
    """How each curriculum differs from the one before."""
    return _ask(ledger, TURNOVER, run=run_id)


def difficult(
    ledger: Ledger,
    run_id: str,
    limit: int = 20,
    min_streak: int = 1,
    *,
    never_learned: bool = False,
) -> Rows:
    """Samples selected most often, with at least ``min_streak`` intervals in a row.

    ``never_learned``: only those that scored no lower when they were selected the last time than
    the first time.
    """
    sql = NEVER_LEARNED if never_learned else DIFFICULT
    return _ask(ledger, sql, run=run_id, limit=limit, min_streak=min_streak)


def why(ledger: Ledger, run_id: str, sample_id: str, interval: int | None = None) -> dict[str, Any]:
    """Why a sample is in or out: the sample, and per interval its score, rank, cutoff and rule.

    ``sample_id`` may be shortened. ``selection_facts`` are the rule's parameters, None before
    the selection is made; ``reason`` is given where the sample was selected. In reinforcement
    learning also how many answers the sample got in an interval, and ``alpha`` and ``beta`` of the
    belief that it was selected by, both None where there are none.
    Raises NotFoundError for an unknown or ambiguous sample, and for an interval without a score.
    """
    with ledger.snapshot():
        # Ids that begin so are those from the prefix up to the prefix and the last character.
        dataset_id = ledger.run_state(run_id).dataset_id
        high = f"{sample_id}{_LAST}"
        found = _ask(ledger, WHY_SAMPLE, dataset=dataset_id, low=sample_id, high=high)
        exact = [row for row in found if row["sample_id"] == sample_id]
        if not found:
            raise NotFoundError(
                f"run {run_id} has no sample {sample_id!r}; ids are in the view samples, "
                f"the hard ones in: edco difficult {run_id}"
            )
        if len(exact or found) > 1:
            listed = ", ".join(row["sample_id"] for row in found[:5])
            raise NotFoundError(
                f"{sample_id!r} fits several samples: {listed}; give more of the id"
            )
        (sample,) = exact or found
        scored = _ask(ledger, WHY_HISTORY, run=run_id, sample=sample["sample_id"])
        intervals = _ask(ledger, WHY_INTERVALS, run=run_id)
        num_groups = [row.pop("n_groups") for row in intervals]
        rules = {row["interval"]: row | dict.fromkeys(_OF_ANSWERS) for row in intervals}
        if any(num is not None for num in num_groups):
            for sql in (WHY_ANSWERS, WHY_BELIEFS):
                for row in _ask(ledger, sql, run=run_id, sample=sample["sample_id"]):
                    rules[row["interval"]] |= row
    columns = dict.fromkeys((*scored.columns, *intervals.columns, *_OF_ANSWERS))
    del columns["n_groups"]
    history = Rows(columns, ({**row, **rules[row["interval"]]} for row in scored))
    for row in history:
        row["selection_facts"] = json.loads(row["selection_facts"] or "null")
    answer = {"run_id": run_id, "sample": sample, "history": history}
    return answer if interval is None else at_interval(answer, interval)


def at_interval(answer: dict[str, Any], interval: int) -> dict[str, Any]:
    """The answer of ``why`` for one interval only. Raises NotFoundError when that has no score."""
    history: Rows = answer["history"]
    rows = [row for row in history if row["interval"] == interval]
    if not rows:
        there_are = f"there are intervals {[row['interval'] for row in history]}"
        raise NotFoundError(
            f"run {answer['run_id']} has no score of {answer['sample']['sample_id']} at interval "
            f"{interval}; {there_are if history else 'no interval has been scored yet'}"
        )
    return {**answer, "history": Rows(history.columns, rows)}


def evaluations(ledger: Ledger, run_id: str) -> Rows:
    """Every metric of a run: interval -1 is before training, category None the whole set."""
    return _ask(ledger, EVALUATIONS, run=run_id)


def checkpoints(ledger: Ledger, run_id: str) -> Rows:
    """The weights each interval started from: path, metric, and whether they were removed."""
    return _ask(ledger, CHECKPOINTS, run=run_id)


def sample_at(ledger: Ledger, run_id: str, ordinal: int) -> str:
    """The id of the sample at a place of the run's pool."""
    (row,) = _ask(ledger, SAMPLE_AT, run=run_id, ordinal=ordinal)
    return str(row["sample_id"])


@retried
def _ask(ledger: Ledger, /, sql: str, **params: Any) -> Rows:
    with ledger._database.reading() as connection:
        found = connection.execute(text(sql), params)
        columns = list(found.keys())
        return Rows(columns, (dict(zip(columns, map(jsonable, row), strict=True)) for row in found))


def _with_life(runs: Rows) -> Rows:
    now = jsonable(datetime.now(UTC))
    return Rows(
        (*runs.columns, "alive"),
        (
            {**row, "alive": bool(row["lease_expires_at"] and row["lease_expires_at"] > now)}
            for row in runs
        ),
    )
