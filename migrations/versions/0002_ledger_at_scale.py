"""The ledger at scale: partitions by what people filter by, shards as bytes, counts per sample.

Scores, selections and step slots name their run by its id as well, by which Postgres now
partitions them.  What is half scored moves into ``score_shards``; ``selected_samples`` is counted
once from what was selected so far.  Pools know whether their texts were kept; ``rollout_groups`` is
new.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from itertools import groupby

import numpy as np
from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

views_sha256 = "ee9c8819efccc4de140a50818d24816e1440b3db9b590e0ef35c1e16f45952da"
"""The views this revision was released with: whoever changes a view adds a revision."""

_SHARD_SAMPLES = 65_536

# {by_run} partitions on Postgres; columns as they waste least padding there.
TABLES = {
    "score_shards": """
    CREATE TABLE score_shards (
        run_key INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        shard INTEGER NOT NULL,
        ordinals {bytes} NOT NULL,
        scores {bytes} NOT NULL,
        n_tokens {bytes} NOT NULL,
        PRIMARY KEY (run_key, interval, shard)
    )
    """,
    "scores": """
    CREATE TABLE scores (
        run_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        score DOUBLE PRECISION NOT NULL,
        rank INTEGER NOT NULL,
        n_tokens INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        scored_at_interval SMALLINT NOT NULL,
        run_id {text} NOT NULL
    ) {by_run}
    """,
    "selections": """
    CREATE TABLE selections (
        run_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        score DOUBLE PRECISION NOT NULL,
        probability DOUBLE PRECISION,
        position INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        change SMALLINT NOT NULL,
        times_selected SMALLINT NOT NULL,
        streak SMALLINT NOT NULL,
        run_id {text} NOT NULL
    ) {by_run}
    """,
    "selected_samples": """
    CREATE TABLE selected_samples (
        run_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        score_first DOUBLE PRECISION NOT NULL,
        score_last DOUBLE PRECISION NOT NULL,
        score_sum DOUBLE PRECISION NOT NULL,
        times_selected INTEGER NOT NULL,
        streak SMALLINT NOT NULL,
        longest_streak SMALLINT NOT NULL,
        first_interval SMALLINT NOT NULL,
        last_interval SMALLINT NOT NULL,
        run_id {text} NOT NULL
    ) {by_run}
    """,
    "step_slots": """
    CREATE TABLE step_slots (
        run_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        step INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        run_id {text} NOT NULL
    ) {by_run}
    """,
    "rollout_groups": """
    CREATE TABLE rollout_groups (
        run_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        reward_mean DOUBLE PRECISION NOT NULL,
        reward_std DOUBLE PRECISION NOT NULL,
        advantage_abs_mean DOUBLE PRECISION NOT NULL,
        step INTEGER NOT NULL,
        n INTEGER NOT NULL,
        n_correct INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        run_id {text} NOT NULL
    ) {by_run}
    """,
}

PARTITIONED = ("scores", "selections", "selected_samples", "step_slots", "rollout_groups")

# Rows of an interval are written together and by ordinal, so that block ranges find one sample of
# one interval; a tree over all scores would take as long to fill as the table.
POSTGRES_INDICES = (
    "CREATE INDEX ON scores USING brin (interval, ordinal) WITH (pages_per_range = 32)",
    "CREATE INDEX ON selections USING brin (interval, ordinal) WITH (pages_per_range = 32)",
    "CREATE INDEX ON selected_samples (ordinal)",
    "CREATE INDEX ON selected_samples (times_selected, longest_streak)",
    "CREATE INDEX ON step_slots USING brin (step)",
    "CREATE INDEX ON step_slots (ordinal)",
    "CREATE INDEX ON rollout_groups USING brin (step)",
    "CREATE INDEX ON rollout_groups (ordinal)",
)

NEW_COLUMNS = (
    "ALTER TABLE datasets ADD COLUMN texts_kept BOOLEAN",
    "UPDATE datasets SET texts_kept = true",
    "ALTER TABLE pool_samples ADD COLUMN content_hash {text}",
    "ALTER TABLE pool_samples ADD COLUMN prompt_chars INTEGER",
    "ALTER TABLE pool_samples ADD COLUMN completion_chars INTEGER",
    "UPDATE pool_samples SET prompt_chars = length(prompt), completion_chars = length(completion)",
)

# score_sum: in the order of intervals, as the selections that follow go on adding to it.
_COUNT_SELECTED = """
INSERT INTO selected_samples
    (run_key, run_id, ordinal, score_first, score_last, score_sum, times_selected, streak,
     longest_streak, first_interval, last_interval)
SELECT
    a.run_key, l.run_id, a.ordinal, f.score, l.score, a.score_sum, l.times_selected, l.streak,
    a.longest_streak, a.first_interval, a.last_interval
FROM (
    SELECT run_key, ordinal, sum(score ORDER BY interval) AS score_sum,
           max(streak) AS longest_streak,
           min(interval) AS first_interval, max(interval) AS last_interval
    FROM selections GROUP BY run_key, ordinal
) a
JOIN selections f
    ON f.run_key = a.run_key AND f.ordinal = a.ordinal AND f.interval = a.first_interval
JOIN selections l
    ON l.run_key = a.run_key AND l.ordinal = a.ordinal AND l.interval = a.last_interval
ORDER BY a.run_key, a.ordinal
"""


def upgrade() -> None:
    connection = op.get_bind()
    on_postgres = connection.dialect.name == "postgresql"
    words = {
        "text": 'TEXT COLLATE "C"' if on_postgres else "TEXT",
        "bytes": "BYTEA" if on_postgres else "BLOB",
        "by_run": "PARTITION BY LIST (run_id)" if on_postgres else "",
    }
    runs = connection.execute(text("SELECT run_key, run_id FROM runs ORDER BY run_key")).all()
    moved = ("scores", "selections", "step_slots")
    for name in moved:
        if on_postgres:  # free the names for the new partitions and their indices
            for run_key, _ in runs:
                op.execute(f"ALTER TABLE {name}_{run_key} RENAME TO old_{name}_{run_key}")
        op.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
    for statement in TABLES.values():
        op.execute(statement.format(**words))
    if on_postgres:
        for statement in POSTGRES_INDICES:
            op.execute(statement)
        for run_key, run_id in runs:
            value = run_id.replace("'", "''").replace("%", "%%")
            for name in PARTITIONED:
                op.execute(f"CREATE TABLE {name}_{run_key} (LIKE {name} INCLUDING ALL)")
                connection.exec_driver_sql(
                    f"ALTER TABLE {name} ATTACH PARTITION {name}_{run_key} "
                    f"FOR VALUES IN ('{value}')"
                )
    for name in moved:
        old = list(connection.execute(text(f"SELECT * FROM old_{name} LIMIT 0")).keys())
        columns = ", ".join(f"o.{column}" for column in old)
        names = ", ".join(old)
        order = "o.interval, o.ordinal" if name != "step_slots" else "o.step, o.slot"
        op.execute(
            f"INSERT INTO {name} ({names}, run_id) SELECT {columns}, r.run_id FROM old_{name} o "
            f"JOIN runs r ON r.run_key = o.run_key ORDER BY o.run_key, {order}"
        )
    op.execute(_COUNT_SELECTED)
    _move_partial_scores()
    for name in moved:
        op.execute(f"DROP TABLE old_{name}")
    op.execute("DROP TABLE partial_scores")
    for statement in NEW_COLUMNS:
        op.execute(statement.format(**words))


def _move_partial_scores() -> None:
    connection = op.get_bind()
    rows = connection.execute(
        text(
            "SELECT run_key, interval, ordinal, score, n_tokens FROM partial_scores "
            "ORDER BY run_key, interval, ordinal"
        )
    )
    for (run_key, interval), group in groupby(rows, key=lambda row: (row[0], row[1])):
        members = list(group)
        for shard, start in enumerate(range(0, len(members), _SHARD_SAMPLES)):
            some = members[start : start + _SHARD_SAMPLES]
            connection.execute(
                text(
                    "INSERT INTO score_shards VALUES "
                    "(:run_key, :interval, :shard, :ordinals, :scores, :n_tokens)"
                ),
                {
                    "run_key": run_key,
                    "interval": interval,
                    "shard": shard,
                    "ordinals": np.array([row[2] for row in some], "<i4").tobytes(),
                    "scores": np.array([row[3] for row in some], "<f8").tobytes(),
                    "n_tokens": np.array([row[4] for row in some], "<i4").tobytes(),
                },
            )


def downgrade() -> None:
    raise NotImplementedError("ledgers are only ever upgraded; restore a copy instead")
