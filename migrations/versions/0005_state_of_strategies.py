"""What strategies remember: a state with each selection, and beliefs about single samples.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

views_sha256 = "538d39440cd4a1f2c8b9c251c358c14b8f65412ab193ee2f67b18ee45d5e8876"
"""The views this revision was released with: whoever changes a view adds a revision."""

SAMPLE_BELIEFS = """
CREATE TABLE sample_beliefs (
    run_key INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    alpha DOUBLE PRECISION NOT NULL,
    beta DOUBLE PRECISION NOT NULL,
    interval SMALLINT NOT NULL,
    run_id {text} NOT NULL
) {by_run}
"""


def upgrade() -> None:
    connection = op.get_bind()
    on_postgres = connection.dialect.name == "postgresql"
    collated = 'TEXT COLLATE "C"' if on_postgres else "TEXT"
    op.execute(f"ALTER TABLE selection_rules ADD COLUMN state {collated}")
    op.execute(
        SAMPLE_BELIEFS.format(
            text=collated, by_run="PARTITION BY LIST (run_id)" if on_postgres else ""
        )
    )
    if not on_postgres:
        return
    op.execute("CREATE INDEX ON sample_beliefs (ordinal)")
    for run_key, run_id in connection.execute(
        text("SELECT run_key, run_id FROM runs ORDER BY run_key")
    ).all():
        value = run_id.replace("'", "''").replace("%", "%%")
        part = f"sample_beliefs_{run_key}"
        op.execute(f"CREATE TABLE {part} (LIKE sample_beliefs INCLUDING ALL)")
        connection.exec_driver_sql(
            f"ALTER TABLE sample_beliefs ATTACH PARTITION {part} FOR VALUES IN ('{value}')"
        )


def downgrade() -> None:
    raise NotImplementedError("ledgers are only ever upgraded; restore a copy instead")
