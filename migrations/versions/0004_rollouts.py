"""Reinforcement learning: groups of answers, their texts, and the entropy of the policy.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

views_sha256 = "5a880e8ba33ab4272e8a438742f514056655eac24f4dfa4a383f578ce3a964a9"
"""The views this revision was released with: whoever changes a view adds a revision."""

NEW_COLUMNS = (
    "ALTER TABLE interval_stats ADD COLUMN policy_entropy DOUBLE PRECISION",
    "ALTER TABLE interval_stats ADD COLUMN reward_mean DOUBLE PRECISION",
    "ALTER TABLE interval_stats ADD COLUMN n_groups INTEGER",
    "ALTER TABLE interval_stats ADD COLUMN n_without_signal INTEGER",
    "ALTER TABLE interval_stats ADD COLUMN n_passed_over INTEGER",
    "ALTER TABLE interval_stats ADD COLUMN n_answers BIGINT",
    "ALTER TABLE interval_stats ADD COLUMN n_correct BIGINT",
    "ALTER TABLE optimizer_steps ADD COLUMN policy_entropy DOUBLE PRECISION",
    "ALTER TABLE optimizer_steps ADD COLUMN kl DOUBLE PRECISION",
    "ALTER TABLE rollout_groups ADD COLUMN n_tokens_mean DOUBLE PRECISION",
    "ALTER TABLE rollout_groups ADD COLUMN truncated_share DOUBLE PRECISION",
    "ALTER TABLE rollout_groups ADD COLUMN draw INTEGER",
    "ALTER TABLE rollout_groups ADD COLUMN slot INTEGER",
)

ROLLOUT_ANSWERS = """
CREATE TABLE rollout_answers (
    run_key INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    reward DOUBLE PRECISION NOT NULL,
    step INTEGER NOT NULL,
    draw INTEGER NOT NULL,
    number INTEGER NOT NULL,
    n_tokens INTEGER NOT NULL,
    interval SMALLINT NOT NULL,
    is_correct BOOLEAN NOT NULL,
    truncated BOOLEAN NOT NULL,
    answer {text} NOT NULL,
    run_id {text} NOT NULL
) {by_run}
"""


def upgrade() -> None:
    connection = op.get_bind()
    on_postgres = connection.dialect.name == "postgresql"
    for statement in NEW_COLUMNS:
        op.execute(statement)
    op.execute(
        ROLLOUT_ANSWERS.format(
            text='TEXT COLLATE "C"' if on_postgres else "TEXT",
            by_run="PARTITION BY LIST (run_id)" if on_postgres else "",
        )
    )
    if not on_postgres:
        return
    op.execute("CREATE INDEX ON rollout_answers (ordinal)")
    for run_key, run_id in connection.execute(
        text("SELECT run_key, run_id FROM runs ORDER BY run_key")
    ).all():
        value = run_id.replace("'", "''").replace("%", "%%")
        part = f"rollout_answers_{run_key}"
        op.execute(f"CREATE TABLE {part} (LIKE rollout_answers INCLUDING ALL)")
        connection.exec_driver_sql(
            f"ALTER TABLE rollout_answers ATTACH PARTITION {part} FOR VALUES IN ('{value}')"
        )


def downgrade() -> None:
    raise NotImplementedError("ledgers are only ever upgraded; restore a copy instead")
