"""The ledger's base tables, as SQLAlchemy Core sees them.

They are made by ``migrations/``; a test keeps both in step.  Base tables are private: what people
query are the views.  Keys are narrow integers made by the ledger itself, there are no foreign keys
(they block later migrations on DuckDB), and columns of the three big tables stand in the order that
wastes least padding on Postgres.  Timestamps are UTC without a zone, JSON is text.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

metadata = MetaData()

datasets = Table(
    "datasets",
    metadata,
    Column("dataset_key", Integer, primary_key=True, autoincrement=False),
    Column("dataset_id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("conversational", Boolean, nullable=False),
    Column("num_duplicates", Integer, nullable=False),
    Column("created_at", DateTime, nullable=False),
)

bad_rows = Table(
    "bad_rows",
    metadata,
    Column("dataset_key", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("problem", Text, nullable=False),
)

pool_samples = Table(
    "pool_samples",
    metadata,
    Column("dataset_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("sample_id", Text, nullable=False),
    Column("category", Text),
    Column("prompt", Text),
    Column("completion", Text),
    Column("answer", Text),
    Column("metadata", Text),
    Column("source", Text),
)

runs = Table(
    "runs",
    metadata,
    Column("run_key", Integer, primary_key=True, autoincrement=False),
    Column("run_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("experiment", Text),
    Column("seed", BigInteger, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("scorer", Text, nullable=False),
    Column("trainer", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("dataset_key", Integer, nullable=False),
    Column("eval_dataset_id", Text),
    Column("metric", Text),
    Column("intervals_planned", Integer, nullable=False),
    Column("pool_size", Integer, nullable=False),
    Column("top_n", Integer, nullable=False),
    Column("run_dir", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("versions", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("message", Text),
    Column("current_interval", SmallInteger),
    Column("current_stage", Text),
    Column("created_at", DateTime, nullable=False),
    Column("finished_at", DateTime),
    Column("lease_owner", Text),
    Column("lease_token", Integer, nullable=False),
    Column("lease_expires_at", DateTime),
    Column("lease_ttl_s", Double, nullable=False),
)

stages = Table(
    "stages",
    metadata,
    Column("run_key", Integer, primary_key=True, autoincrement=False),
    Column("interval", SmallInteger, primary_key=True, autoincrement=False),
    Column("stage", Text, primary_key=True),
    Column("finished_at", DateTime, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("facts", Text, nullable=False),
)

interval_stats = Table(
    "interval_stats",
    metadata,
    Column("run_key", Integer, primary_key=True, autoincrement=False),
    Column("interval", SmallInteger, primary_key=True, autoincrement=False),
    Column("n_scored", Integer),
    Column("score_mean", Double),
    Column("score_p50", Double),
    Column("score_p90", Double),
    Column("score_max", Double),
    Column("n_selected", Integer),
    Column("cutoff", Double),
    Column("n_entered", Integer),
    Column("n_first_time", Integer),
    Column("n_returned", Integer),
    Column("n_stayed", Integer),
    Column("n_left", Integer),
    Column("jaccard", Double),
    Column("train_loss", Double),
)

partial_scores = Table(
    "partial_scores",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Column("n_tokens", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
)

scores = Table(
    "scores",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("n_tokens", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
    Column("scored_at_interval", SmallInteger, nullable=False),
)

selection_rules = Table(
    "selection_rules",
    metadata,
    Column("run_key", Integer, primary_key=True, autoincrement=False),
    Column("interval", SmallInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("cutoff", Double),
    Column("facts", Text, nullable=False),
    Column("generator", Text, nullable=False),
)

selections = Table(
    "selections",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("score", Double, nullable=False),
    Column("probability", Double),
    Column("position", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
    Column("change", SmallInteger, nullable=False),
    Column("times_selected", SmallInteger, nullable=False),
    Column("streak", SmallInteger, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run_key", Integer, primary_key=True, autoincrement=False),
    Column("interval", SmallInteger, primary_key=True, autoincrement=False),
    Column("step", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("weights_sha256", Text, nullable=False),
    Column("created_at", DateTime, nullable=False),
)

evaluation_results = Table(
    "evaluation_results",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
    Column("metric", Text, nullable=False),
    Column("category", Text),
    Column("value", Double, nullable=False),
    Column("n", Integer, nullable=False),
    Column("seconds", Double),
)

optimizer_steps = Table(
    "optimizer_steps",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
    Column("step", Integer, nullable=False),
    Column("loss", Double, nullable=False),
    Column("learning_rate", Double),
    Column("grad_norm", Double),
    Column("num_tokens", BigInteger),
)

step_slots = Table(
    "step_slots",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
)

PARTITIONED_BY_RUN = (partial_scores, scores, selections, step_slots)
"""On Postgres each run has its own partition of these."""

CHANGE_CODES = {"first_time": 0, "returned": 1, "stayed": 2}
"""How ``selections.change`` is stored."""
