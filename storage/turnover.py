"""How a new curriculum differs from the earlier ones, computed once, in the database.

Two counters on every selected row make this cheap for ever: ``times_selected`` (up to and
including this interval) and ``streak`` (selected in that many intervals in a row).
"""

from __future__ import annotations

import pyarrow as pa
from sqlalchemy import Column, Connection, MetaData, Table, bindparam, insert, text

from edco_core.records import Selection
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

# e: what earlier intervals selected; p: the interval just before.
_INSERT = """
INSERT INTO selections
    (run_key, ordinal, score, probability, position, rank, interval,
     change, times_selected, streak)
SELECT
    :key, n.ordinal, n.score, n.probability, n.position, n.rank, :interval,
    CASE WHEN e.ordinal IS NULL THEN :first_time
         WHEN p.ordinal IS NULL THEN :returned ELSE :stayed END,
    coalesce(e.times, 0) + 1,
    coalesce(p.streak, 0) + 1
FROM incoming_selection n
LEFT JOIN (
    SELECT ordinal, count(*) AS times FROM selections
    WHERE run_key = :key AND interval < :interval GROUP BY ordinal
) e ON e.ordinal = n.ordinal
LEFT JOIN (
    SELECT ordinal, streak FROM selections
    WHERE run_key = :key AND interval = :interval - 1
) p ON p.ordinal = n.ordinal
ORDER BY n.position
"""


def insert_selection(
    database: Database, connection: Connection, run_key: int, interval: int, selection: Selection
) -> None:
    """Write a curriculum with its change codes, its rule, and its turnover."""
    keys = {"key": run_key, "interval": interval}
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
    connection.execute(
        text(_INSERT).bindparams(
            *(
                bindparam(name, type_=integers)
                for name in ("key", "interval", "first_time", "returned", "stayed")
            )
        ),
        {**keys, **tables.CHANGE_CODES},
    )
    connection.exec_driver_sql("DROP TABLE incoming_selection")
    database.refresh_statistics(connection, tables.selections, run_key)
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
                "SELECT change, count(*) FROM selections "
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
