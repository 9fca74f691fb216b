"""How a new curriculum differs from the earlier ones, computed once.

``selected_samples`` has what is known of each sample selected so far, so that this costs the same
however many intervals there were: ``times_selected`` (up to and including the last) and ``streak``
(selected in that many intervals in a row, up to the last).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, insert, text

from edco_core.records import Lease, Selection
from storage import tables
from storage.engine import Database
from storage.part import dump
from storage.stage_part import bulk_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.records import Ints

_UPDATE_SELECTED = """
UPDATE {selected_samples} AS e SET
    score_last = x.score, score_sum = e.score_sum + x.score, times_selected = x.times_selected,
    streak = x.streak, longest_streak = greatest(e.longest_streak, x.streak),
    last_interval = x.interval
FROM {selections} x
WHERE x.run_key = :key AND x.interval = :interval AND x.times_selected > 1
    AND e.run_key = :key AND e.ordinal = x.ordinal
"""

_NEVER = -2
"""Stands for the last interval of a sample that was not selected before: none comes after it."""


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What is known of samples before an interval: arrays of one length."""

    times_selected: NDArray[np.int32]
    streak: NDArray[np.int16]
    last_interval: NDArray[np.int16]


def insert_selection(
    database: Database,
    connection: Connection,
    lease: Lease,
    interval: int,
    pool_size: int,
    selection: Selection,
) -> None:
    """Write a curriculum with its change codes, its rule, and its turnover."""
    keys = {"key": lease.run_key, "interval": interval}
    n_selected = len(selection.ordinals)
    positions = np.argsort(selection.ordinals)
    ordinals = selection.ordinals[positions]
    earlier = _earlier(database, connection, lease, interval, pool_size, ordinals)
    new = earlier.times_selected == 0
    stayed = earlier.last_interval == interval - 1
    codes = tables.CHANGE_CODES
    change = np.select([new, stayed], [codes["first_time"], codes["stayed"]], codes["returned"])
    times_selected = earlier.times_selected + 1
    streak = np.where(stayed, earlier.streak + 1, 1)
    scores = selection.scores[positions]
    chances = selection.probabilities
    database.bulk_insert(
        connection,
        tables.selections,
        pa.table(
            {
                "ordinal": ordinals,
                "score": scores,
                "probability": (
                    pa.nulls(n_selected, pa.float64()) if chances is None else chances[positions]
                ),
                "position": positions,
                "rank": selection.ranks[positions],
                "change": change,
                "times_selected": times_selected,
                "streak": streak,
            }
        ),
        constants=bulk_keys(lease, interval),
    )
    if not new.all():
        parts = {
            table.name: database.part(table, lease.run_key)
            for table in (tables.selections, tables.selected_samples)
        }
        database.join_in_bulk(connection)
        connection.execute(text(_UPDATE_SELECTED.format(**parts)), keys)
    ones = np.ones(np.count_nonzero(new), np.int16)
    database.bulk_insert(
        connection,
        tables.selected_samples,
        pa.table(
            {
                "ordinal": ordinals[new],
                **dict.fromkeys(("score_first", "score_last", "score_sum"), scores[new]),
                **dict.fromkeys(("times_selected", "streak", "longest_streak"), ones),
                **dict.fromkeys(("first_interval", "last_interval"), ones * interval),
            }
        ),
        constants={"run_key": lease.run_key, "run_id": lease.run_id},
    )
    for table in (tables.selections, tables.selected_samples):
        database.refresh_statistics(connection, table, lease.run_key, interval)
    connection.execute(
        insert(tables.selection_rules),
        {
            "run_key": lease.run_key,
            "interval": interval,
            "reason": selection.reason,
            "cutoff": selection.cutoff,
            "facts": dump(selection.facts),
            "generator": dump(selection.generator),
            "state": dump(selection.state) if selection.state else None,
        },
    )
    if selection.beliefs is not None:
        beliefs = selection.beliefs
        database.bulk_insert(
            connection,
            tables.sample_beliefs,
            pa.table({"ordinal": beliefs.ordinals, "alpha": beliefs.alpha, "beta": beliefs.beta}),
            constants=bulk_keys(lease, interval),
        )
    n_first_time, n_stayed = int(np.count_nonzero(new)), int(np.count_nonzero(stayed))
    _update_stats(connection, keys, n_selected, n_first_time, n_stayed, selection.cutoff)


def _earlier(
    database: Database,
    connection: Connection,
    lease: Lease,
    interval: int,
    pool_size: int,
    ordinals: Ints,
) -> _Earlier:
    """What is known of these samples before the interval."""
    times_selected = np.zeros(pool_size, np.int32)
    streak = np.zeros(pool_size, np.int16)
    last_interval = np.full(pool_size, _NEVER, np.int16)
    if interval > 0:
        found = database.fetch_arrays(
            connection,
            "SELECT ordinal, times_selected, streak, last_interval "
            f"FROM {database.part(tables.selected_samples, lease.run_key)} WHERE run_key = :key",
            {"ordinal": "i4", "times_selected": "i4", "streak": "i2", "last_interval": "i2"},
            key=lease.run_key,
        )
        times_selected[found["ordinal"]] = found["times_selected"]
        streak[found["ordinal"]] = found["streak"]
        last_interval[found["ordinal"]] = found["last_interval"]
    return _Earlier(times_selected[ordinals], streak[ordinals], last_interval[ordinals])


def _update_stats(
    connection: Connection,
    keys: dict[str, Any],
    n_selected: int,
    n_first_time: int,
    n_stayed: int,
    cutoff: float | None,
) -> None:
    n_previous = connection.execute(
        text(
            "SELECT n_selected FROM interval_stats "
            "WHERE run_key = :key AND interval = :interval - 1"
        ),
        keys,
    ).scalar()
    union = n_selected + (n_previous or 0) - n_stayed
    connection.execute(
        text(
            "UPDATE interval_stats SET n_selected = :n_selected, cutoff = :cutoff, "
            "n_entered = :n_entered, n_first_time = :n_first_time, n_returned = :n_returned, "
            "n_stayed = :n_stayed, n_left = :n_left, jaccard = :jaccard "
            "WHERE run_key = :key AND interval = :interval"
        ),
        {
            **keys,
            "n_selected": n_selected,
            "cutoff": cutoff,
            "n_entered": n_selected - n_stayed,
            "n_first_time": n_first_time,
            "n_returned": n_selected - n_stayed - n_first_time,
            "n_stayed": n_stayed,
            "n_left": (n_previous or 0) - n_stayed,
            "jaccard": None if n_previous is None or union == 0 else n_stayed / union,
        },
    )
