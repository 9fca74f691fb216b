"""How a new curriculum differs from the earlier ones, computed once, in the database.

``selected_samples`` has what is known of each sample selected so far, so that this costs the same
however many intervals there were: ``times_selected`` (up to and including the last) and ``streak``
(selected in that many intervals in a row, up to the last).
"""

from __future__ import annotations

import pyarrow as pa
from sqlalchemy import Column, Connection, MetaData, Table, bindparam, insert, text

from edco_core.records import Lease, Selection
from storage import tables
from storage.engine import Database
from storage.part import dump

_INCOMING = Table(
    "incoming_selection",
    MetaData(),
    *(
        Column(column.name, column.type)
        for column in tables.selections.columns
        if column.name in ("ordinal", "score", "probability", "position", "rank")
    ),
)

# e: the sample's last selection so far, if there was one.
_INSERT = """
INSERT INTO {selections}
    (run_key, run_id, ordinal, score, probability, position, rank, interval,
     change, times_selected, streak)
SELECT
    :key, :run_id, n.ordinal, n.score, n.probability, n.position, n.rank, :interval,
    CASE WHEN e.ordinal IS NULL THEN :first_time
         WHEN e.last_interval = :interval - 1 THEN :stayed ELSE :returned END,
    coalesce(e.times_selected, 0) + 1,
    CASE WHEN e.last_interval = :interval - 1 THEN e.streak + 1 ELSE 1 END
FROM incoming_selection n
LEFT JOIN {selected_samples} e ON e.run_key = :key AND e.ordinal = n.ordinal
ORDER BY n.ordinal
"""

_UPDATE_SELECTED = """
UPDATE {selected_samples} AS e SET
    score_last = x.score, score_sum = e.score_sum + x.score, times_selected = x.times_selected,
    streak = x.streak, longest_streak = greatest(e.longest_streak, x.streak),
    last_interval = x.interval
FROM {selections} x
WHERE x.run_key = :key AND x.interval = :interval AND x.times_selected > 1
    AND e.run_key = :key AND e.ordinal = x.ordinal
"""

_INSERT_SELECTED = """
INSERT INTO {selected_samples}
    (run_key, run_id, ordinal, score_first, score_last, score_sum, times_selected, streak,
     longest_streak, first_interval, last_interval)
SELECT run_key, run_id, ordinal, score, score, score, 1, 1, 1, interval, interval
FROM {selections} WHERE run_key = :key AND interval = :interval AND times_selected = 1
ORDER BY ordinal
"""


def insert_selection(
    database: Database, connection: Connection, lease: Lease, interval: int, selection: Selection
) -> None:
    """Write a curriculum with its change codes, its rule, and its turnover."""
    run_key = lease.run_key
    keys = {"key": run_key, "interval": interval}
    parts = {
        table.name: database.part(table, run_key)
        for table in (tables.selections, tables.selected_samples)
    }
    n_selected = len(selection.ordinals)
    connection.exec_driver_sql(
        "CREATE TEMPORARY TABLE incoming_selection (ordinal INTEGER, score DOUBLE PRECISION, "
        "probability DOUBLE PRECISION, position INTEGER, rank INTEGER)"
    )
    chances = selection.probabilities
    database.bulk_insert(
        connection,
        _INCOMING,
        pa.table(
            {
                "ordinal": selection.ordinals,
                "score": selection.scores,
                "probability": pa.nulls(n_selected, pa.float64()) if chances is None else chances,
                "position": pa.array(range(n_selected), pa.int32()),
                "rank": selection.ranks,
            }
        ),
    )
    integers = tables.selections.c.interval.type
    statement = text(_INSERT.format(**parts)).bindparams(
        bindparam("run_id", type_=tables.selections.c.run_id.type),
        *(
            bindparam(name, type_=integers)
            for name in ("key", "interval", "first_time", "returned", "stayed")
        ),
    )
    connection.execute(statement, {**keys, "run_id": lease.run_id, **tables.CHANGE_CODES})
    if interval > 0:
        connection.execute(text(_UPDATE_SELECTED.format(**parts)), keys)
    connection.execute(text(_INSERT_SELECTED.format(**parts)), keys)
    connection.exec_driver_sql("DROP TABLE incoming_selection")
    for table in (tables.selections, tables.selected_samples):
        database.refresh_statistics(connection, table, run_key, interval)
    connection.execute(
        insert(tables.selection_rules),
        {
            "run_key": run_key,
            "interval": interval,
            "reason": selection.reason,
            "cutoff": selection.cutoff,
            "facts": dump(selection.facts),
            "generator": dump(selection.generator),
        },
    )
    changes = dict.fromkeys(tables.CHANGE_CODES.values(), 0) | dict(
        connection.execute(
            text(
                f"SELECT change, count(*) FROM {parts['selections']} "
                "WHERE run_key = :key AND interval = :interval GROUP BY change"
            ),
            keys,
        ).all()
    )
    n_previous = connection.execute(
        text(
            "SELECT n_selected FROM interval_stats "
            "WHERE run_key = :key AND interval = :interval - 1"
        ),
        keys,
    ).scalar()
    n_stayed = changes[tables.CHANGE_CODES["stayed"]]
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
            "cutoff": selection.cutoff,
            "n_entered": n_selected - n_stayed,
            "n_first_time": changes[tables.CHANGE_CODES["first_time"]],
            "n_returned": changes[tables.CHANGE_CODES["returned"]],
            "n_stayed": n_stayed,
            "n_left": (n_previous or 0) - n_stayed,
            "jaccard": None if n_previous is None or union == 0 else n_stayed / union,
        },
    )
