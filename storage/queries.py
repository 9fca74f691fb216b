"""The questions people ask a ledger, each one SQL statement over the public views.

Each function returns plain values that ``json.dumps`` takes: times as ISO 8601 in UTC, NaN as
None. The statements are constants so that documentation can show exactly what is asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from edco_core.errors import NotFoundError
from storage.ledger import Ledger

RUNS = """
SELECT * FROM run_summary ORDER BY created_at DESC, run_id
"""

RUN = """
SELECT * FROM run_summary WHERE run_id = :run_id
"""

INTERVALS = """
SELECT * FROM interval_summary WHERE run_id = :run_id ORDER BY interval
"""

TURNOVER = """
SELECT * FROM turnover WHERE run_id = :run_id ORDER BY interval
"""

DIFFICULT = """
SELECT d.*, s.category, s.prompt
FROM (
    SELECT * FROM persistent_samples
    WHERE run_id = :run_id AND longest_streak >= :min_streak
    ORDER BY times_selected DESC, longest_streak DESC, score_last DESC, sample_id
    LIMIT :limit
) d
JOIN run_summary r ON r.run_id = d.run_id
JOIN samples s ON s.dataset_id = r.dataset_id AND s.sample_id = d.sample_id
ORDER BY d.times_selected DESC, d.longest_streak DESC, d.score_last DESC, d.sample_id
"""

WHY_SAMPLE = """
SELECT s.* FROM samples s
JOIN run_summary r ON r.dataset_id = s.dataset_id
WHERE r.run_id = :run_id AND s.sample_id >= :low AND s.sample_id < :high
ORDER BY s.sample_id LIMIT 6
"""

WHY_HISTORY = """
SELECT h.interval, h.score, h.n_tokens, h.rank, h.percentile, h.selected, h.position,
       c.probability, h.reason, i.cutoff, c.change, h.checkpoint_id, h.scored_at_interval,
       i.n_scored, i.n_selected, i.selection_facts
FROM sample_history h
JOIN interval_summary i ON i.run_id = h.run_id AND i.interval = h.interval
LEFT JOIN curriculum c
    ON c.run_id = h.run_id AND c.interval = h.interval AND c.sample_id = h.sample_id
WHERE h.run_id = :run_id AND h.sample_id = :sample_id
ORDER BY h.interval
"""

EVALUATIONS = """
SELECT * FROM evaluations WHERE run_id = :run_id
ORDER BY interval, metric, category NULLS FIRST
"""


_LAST = chr(0x10FFFF)


def jsonable(value: Any) -> Any:
    """A value as the database gives it, as ``json.dumps`` takes it."""
    if isinstance(value, datetime):
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def runs(ledger: Ledger) -> list[dict[str, Any]]:
    """All runs, newest first; ``alive`` says whether somebody holds a lease right now."""
    return [_with_life(ledger, row) for row in _ask(ledger, RUNS)]


def run(ledger: Ledger, run_id: str) -> dict[str, Any]:
    """One run. Raises NotFoundError."""
    rows = _ask(ledger, RUN, run_id=run_id)
    if not rows:
        raise NotFoundError(f"no run {run_id!r} in the ledger; see what there is: edco runs")
    return _with_life(ledger, rows[0])


def intervals(ledger: Ledger, run_id: str) -> list[dict[str, Any]]:
    """A run, interval by interval, as far as it got."""
    return _ask(ledger, INTERVALS, run_id=run_id)


def turnover(ledger: Ledger, run_id: str) -> list[dict[str, Any]]:
    """How each curriculum differs from the one before."""
    return _ask(ledger, TURNOVER, run_id=run_id)


def difficult(
    ledger: Ledger, run_id: str, limit: int = 20, min_streak: int = 1
) -> list[dict[str, Any]]:
    """Samples selected most often, with at least ``min_streak`` intervals in a row."""
    return _ask(ledger, DIFFICULT, run_id=run_id, limit=limit, min_streak=min_streak)


def why(ledger: Ledger, run_id: str, sample_id: str, interval: int | None = None) -> dict[str, Any]:
    """Why a sample is in or out: the sample, and per interval its score, rank, cutoff and rule.

    ``sample_id`` may be shortened. ``selection_facts`` are the rule's parameters, None before
    the selection is made; ``reason`` is given where the sample was selected.
    Raises NotFoundError for an unknown or ambiguous sample, and for an interval without a score.
    """
    # Ids that begin so are those from the prefix up to the prefix followed by the last character.
    found = _ask(ledger, WHY_SAMPLE, run_id=run_id, low=sample_id, high=f"{sample_id}{_LAST}")
    exact = [row for row in found if row["sample_id"] == sample_id]
    found = exact or found
    if not found:
        raise NotFoundError(
            f"run {run_id} has no sample {sample_id!r}; ids are in the view samples, "
            f"the hard ones in: edco difficult {run_id}"
        )
    if len(found) > 1:
        listed = ", ".join(row["sample_id"] for row in found[:5])
        raise NotFoundError(f"{sample_id!r} fits several samples: {listed}; give more of the id")
    history = _ask(ledger, WHY_HISTORY, run_id=run_id, sample_id=found[0]["sample_id"])
    for row in history:
        row["selection_facts"] = json.loads(row["selection_facts"] or "null")
    if interval is not None:
        known = [row["interval"] for row in history]
        history = [row for row in history if row["interval"] == interval]
        if not history:
            raise NotFoundError(
                f"run {run_id} has no score of {found[0]['sample_id']} at interval {interval}; "
                f"there are intervals {known}"
            )
    return {"run_id": run_id, "sample": found[0], "history": history}


def evaluations(ledger: Ledger, run_id: str) -> list[dict[str, Any]]:
    """Every metric of a run: interval -1 is before training, category None the whole set."""
    return _ask(ledger, EVALUATIONS, run_id=run_id)


def _ask(ledger: Ledger, sql: str, **params: Any) -> list[dict[str, Any]]:
    with ledger._database.reading() as connection:
        rows = connection.execute(text(sql), params).mappings()
        return [{name: jsonable(value) for name, value in row.items()} for row in rows]


def _with_life(ledger: Ledger, row: dict[str, Any]) -> dict[str, Any]:
    expires_at = row["lease_expires_at"]
    now = jsonable(datetime.now(UTC))
    return {**row, "alive": expires_at is not None and expires_at > now}
