"""The first ledger: data sets, runs, stages, scores, selections, training.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

views_sha256 = "c0e546426cc5d0b12e24d118e8a4d97ec2e9069cbb8d7b13bb7088578bd11f8e"
"""The views this revision was released with: whoever changes a view adds a revision."""

# {text} is text that sorts by code point on either database; {by_run} partitions on Postgres.
TABLES = (
    """
    CREATE TABLE datasets (
        dataset_key INTEGER NOT NULL PRIMARY KEY,
        dataset_id {text} NOT NULL UNIQUE,
        source {text} NOT NULL,
        size INTEGER NOT NULL,
        conversational BOOLEAN NOT NULL,
        num_duplicates INTEGER NOT NULL,
        created_at TIMESTAMP NOT NULL
    )
    """,
    """
    CREATE TABLE bad_rows (
        dataset_key INTEGER NOT NULL,
        source {text} NOT NULL,
        problem {text} NOT NULL
    )
    """,
    """
    CREATE TABLE pool_samples (
        dataset_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        sample_id {text} NOT NULL,
        category {text},
        prompt {text},
        completion {text},
        answer {text},
        metadata {text},
        source {text}
    )
    """,
    """
    CREATE TABLE runs (
        run_key INTEGER NOT NULL PRIMARY KEY,
        run_id {text} NOT NULL UNIQUE,
        name {text} NOT NULL,
        experiment {text},
        seed BIGINT NOT NULL,
        strategy {text} NOT NULL,
        scorer {text} NOT NULL,
        trainer {text} NOT NULL,
        model {text} NOT NULL,
        dataset_key INTEGER NOT NULL,
        eval_dataset_id {text},
        metric {text},
        intervals_planned INTEGER NOT NULL,
        pool_size INTEGER NOT NULL,
        top_n INTEGER NOT NULL,
        run_dir {text} NOT NULL,
        config {text} NOT NULL,
        plan {text} NOT NULL,
        versions {text} NOT NULL,
        status {text} NOT NULL,
        message {text},
        current_interval SMALLINT,
        current_stage {text},
        created_at TIMESTAMP NOT NULL,
        finished_at TIMESTAMP,
        lease_owner {text},
        lease_token INTEGER NOT NULL,
        lease_expires_at TIMESTAMP,
        lease_ttl_s DOUBLE PRECISION NOT NULL
    )
    """,
    """
    CREATE TABLE stages (
        run_key INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        stage {text} NOT NULL,
        finished_at TIMESTAMP NOT NULL,
        seconds DOUBLE PRECISION NOT NULL,
        facts {text} NOT NULL,
        PRIMARY KEY (run_key, interval, stage)
    )
    """,
    """
    CREATE TABLE interval_stats (
        run_key INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        n_scored INTEGER,
        score_mean DOUBLE PRECISION,
        score_p50 DOUBLE PRECISION,
        score_p90 DOUBLE PRECISION,
        score_max DOUBLE PRECISION,
        n_selected INTEGER,
        cutoff DOUBLE PRECISION,
        n_entered INTEGER,
        n_first_time INTEGER,
        n_returned INTEGER,
        n_stayed INTEGER,
        n_left INTEGER,
        jaccard DOUBLE PRECISION,
        train_loss DOUBLE PRECISION,
        PRIMARY KEY (run_key, interval)
    )
    """,
    """
    CREATE TABLE partial_scores (
        run_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        score DOUBLE PRECISION NOT NULL,
        n_tokens INTEGER NOT NULL,
        interval SMALLINT NOT NULL
    ) {by_run}
    """,
    """
    CREATE TABLE scores (
        run_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        score DOUBLE PRECISION NOT NULL,
        rank INTEGER NOT NULL,
        n_tokens INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        scored_at_interval SMALLINT NOT NULL
    ) {by_run}
    """,
    """
    CREATE TABLE selection_rules (
        run_key INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        reason {text} NOT NULL,
        cutoff DOUBLE PRECISION,
        facts {text} NOT NULL,
        generator {text} NOT NULL,
        PRIMARY KEY (run_key, interval)
    )
    """,
    """
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
        streak SMALLINT NOT NULL
    ) {by_run}
    """,
    """
    CREATE TABLE checkpoints (
        run_key INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        step INTEGER NOT NULL,
        path {text} NOT NULL,
        weights_sha256 {text} NOT NULL,
        created_at TIMESTAMP NOT NULL,
        PRIMARY KEY (run_key, interval)
    )
    """,
    """
    CREATE TABLE evaluation_results (
        run_key INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        metric {text} NOT NULL,
        category {text},
        value DOUBLE PRECISION NOT NULL,
        n INTEGER NOT NULL,
        seconds DOUBLE PRECISION
    )
    """,
    """
    CREATE TABLE optimizer_steps (
        run_key INTEGER NOT NULL,
        interval SMALLINT NOT NULL,
        step INTEGER NOT NULL,
        loss DOUBLE PRECISION NOT NULL,
        learning_rate DOUBLE PRECISION,
        grad_norm DOUBLE PRECISION,
        num_tokens BIGINT
    )
    """,
    """
    CREATE TABLE step_slots (
        run_key INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        step INTEGER NOT NULL,
        slot INTEGER NOT NULL,
        interval SMALLINT NOT NULL
    ) {by_run}
    """,
)

# DuckDB needs none of these: its zone maps skip what a filter on run_key, interval or the sorted
# sample_id excludes, and every index would slow bulk inserts and block later migrations.
POSTGRES_INDICES = (
    "CREATE UNIQUE INDEX ON pool_samples (dataset_key, ordinal)",
    "CREATE UNIQUE INDEX ON pool_samples (dataset_key, sample_id)",
    "CREATE UNIQUE INDEX ON partial_scores (run_key, interval, ordinal)",
    "CREATE UNIQUE INDEX ON scores (run_key, ordinal, interval)",
    "CREATE INDEX ON scores USING brin (run_key, interval) WITH (autosummarize = on)",
    "CREATE UNIQUE INDEX ON selections (run_key, ordinal, interval)",
    "CREATE INDEX ON selections (run_key, interval, position)",
    "CREATE INDEX ON step_slots (run_key, step)",
    "CREATE INDEX ON step_slots (run_key, ordinal)",
    "CREATE INDEX ON evaluation_results (run_key, interval)",
    "CREATE INDEX ON optimizer_steps (run_key, step)",
)


def upgrade() -> None:
    on_postgres = op.get_bind().dialect.name == "postgresql"
    words = {
        "text": 'TEXT COLLATE "C"' if on_postgres else "TEXT",
        "by_run": "PARTITION BY LIST (run_key)" if on_postgres else "",
    }
    for statement in TABLES:
        op.execute(statement.format(**words))
    if on_postgres:
        for statement in POSTGRES_INDICES:
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("ledgers are only ever upgraded; restore a copy instead")
