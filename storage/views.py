"""The ledger's views: the query API, one SQL text for both databases.

Views are derived, so they are not frozen into migrations: every upgrade drops them all and makes
the current ones again, in the same transaction.  A change here therefore needs a new revision, so
that existing ledgers get it; the newest migration carries ``VIEWS_SHA256`` and a test compares.

How they stay fast on tens of millions of scores: the run's id in a big table is what its view
shows, so that a filter on it leaves one of Postgres's partitions before anything is planned; DuckDB
skips the rows of other runs by ``run_key``.  Nothing sorts or aggregates over them, and whatever
needs the whole pool (ranks, percentiles, turnover, counts) was computed once when its stage was
committed.  ``{by_key: a, b}`` stands for what only DuckDB is told: that the keys are equal as well.
Postgres would take it for a second, independent condition, expect next to no rows, and plan for
that.  ``{hidden: a}`` is a column that Postgres is not to look rows up by: it would go through the
scores of a sample once for each interval, instead of once.
"""

from __future__ import annotations

import hashlib
import re

# Reading ``runs`` last in a chain of scalar subqueries keeps each of them on the run's own few
# rows; grouped subqueries would aggregate every run before the filter on run_id applies.
# parent_…: the run and the checkpoint it starts from (model.name_or_path: run:…), null = none.
_RUN_SUMMARY = """
SELECT
    r.run_id, r.name, r.experiment, r.strategy, r.scorer, r.trainer, r.model,
    d.dataset_id, r.eval_dataset_id, r.seed, r.status, r.message,
    r.current_interval, r.current_stage, r.intervals_planned,
    (SELECT CAST(count(*) AS INTEGER) FROM stages s
      WHERE s.run_key = r.run_key
        AND s.stage = CASE r.trainer WHEN 'none' THEN 'scoring' ELSE 'training' END)
        AS intervals_done,
    r.pool_size, r.top_n, r.metric,
    (SELECT e.value FROM evaluation_results e
      WHERE e.run_key = r.run_key AND e.metric = r.metric AND e.category IS NULL
        AND e.interval = -1) AS baseline_metric,
    (SELECT e.value FROM evaluation_results e
      WHERE e.run_key = r.run_key AND e.metric = r.metric AND e.category IS NULL
        AND e.interval = (SELECT max(l.interval) FROM evaluation_results l
                           WHERE l.run_key = r.run_key AND l.metric = r.metric
                             AND l.category IS NULL AND l.interval >= 0)) AS last_metric,
    (SELECT max(e.value) FROM evaluation_results e
      WHERE e.run_key = r.run_key AND e.metric = r.metric AND e.category IS NULL
        AND e.interval >= 0) AS best_metric,
    r.created_at, r.finished_at,
    (SELECT sum(s.seconds) FROM stages s
      WHERE s.run_key = r.run_key AND s.stage = 'scoring') AS scoring_seconds,
    (SELECT sum(s.seconds) FROM stages s
      WHERE s.run_key = r.run_key AND s.stage = 'selection') AS selection_seconds,
    (SELECT sum(s.seconds) FROM stages s
      WHERE s.run_key = r.run_key AND s.stage = 'training') AS training_seconds,
    (SELECT sum(e.seconds) FROM evaluation_results e
      WHERE e.run_key = r.run_key AND e.category IS NULL) AS evaluation_seconds,
    r.run_dir, r.lease_owner, r.lease_expires_at,
    (CAST(r.plan AS JSON) ->> 'parent_run_id') AS parent_run_id,
    CAST((CAST(r.plan AS JSON) ->> 'parent_interval') AS INTEGER) AS parent_interval,
    substr((CAST(r.plan AS JSON) ->> 'parent_weights_sha256'), 1, 16) AS parent_checkpoint_id
FROM runs r
JOIN datasets d ON d.dataset_key = r.dataset_key
"""

# An interval is listed as soon as one of its stages is finished (its row in interval_stats).
# n_rescored: of n_scored, how many were scored at this interval; the others kept an earlier score.
# recall_estimate: share of the true top N that those are thought to hold, null = not audited.
# selection_facts and selection_generator are JSON.
# policy_entropy to n_correct: of reinforcement learning.  n_without_signal: groups whose answers
# are all worth the same; n_passed_over: those of them that were not trained on.
_INTERVAL_SUMMARY = """
SELECT
    r.run_id, i.interval,
    CASE WHEN t.stage IS NOT NULL OR (r.trainer = 'none' AND sc.stage IS NOT NULL)
         THEN 'done' ELSE 'running' END AS status,
    r.pool_size, i.n_scored, i.n_rescored, i.recall_estimate, i.n_selected, i.cutoff,
    i.score_mean, i.score_p50, i.score_p90, i.score_max,
    i.n_entered, i.n_first_time, i.n_returned, i.n_stayed, i.n_left, i.jaccard,
    i.train_loss, e.value AS metric,
    i.policy_entropy, i.reward_mean, i.n_groups, i.n_without_signal, i.n_passed_over,
    i.n_answers, i.n_correct,
    substr(c.weights_sha256, 1, 16) AS checkpoint_id,
    sc.seconds AS scoring_seconds, se.seconds AS selection_seconds,
    t.seconds AS training_seconds, e.seconds AS evaluation_seconds,
    f.reason AS selection_reason, f.facts AS selection_facts, f.generator AS selection_generator
FROM runs r
JOIN interval_stats i ON i.run_key = r.run_key
LEFT JOIN selection_rules f ON f.run_key = i.run_key AND f.interval = i.interval
LEFT JOIN saved_checkpoints c ON c.run_key = i.run_key AND c.interval = i.interval
LEFT JOIN stages sc
    ON sc.run_key = i.run_key AND sc.interval = i.interval AND sc.stage = 'scoring'
LEFT JOIN stages se
    ON se.run_key = i.run_key AND se.interval = i.interval AND se.stage = 'selection'
LEFT JOIN stages t
    ON t.run_key = i.run_key AND t.interval = i.interval AND t.stage = 'training'
LEFT JOIN evaluation_results e
    ON e.run_key = i.run_key AND e.interval = i.interval
    AND e.metric = r.metric AND e.category IS NULL
"""

# Views about samples carry dataset_id, so that they join the view samples by
# USING (dataset_id, sample_id): the same sample may be in several data sets.
# selections are joined by the ordinal of pool_samples: by that of scores Postgres does not see that
# one sample was asked for, and goes through all of them once per interval.
# percentile: share of the pool that scored no higher, in percent; the top sample has 100.
# checkpoint_id: the weights the score was computed with.
_SAMPLE_HISTORY = """
SELECT
    s.run_id, d.dataset_id, s.interval, p.sample_id, s.score, s.n_tokens, s.rank,
    CAST(100 AS DOUBLE PRECISION) * (i.n_scored - s.rank + 1) / i.n_scored AS percentile,
    x.ordinal IS NOT NULL AS selected,
    x.position, x.probability,
    CASE WHEN x.ordinal IS NOT NULL THEN f.reason END AS reason,
    CASE x.change WHEN 0 THEN 'first_time' WHEN 1 THEN 'returned' WHEN 2 THEN 'stayed' END
        AS change,
    substr(c.weights_sha256, 1, 16) AS checkpoint_id,
    s.scored_at_interval
FROM scores s
JOIN runs r ON r.run_id = s.run_id {by_key: r, s}
JOIN datasets d ON d.dataset_key = r.dataset_key
JOIN pool_samples p ON p.dataset_key = r.dataset_key AND p.ordinal = s.ordinal
JOIN interval_stats i ON i.run_key = r.run_key AND i.interval = {hidden: s.interval}
LEFT JOIN selections x
    ON x.run_id = s.run_id {by_key: x, s}
    AND x.interval = s.interval AND x.ordinal = p.ordinal
LEFT JOIN selection_rules f ON f.run_key = r.run_key AND f.interval = s.interval
LEFT JOIN saved_checkpoints c ON c.run_key = r.run_key AND c.interval = s.scored_at_interval
"""

# times_selected and streak count up to and including this interval.
_CURRICULUM = """
SELECT
    x.run_id, d.dataset_id, x.interval, p.sample_id, x.position, x.rank, x.score, x.probability,
    f.reason,
    CASE x.change WHEN 0 THEN 'first_time' WHEN 1 THEN 'returned' ELSE 'stayed' END AS change,
    x.times_selected, x.streak
FROM selections x
JOIN runs r ON r.run_id = x.run_id {by_key: r, x}
JOIN datasets d ON d.dataset_key = r.dataset_key
JOIN pool_samples p ON p.dataset_key = r.dataset_key AND p.ordinal = x.ordinal
JOIN selection_rules f ON f.run_key = r.run_key AND f.interval = x.interval
"""

_TURNOVER = """
SELECT
    r.run_id, i.interval, i.n_selected, i.n_entered, i.n_first_time, i.n_returned,
    i.n_stayed, i.n_left, i.jaccard
FROM runs r
JOIN interval_stats i ON i.run_key = r.run_key
WHERE i.n_selected IS NOT NULL
"""

# score_first, score_last: the scores with which the sample was selected the first and the last
# time; score_mean: over all intervals that selected it.  Scores of intervals that did not select
# it are left out on purpose: they would need the whole scores table (see sample_history).
_PERSISTENT_SAMPLES = """
SELECT
    e.run_id, d.dataset_id, p.sample_id,
    e.times_selected, e.longest_streak,
    e.first_interval, e.last_interval, e.score_first, e.score_last,
    e.score_sum / e.times_selected AS score_mean
FROM selected_samples e
JOIN runs r ON r.run_id = e.run_id {by_key: r, e}
JOIN datasets d ON d.dataset_key = r.dataset_key
JOIN pool_samples p ON p.dataset_key = r.dataset_key AND p.ordinal = e.ordinal
"""

# The same by ordinal, the place in the pool: for the first few of many, whose ids are then looked
# up in the view samples.  DuckDB would look up all of them before it sorts.
_PERSISTENT_ORDINALS = """
SELECT
    e.run_id, d.dataset_id, e.ordinal,
    e.times_selected, e.longest_streak,
    e.first_interval, e.last_interval, e.score_first, e.score_last,
    e.score_sum / e.times_selected AS score_mean
FROM selected_samples e
JOIN runs r ON r.run_id = e.run_id {by_key: r, e}
JOIN datasets d ON d.dataset_key = r.dataset_key
"""

_SAMPLES = """
SELECT
    d.dataset_id, p.sample_id, p.ordinal, p.category, p.prompt, p.completion, p.answer,
    p.metadata, p.source, p.content_hash, p.prompt_chars, p.completion_chars
FROM datasets d
JOIN pool_samples p ON p.dataset_key = d.dataset_key
"""

# Rows of the data left out under on_bad_rows: skip; source is file and line.
_SKIPPED_ROWS = """
SELECT d.dataset_id, b.source, b.problem
FROM datasets d
JOIN bad_rows b ON b.dataset_key = d.dataset_key
"""

# interval -1 is before training; category null is the whole evaluation set.
_EVALUATIONS = """
SELECT r.run_id, e.interval, e.metric, e.category, e.value, e.n, e.seconds
FROM runs r
JOIN evaluation_results e ON e.run_key = r.run_key
"""

# The weights each interval starts from; removed_at: since when they are no longer kept on disk.
# metric: the run's metric as evaluated with these weights, after the interval before.
_CHECKPOINTS = """
SELECT
    r.run_id, c.interval, c.step, substr(c.weights_sha256, 1, 16) AS checkpoint_id,
    c.weights_sha256, c.path, e.value AS metric, c.created_at, c.removed_at
FROM runs r
JOIN saved_checkpoints c ON c.run_key = r.run_key
LEFT JOIN evaluation_results e
    ON e.run_key = c.run_key AND e.interval = c.interval - 1
    AND e.metric = r.metric AND e.category IS NULL
"""

_TRAINING_STEPS = """
SELECT r.run_id, o.interval, o.step, o.loss, o.learning_rate, o.grad_norm, o.num_tokens,
    o.policy_entropy, o.kl
FROM runs r
JOIN optimizer_steps o ON o.run_key = r.run_key
"""

_STEP_SAMPLES = """
SELECT t.run_id, d.dataset_id, t.interval, t.step, t.slot, p.sample_id
FROM step_slots t
JOIN runs r ON r.run_id = t.run_id {by_key: r, t}
JOIN datasets d ON d.dataset_key = r.dataset_key
JOIN pool_samples p ON p.dataset_key = r.dataset_key AND p.ordinal = t.ordinal
"""

# One row per prompt and optimizer step of reinforcement learning: n answers were sampled and
# rewarded together.  draw counts them within an interval, in the order they were asked; slot is
# that of step_samples, null where the group was passed over and not trained on; n_trained counts
# the answers that were, a repeated one again.  Squared norms of gradients where they were measured:
# means over right and wrong answers, and between the means of both.
_ROLLOUTS = """
SELECT
    g.run_id, d.dataset_id, g.interval, g.step, p.sample_id, g.n, g.n_correct,
    g.reward_mean, g.reward_std, g.advantage_abs_mean, g.n_tokens_mean, g.truncated_share,
    g.draw, g.slot,
    coalesce(g.n_trained, CASE WHEN g.slot IS NULL THEN 0 ELSE g.n END) AS n_trained,
    g.gradient_correct, g.gradient_wrong, g.gradient_gap
FROM rollout_groups g
JOIN runs r ON r.run_id = g.run_id {by_key: r, g}
JOIN datasets d ON d.dataset_key = r.dataset_key
JOIN pool_samples p ON p.dataset_key = r.dataset_key AND p.ordinal = g.ordinal
"""

# The answers of a group one by one, where the run keeps them; number counts them within the group.
_ROLLOUT_TEXTS = """
SELECT
    a.run_id, d.dataset_id, a.interval, a.step, a.draw, a.number, p.sample_id, a.answer,
    a.reward, a.is_correct, a.n_tokens, a.truncated
FROM rollout_answers a
JOIN runs r ON r.run_id = a.run_id {by_key: r, a}
JOIN datasets d ON d.dataset_key = r.dataset_key
JOIN pool_samples p ON p.dataset_key = r.dataset_key AND p.ordinal = a.ordinal
"""

# What share of a sample's answers was right in an interval, those passed over included.
_PASS_RATES = """
SELECT
    g.run_id, d.dataset_id, g.interval, p.sample_id,
    CAST(sum(g.n) AS INTEGER) AS n, CAST(sum(g.n_correct) AS INTEGER) AS n_correct,
    CAST(sum(g.n_correct) AS DOUBLE PRECISION) / sum(g.n) AS pass_rate
FROM rollout_groups g
JOIN runs r ON r.run_id = g.run_id {by_key: r, g}
JOIN datasets d ON d.dataset_key = r.dataset_key
JOIN pool_samples p ON p.dataset_key = r.dataset_key AND p.ordinal = g.ordinal
GROUP BY g.run_id, d.dataset_id, g.interval, p.sample_id
"""

# What a strategy believed of a sample's pass rate, a Beta distribution, when it selected for that
# interval; a sample without a row had the strategy's prior.
_BELIEFS = """
SELECT
    b.run_id, d.dataset_id, b.interval, p.sample_id, b.alpha, b.beta,
    b.alpha / (b.alpha + b.beta) AS mean
FROM sample_beliefs b
JOIN runs r ON r.run_id = b.run_id {by_key: r, b}
JOIN datasets d ON d.dataset_key = r.dataset_key
JOIN pool_samples p ON p.dataset_key = r.dataset_key AND p.ordinal = b.ordinal
"""

# What the guard of a run (curriculum.guard) found wrong after an interval; action: what came of it.
_ALARMS = """
SELECT r.run_id, g.interval, g.alarm, g.value, g.threshold, g.action, g.message
FROM runs r
JOIN guard_alarms g ON g.run_key = r.run_key
"""

# The newest table of each comparison of strategies, a row for each.  difference: to random, seed
# by seed (n_pairs of them); p_value: paired t; p_adjusted: the same, corrected for the number of
# strategies; seconds: of training, and of scoring where the strategy needs the scores.
_COMPARISONS = """
SELECT
    c.experiment, c.label, c.strategy, c.n_seeds, c.n_failed, c.metric, c.mean, c.ci_low,
    c.ci_high, c.tail_mean, c.difference, c.difference_low, c.difference_high, c.n_pairs,
    c.p_value, c.p_adjusted, c.p_sign_flip, c.steps, c.seconds, c.scoring_seconds,
    c.steps_to_reference, c.seconds_to_reference, c.made_at
FROM comparison_rows c
"""

VIEWS: dict[str, str] = {
    "run_summary": _RUN_SUMMARY,
    "interval_summary": _INTERVAL_SUMMARY,
    "sample_history": _SAMPLE_HISTORY,
    "curriculum": _CURRICULUM,
    "turnover": _TURNOVER,
    "persistent_samples": _PERSISTENT_SAMPLES,
    "persistent_ordinals": _PERSISTENT_ORDINALS,
    "samples": _SAMPLES,
    "skipped_rows": _SKIPPED_ROWS,
    "evaluations": _EVALUATIONS,
    "checkpoints": _CHECKPOINTS,
    "training_steps": _TRAINING_STEPS,
    "step_samples": _STEP_SAMPLES,
    "rollouts": _ROLLOUTS,
    "rollout_texts": _ROLLOUT_TEXTS,
    "pass_rates": _PASS_RATES,
    "beliefs": _BELIEFS,
    "alarms": _ALARMS,
    "comparisons": _COMPARISONS,
}
"""View name to the SELECT behind it."""


def view_sql(select: str, *, on_duckdb: bool) -> str:
    """A view's SELECT as that database is to have it."""
    told = r"AND \1.run_key = \2.run_key" if on_duckdb else ""
    hidden = r"\1" if on_duckdb else r"(\1 + 0)"
    select = re.sub(r"\{by_key: (\w), (\w)\}", told, select)
    return re.sub(r"\{hidden: ([\w.]+)\}", hidden, select)


VIEWS_SHA256 = hashlib.sha256(repr(sorted(VIEWS.items())).encode()).hexdigest()
