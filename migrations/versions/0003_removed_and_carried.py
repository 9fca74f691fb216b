"""Checkpoints that were removed, and pools of which only a part was scored anew.

The table ``checkpoints`` makes room for the view of that name.  So far every sample was scored at
every interval.  On Postgres shards are no longer compressed in vain, block ranges are small enough
to find one sample quickly, and filling ``selected_samples`` costs one tree less.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

views_sha256 = "57904e127ad310d07dd963ad786569f65ca798821185a40e28af8ddeab61840b"
"""The views this revision was released with: whoever changes a view adds a revision."""


ON_POSTGRES = (
    "ALTER INDEX checkpoints_pkey RENAME TO saved_checkpoints_pkey",
    "ALTER TABLE score_shards ALTER COLUMN ordinals SET STORAGE EXTERNAL, "
    "ALTER COLUMN scores SET STORAGE EXTERNAL, ALTER COLUMN n_tokens SET STORAGE EXTERNAL",
    "DROP INDEX selected_samples_ordinal_idx",
    "CREATE INDEX ON selected_samples USING brin (ordinal) WITH (pages_per_range = 64)",
    "DROP INDEX scores_interval_ordinal_idx",
    "CREATE INDEX ON scores USING brin (interval, ordinal) WITH (pages_per_range = 16)",
    "DROP INDEX selections_interval_ordinal_idx",
    "CREATE INDEX ON selections USING brin (interval, ordinal) WITH (pages_per_range = 16)",
)


def upgrade() -> None:
    op.execute("ALTER TABLE checkpoints RENAME TO saved_checkpoints")
    if op.get_bind().dialect.name == "postgresql":
        for statement in ON_POSTGRES:
            op.execute(statement)
    op.execute("ALTER TABLE saved_checkpoints ADD COLUMN removed_at TIMESTAMP")
    op.execute("ALTER TABLE interval_stats ADD COLUMN n_rescored INTEGER")
    op.execute("ALTER TABLE interval_stats ADD COLUMN recall_estimate DOUBLE PRECISION")
    op.execute("UPDATE interval_stats SET n_rescored = n_scored")


def downgrade() -> None:
    raise NotImplementedError("ledgers are only ever upgraded; restore a copy instead")
