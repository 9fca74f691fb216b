"""Alarms of the guard, comparisons, and groups of answers of unequal size with their gradients.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

views_sha256 = "f09bc11f6a3a62f86911734141345c726c73c2853de8a26b677d14cc7a7f9700"
"""The views this revision was released with: whoever changes a view adds a revision."""

NEW_COLUMNS = (
    "ALTER TABLE rollout_groups ADD COLUMN n_trained INTEGER",
    "ALTER TABLE rollout_groups ADD COLUMN gradient_correct DOUBLE PRECISION",
    "ALTER TABLE rollout_groups ADD COLUMN gradient_wrong DOUBLE PRECISION",
    "ALTER TABLE rollout_groups ADD COLUMN gradient_gap DOUBLE PRECISION",
)

TABLES = (
    """
CREATE TABLE guard_alarms (
    run_key INTEGER NOT NULL,
    interval SMALLINT NOT NULL,
    alarm {text} NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    threshold DOUBLE PRECISION NOT NULL,
    action {text} NOT NULL,
    message {text} NOT NULL,
    PRIMARY KEY (run_key, interval, alarm)
)
""",
    """
CREATE TABLE comparison_rows (
    experiment {text} NOT NULL,
    label {text} NOT NULL,
    strategy {text} NOT NULL,
    n_seeds INTEGER NOT NULL,
    n_failed INTEGER NOT NULL,
    metric {text} NOT NULL,
    mean DOUBLE PRECISION,
    ci_low DOUBLE PRECISION,
    ci_high DOUBLE PRECISION,
    tail_mean DOUBLE PRECISION,
    difference DOUBLE PRECISION,
    difference_low DOUBLE PRECISION,
    difference_high DOUBLE PRECISION,
    n_pairs INTEGER NOT NULL,
    p_value DOUBLE PRECISION,
    p_adjusted DOUBLE PRECISION,
    p_sign_flip DOUBLE PRECISION,
    steps INTEGER NOT NULL,
    seconds DOUBLE PRECISION,
    scoring_seconds DOUBLE PRECISION,
    steps_to_reference INTEGER,
    seconds_to_reference DOUBLE PRECISION,
    made_at TIMESTAMP NOT NULL
)
""",
    """
CREATE TABLE calibrations (
    experiment {text} NOT NULL,
    measured {text} NOT NULL,
    settings_sha256 {text} NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    made_at TIMESTAMP NOT NULL,
    PRIMARY KEY (experiment, measured, settings_sha256)
)
""",
)


def upgrade() -> None:
    for statement in NEW_COLUMNS:
        op.execute(statement)
    on_postgres = op.get_bind().dialect.name == "postgresql"
    for statement in TABLES:
        op.execute(statement.format(text='TEXT COLLATE "C"' if on_postgres else "TEXT"))


def downgrade() -> None:
    raise NotImplementedError("ledgers are only ever upgraded; restore a copy instead")
