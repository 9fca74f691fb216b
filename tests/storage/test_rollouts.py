"""What reinforcement learning sampled, in both databases."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from edco_core.errors import LedgerError
from edco_core.records import GradientTerms, Lease, RolloutGroups
from storage import Ledger, open_ledger, queries
from tests.storage.conftest import (
    do_run,
    make_answers,
    make_beliefs,
    make_checkpoint,
    make_evaluation,
    make_outcome,
    make_pool,
    make_rollouts,
    make_selection,
    make_spec,
    pool_scores,
    shard,
)

POOL = make_pool()
IDS = POOL.table["sample_id"].to_pylist()


def up_to_training(ledger: Ledger, lease: Lease, interval: int, scores: np.ndarray) -> None:
    from tests.storage.conftest import make_checkpoint

    ledger.finish_checkpoint(lease, make_checkpoint(interval, interval * 4), None, 0.1)
    ledger.add_scores(lease, interval, shard(scores))
    ledger.finish_scoring(lease, interval, 1.0)
    ledger.finish_selection(lease, interval, make_selection(scores, np.arange(10)), 0.1)


def test_groups_come_back_as_they_were_sampled(ledger: Ledger) -> None:
    do_run(ledger, "demo-1", 1, run=1)
    groups = ledger.frame("rollouts", run_id="demo-1").sort_values("draw")
    ordinals = [IDS.index(sample) for sample in groups["sample_id"]]
    made = make_rollouts(1, np.array(ordinals))
    assert groups["draw"].tolist() == [0, 1, 2]
    assert groups["slot"].isna().tolist() == [True, False, False]
    for name in ("n_correct", "reward_mean", "n_tokens_mean", "truncated_share"):
        assert groups[name].tolist() == getattr(made, name).tolist()
    texts = ledger.frame("rollout_texts", run_id="demo-1").sort_values(["draw", "number"])
    answers = make_answers(made)
    assert texts["answer"].tolist() == list(answers.texts)
    assert texts["is_correct"].tolist() == answers.is_correct.tolist()
    assert [IDS.index(sample) for sample in texts["sample_id"]] == np.repeat(ordinals, 8).tolist()


def test_groups_are_read_back_whole(ledger: Ledger) -> None:
    do_run(ledger, "demo-1", 2, run=1)
    for interval in range(2):
        found = ledger.rollouts("demo-1", interval)
        assert found is not None
        made = make_rollouts(interval * 4 + 1, found.ordinals)
        assert found.gradients is not None
        assert made.gradients is not None
        for one, other, names in (
            (found, made, set(RolloutGroups.__slots__) - {"gradients"}),
            (found.gradients, made.gradients, set(GradientTerms.__slots__)),
        ):
            for name in names:
                assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), (
                    name
                )


def test_what_is_not_measured_reads_as_not_there(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec("rl", POOL), "me")
    up_to_training(ledger, lease, 0, pool_scores(0, len(POOL)))
    rollouts = dataclasses.replace(make_rollouts(1, np.arange(3)), gradients=None, n_trained=None)
    outcome = dataclasses.replace(make_outcome(0, np.arange(10)), rollouts=rollouts)
    ledger.finish_training(lease, 0, outcome, None)
    found = ledger.rollouts("rl", 0)
    assert found is not None
    assert found.gradients is None
    assert found.n_trained is not None
    assert found.n_trained.tolist() == [0, 8, 8]
    assert ledger.gradient_terms("rl", 1) is None


def test_the_newest_gradients_of_each_sample_before_an_interval(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec("rl", POOL), "me")
    nan = float("nan")
    asked = [([7, 3, 7], [1.0, 2.0, 3.0]), ([3, 5], [4.0, nan]), ([3], [9.0])]
    for interval, (ordinals, values) in enumerate(asked):
        up_to_training(ledger, lease, interval, pool_scores(0, len(POOL)))
        rollouts = make_rollouts(interval * 4 + 1, np.array(ordinals))
        terms = np.array(values)
        rollouts = dataclasses.replace(rollouts, gradients=GradientTerms(terms, terms, terms))
        outcome = dataclasses.replace(make_outcome(interval, np.arange(10)), rollouts=rollouts)
        ledger.finish_training(lease, interval, outcome, None)
    assert ledger.gradient_terms("rl", 0) is None
    found = ledger.gradient_terms("rl", 2)
    assert found is not None
    assert found[0].tolist() == [3, 7]
    assert found[1].wrong.tolist() == [4.0, 3.0]


def test_an_interval_counts_its_answers_and_what_they_taught(ledger: Ledger) -> None:
    do_run(ledger, "demo-1", 2, run=1)
    for row in queries.intervals(ledger, "demo-1"):
        groups = ledger.frame("rollouts", run_id="demo-1", interval=row["interval"])
        assert row["n_groups"] == 3
        assert row["n_answers"] == 24
        assert row["n_correct"] == groups["n_correct"].sum()
        assert row["n_passed_over"] == 1
        assert row["n_without_signal"] == (groups["reward_std"] == 0).sum()
        assert row["reward_mean"] == pytest.approx(groups["reward_mean"].mean())
        steps = ledger.frame("training_steps", run_id="demo-1", interval=row["interval"])
        assert row["policy_entropy"] == pytest.approx(steps["policy_entropy"].mean())


def test_supervised_intervals_have_none_of_it(ledger: Ledger) -> None:
    do_run(ledger, "demo-1", 1)
    (row,) = queries.intervals(ledger, "demo-1")
    assert {row[name] for name in ("n_groups", "n_answers", "policy_entropy")} == {None}
    assert len(ledger.frame("rollouts", run_id="demo-1")) == 0


def reinforced_run(ledger: Ledger) -> np.ndarray:
    """Three intervals that each ask samples 0 to 3; the scores of the first."""
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec("rl", POOL), "me")
    scores = np.arange(len(POOL), 0, -1).astype(float)  # sample 0 is the hardest
    right = {0: [0, 0, 0], 1: [0, 2, 6], 2: [8, 8, 8], 3: [0, 8, 1]}
    for interval in range(3):
        up_to_training(ledger, lease, interval, scores)
        rollouts = make_rollouts(interval * 4 + 1, np.arange(4))
        n_correct = np.array([right[i][interval] for i in range(4)])
        rollouts = dataclasses.replace(rollouts, n_correct=n_correct, reward_mean=n_correct / 8)
        outcome = make_outcome(interval, np.arange(10))
        outcome = dataclasses.replace(outcome, rollouts=rollouts)
        ledger.finish_training(lease, interval, outcome, make_evaluation(interval))
    return scores


def ask(url: str, sql: str) -> list[dict[str, object]]:
    reader = open_ledger(url, read_only=True)
    columns, rows = reader.query(sql, {"run": "rl", "limit": 10})
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_high_entropy_but_never_solved(ledger: Ledger, url: str) -> None:
    scores = reinforced_run(ledger)
    (row,) = ask(url, queries.NEVER_SOLVED)
    assert row["sample_id"] == IDS[0]
    assert (row["n_intervals"], row["n_answers"]) == (3, 24)
    assert row["score_max"] == scores[0]
    assert row["percentile_mean"] == pytest.approx(100)


def test_an_easy_sample_that_was_never_solved_is_not_of_high_entropy(
    ledger: Ledger, url: str
) -> None:
    reinforced_run(ledger)
    assert ask(url, queries.NEVER_SOLVED.replace(">= 75", ">= 100.5")) == []


def test_solved_at_last(ledger: Ledger, url: str) -> None:
    scores = reinforced_run(ledger)
    (row,) = ask(url, queries.SOLVED_AT_LAST)  # sample 3 was, but not at last
    assert row["sample_id"] == IDS[1]
    assert (row["first_interval"], row["last_interval"], row["pass_rate"]) == (0, 2, 0.75)
    assert row["score_first"] == row["score_last"] == scores[1]


def test_a_null_in_an_answer_is_no_obstacle(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec("rl", POOL), "me")
    up_to_training(ledger, lease, 0, pool_scores(0, len(POOL)))
    rollouts = make_rollouts(1, np.arange(1))
    answers = dataclasses.replace(make_answers(rollouts), texts=("a\x00b",) * 8)
    outcome = dataclasses.replace(
        make_outcome(0, np.arange(10)), rollouts=rollouts, answers=answers
    )
    ledger.finish_training(lease, 0, outcome, None)
    assert set(ledger.frame("rollout_texts", run_id="rl")["answer"]) == {"a\ufffdb"}


def test_what_else_the_trainer_tells_is_kept_with_the_stage(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec("rl", POOL), "me")
    up_to_training(ledger, lease, 0, pool_scores(0, len(POOL)))
    facts = {"judge": {"cost": 0.25}}
    ledger.finish_training(
        lease, 0, dataclasses.replace(make_outcome(0, np.arange(10)), facts=facts), None
    )
    found = ledger.stage_facts("rl", 0, "training")
    assert found is not None
    assert json.loads(json.dumps(found["judge"])) == facts["judge"]


@pytest.mark.parametrize("broken", ["answers", "nan", "slots", "gradients"])
def test_rollouts_that_contradict_themselves_are_refused(ledger: Ledger, broken: str) -> None:
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec("rl", POOL), "me")
    up_to_training(ledger, lease, 0, pool_scores(0, len(POOL)))
    rollouts = make_rollouts(1, np.arange(3))
    outcome = dataclasses.replace(
        make_outcome(0, np.arange(10)), rollouts=rollouts, answers=make_answers(rollouts)
    )
    if broken == "answers":
        less = dataclasses.replace(rollouts, n=rollouts.n - 1)
        outcome = dataclasses.replace(outcome, rollouts=less)
    else:
        infinite = np.full(3, np.inf)
        worse = dataclasses.replace(
            rollouts,
            **{
                "nan": {"n_tokens_mean": np.full(3, np.nan)},
                "slots": {"n_trained": np.zeros(3, np.int64)},
                "gradients": {"gradients": GradientTerms(infinite, infinite, infinite)},
            }[broken],
        )
        outcome = dataclasses.replace(outcome, rollouts=worse)
    with pytest.raises(LedgerError, match="run rl, interval 0"):
        ledger.finish_training(lease, 0, outcome, None)
    assert not ledger.stage_done("rl", 0, "training")


def test_an_interval_without_rollouts_has_none(ledger: Ledger) -> None:
    do_run(ledger, "demo-1", 1)
    assert ledger.rollouts("demo-1", 0) is None
    assert ledger.beliefs("demo-1", 0) is None


def test_what_a_strategy_remembers_is_kept_with_its_selection(ledger: Ledger) -> None:
    do_run(ledger, "demo-1", 2, run=1)
    for interval in range(2):
        found, made = ledger.beliefs("demo-1", interval), make_beliefs()
        assert found is not None
        for name in ("ordinals", "alpha", "beta"):
            assert getattr(found, name).tolist() == getattr(made, name).tolist()
        state = ledger.selection("demo-1", interval).state
        assert state == {"target": 0.5, "arms": {"a": 1.25}}
    shown = ledger.frame("beliefs", run_id="demo-1", interval=1).sort_values("sample_id")
    assert shown["sample_id"].tolist() == [IDS[i] for i in make_beliefs().ordinals]
    assert shown["mean"].tolist() == pytest.approx([2 / 3, 1 / 9, 4 / 31])


@pytest.mark.parametrize("broken", ["unknown", "twice", "nan"])
def test_beliefs_that_cannot_be_are_refused(ledger: Ledger, broken: str) -> None:
    pool = make_pool()
    ledger.register_pool(pool)
    lease = ledger.create_run(make_spec("demo-1", pool, intervals=1), "me")
    scores = pool_scores(0, len(pool))
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 0.1)
    ledger.add_scores(lease, 0, shard(scores))
    ledger.finish_scoring(lease, 0, 1.0)
    beliefs = make_beliefs()
    if broken == "nan":
        beliefs = dataclasses.replace(beliefs, alpha=np.array([1.0, np.nan, 1.0]))
    else:
        ordinals = np.array([1, 4, len(pool)]) if broken == "unknown" else np.array([1, 4, 4])
        beliefs = dataclasses.replace(beliefs, ordinals=ordinals)
    selection = dataclasses.replace(make_selection(scores, np.arange(10)), beliefs=beliefs)
    with pytest.raises(LedgerError, match="interval 0"):
        ledger.finish_selection(lease, 0, selection, 0.1)
    assert ledger.beliefs("demo-1", 0) is None
