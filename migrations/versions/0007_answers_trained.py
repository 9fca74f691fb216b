"""Groups of unequal size: how many answers were trained on, and their gradients where measured.

Revision ID: 0007
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None

views_sha256 = "4056bb0caab28cb98aefd83c68fcdd906d0b4ee5cc374432b91e5b50de726806"
"""The views this revision was released with: whoever changes a view adds a revision."""

NEW_COLUMNS = (
    "ALTER TABLE rollout_groups ADD COLUMN n_trained INTEGER",
    "ALTER TABLE rollout_groups ADD COLUMN gradient_correct DOUBLE PRECISION",
    "ALTER TABLE rollout_groups ADD COLUMN gradient_wrong DOUBLE PRECISION",
    "ALTER TABLE rollout_groups ADD COLUMN gradient_gap DOUBLE PRECISION",
)


def upgrade() -> None:
    for statement in NEW_COLUMNS:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("ledgers are only ever upgraded; restore a copy instead")
