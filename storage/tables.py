"""The ledger's base tables, as SQLAlchemy Core sees them.

They are made by ``migrations/``; a test keeps both in step.  Base tables are private: what people
query are the views.  Keys are narrow integers made by the ledger itself, there are no foreign keys
(they block later migrations on DuckDB), and columns of the big tables stand in the order that
wastes least padding on Postgres.  Timestamps are UTC without a zone, JSON is text.

The big tables name their run twice.  Postgres partitions them by ``run_id``, because that is what
people filter by: a constant in the query leaves one partition in the plan, however many runs there
are.  DuckDB has statistics on the numbers in ``run_key`` and skips the rows of other runs by them;
the repeated text costs it nothing.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    LargeBinary,
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
    Column("texts_kept", Boolean),
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
    Column("content_hash", Text),
    Column("prompt_chars", Integer),
    Column("completion_chars", Integer),
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
    Column("n_rescored", Integer),
    Column("recall_estimate", Double),
    Column("policy_entropy", Double),
    Column("reward_mean", Double),
    Column("n_groups", Integer),
    Column("n_without_signal", Integer),
    Column("n_passed_over", Integer),
    Column("n_answers", BigInteger),
    Column("n_correct", BigInteger),
)

score_shards = Table(
    "score_shards",
    metadata,
    Column("run_key", Integer, primary_key=True, autoincrement=False),
    Column("interval", SmallInteger, primary_key=True, autoincrement=False),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("ordinals", LargeBinary, nullable=False),
    Column("scores", LargeBinary, nullable=False),
    Column("n_tokens", LargeBinary, nullable=False),
)
"""Scores of a pool that is not scored to its end, as they came: arrays in little-endian bytes."""

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
    Column("run_id", Text, nullable=False),
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
    Column("state", Text),
)

sample_beliefs = Table(
    "sample_beliefs",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("alpha", Double, nullable=False),
    Column("beta", Double, nullable=False),
    Column("interval", SmallInteger, nullable=False),
    Column("run_id", Text, nullable=False),
)
"""What a strategy believes of samples' pass rates when it selects, where it is not its prior."""

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
    Column("run_id", Text, nullable=False),
)

selected_samples = Table(
    "selected_samples",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("score_first", Double, nullable=False),
    Column("score_last", Double, nullable=False),
    Column("score_sum", Double, nullable=False),
    Column("times_selected", Integer, nullable=False),
    Column("streak", SmallInteger, nullable=False),
    Column("longest_streak", SmallInteger, nullable=False),
    Column("first_interval", SmallInteger, nullable=False),
    Column("last_interval", SmallInteger, nullable=False),
    Column("run_id", Text, nullable=False),
)
"""Each sample ever selected by a run, brought up to date by every selection."""

saved_checkpoints = Table(
    "saved_checkpoints",
    metadata,
    Column("run_key", Integer, primary_key=True, autoincrement=False),
    Column("interval", SmallInteger, primary_key=True, autoincrement=False),
    Column("step", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("weights_sha256", Text, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("removed_at", DateTime),
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
    Column("policy_entropy", Double),
    Column("kl", Double),
)

step_slots = Table(
    "step_slots",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
    Column("run_id", Text, nullable=False),
)

rollout_groups = Table(
    "rollout_groups",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("reward_mean", Double, nullable=False),
    Column("reward_std", Double, nullable=False),
    Column("advantage_abs_mean", Double, nullable=False),
    Column("step", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("n_correct", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("n_tokens_mean", Double),
    Column("truncated_share", Double),
    Column("draw", Integer),
    Column("slot", Integer),
    Column("n_trained", Integer),
    Column("gradient_correct", Double),
    Column("gradient_wrong", Double),
    Column("gradient_gap", Double),
)
"""Answers sampled together in reinforcement learning, in the order of ``draw`` in an interval; a
group without a slot was not trained on."""

rollout_answers = Table(
    "rollout_answers",
    metadata,
    Column("run_key", Integer, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("reward", Double, nullable=False),
    Column("step", Integer, nullable=False),
    Column("draw", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("n_tokens", Integer, nullable=False),
    Column("interval", SmallInteger, nullable=False),
    Column("is_correct", Boolean, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("answer", Text, nullable=False),
    Column("run_id", Text, nullable=False),
)
"""The answers themselves, where a run keeps them."""

guard_alarms = Table(
    "guard_alarms",
    metadata,
    Column("run_key", Integer, primary_key=True, autoincrement=False),
    Column("interval", SmallInteger, primary_key=True, autoincrement=False),
    Column("alarm", Text, primary_key=True),
    Column("value", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("action", Text, nullable=False),
    Column("message", Text, nullable=False),
)

comparison_rows = Table(
    "comparison_rows",
    metadata,
    Column("experiment", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("strategy", Text, nullable=False),
    Column("n_seeds", Integer, nullable=False),
    Column("n_failed", Integer, nullable=False),
    Column("metric", Text, nullable=False),
    Column("mean", Double),
    Column("ci_low", Double),
    Column("ci_high", Double),
    Column("tail_mean", Double),
    Column("difference", Double),
    Column("difference_low", Double),
    Column("difference_high", Double),
    Column("n_pairs", Integer, nullable=False),
    Column("p_value", Double),
    Column("p_adjusted", Double),
    Column("p_sign_flip", Double),
    Column("steps", Integer, nullable=False),
    Column("seconds", Double),
    Column("scoring_seconds", Double),
    Column("steps_to_reference", Integer),
    Column("seconds_to_reference", Double),
    Column("made_at", DateTime, nullable=False),
)
"""The newest table of each comparison, replaced as a whole: without a key, since DuckDB lets no
transaction delete one and insert it again."""

calibrations = Table(
    "calibrations",
    metadata,
    Column("experiment", Text, primary_key=True),
    Column("measured", Text, primary_key=True),
    Column("settings_sha256", Text, primary_key=True),
    Column("seconds", Double, nullable=False),
    Column("made_at", DateTime, nullable=False),
)
"""What a comparison by seconds planned its runs with: measured once, and never again."""

PARTITIONED_BY_RUN = (
    scores,
    selections,
    selected_samples,
    step_slots,
    rollout_groups,
    rollout_answers,
    sample_beliefs,
)
"""On Postgres each run has its own partition of these."""

CHANGE_CODES = {"first_time": 0, "returned": 1, "stayed": 2}
"""How ``selections.change`` is stored."""
