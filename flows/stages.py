"""The four stages of an interval, as plain functions of an owned run.

Each begins by asking the ledger whether it is done, and ends by writing its row, last of all.
Doing a run again is therefore the same as resuming it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.checkpoints import (
    mark_complete,
    verify,
    weights_sha256,
    write_final_model,
)
from edco_core.collapse import collapsed
from edco_core.config import GrpoSection
from edco_core.curriculum import Ranking, choose_curriculum, derive_generator
from edco_core.curriculum.guarded import rule_after
from edco_core.errors import LedgerError, StopRequested
from edco_core.records import BASELINE_INTERVAL, Checkpoint, Evaluation, Known, ScoreHistory
from edco_core.rewards import judges_usage
from edco_core.scoring.rescoring import Rescored, rescore
from flows.display import alarm_line, collapse_alarm, mean_label, number, say
from flows.evidence import LedgerEvidence
from flows.guarding import stop_on, watch
from flows.open_run import OpenRun
from flows.prepare import rewards_of
from flows.retention import apply_retention
from storage import queries

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints


def take_checkpoint(run: OpenRun, interval: int) -> None:
    """Fix the weights this interval scores with; the first interval makes and measures them."""
    run.check_stop()
    start = time.perf_counter()
    if not run.ledger.begin_stage(run.lease, interval, "checkpoint"):
        return
    if interval > 0:
        checkpoint = _checkpoint(run, interval)
        verify(checkpoint)
        run.ledger.finish_checkpoint(run.lease, checkpoint, None, time.perf_counter() - start)
        return
    folder = run.host.save_start(run.run_dir / "checkpoints" / "start")
    if run.config.model.peft is None:  # the base model itself, which is not ours to mark
        digest = weights_sha256(folder)
    else:
        digest = mark_complete(folder, run_id=run.run_id, step=0, num_tokens=0).weights_sha256
    checkpoint = Checkpoint(interval=0, step=0, path=str(folder), weights_sha256=digest)
    run.host.holds(checkpoint)
    baseline = run.evaluate(BASELINE_INTERVAL)
    run.ledger.finish_checkpoint(run.lease, checkpoint, baseline, time.perf_counter() - start)


def score_pool(run: OpenRun, interval: int) -> None:
    """Score the pool: every sample, or those whose score could change who is selected."""
    run.check_stop()
    start = time.perf_counter()
    if not run.ledger.begin_stage(run.lease, interval, "scoring"):
        return
    run.host.load_weights(_checkpoint(run, interval))
    with run.progress(_label(run, interval, "scoring")) as on_progress:

        def score(wanted: Ints) -> None:
            already_scored = run.ledger.scored_ordinals(run.run_id, interval)
            for shard in run.scorer.score(wanted, already_scored, on_progress, interval=interval):
                run.ledger.add_scores(run.lease, interval, shard)

        rescored = history = None
        if run.config.scoring.rescore.policy == "selective":
            history = run.ledger.score_history(run.run_id, interval)
        if history is None:
            score(np.arange(len(run.pool), dtype=np.int64))
        else:
            rescored = _rescore(run, interval, history, score)
    run.ledger.finish_scoring(
        run.lease,
        interval,
        time.perf_counter() - start,
        rescored.facts if rescored else None,
        carry_forward=rescored is not None,
        recall_estimate=rescored.recall_estimate if rescored else None,
    )


def _rescore(
    run: OpenRun, interval: int, history: ScoreHistory, score: Callable[[Ints], None]
) -> Rescored:
    """Score selectively; all that is decided follows from what the ledger has."""
    settings, seed = run.config.scoring.rescore, run.config.run.seed
    assert settings.audit_share is not None
    assert settings.target_recall is not None
    is_trained_since = np.zeros(len(run.pool), dtype=bool)
    for earlier in range(int(history.scored_at_interval.min()), interval):
        chosen = run.ledger.selection(run.run_id, earlier).ordinals
        is_trained_since[chosen[history.scored_at_interval[chosen] <= earlier]] = True

    def stored_scores(wanted: Ints) -> Floats:
        score(wanted)
        found = run.ledger.scores_so_far(run.run_id, interval)
        return found.scores[np.searchsorted(found.ordinals, wanted)]

    def ranking_of(scores: Floats) -> Ranking:
        generator, _ = derive_generator(seed, interval, "selection")
        ranking = run.strategy.ranking(scores, generator)
        assert ranking is not None  # the configuration was refused otherwise
        return ranking

    return rescore(
        stored_scores, history, is_trained_since, ranking_of, run.plan.samples_per_interval,
        audit_share=settings.audit_share, target_recall=settings.target_recall,
        rng=derive_generator(seed, interval, "scoring")[0],
    )  # fmt: skip


def select_curriculum(run: OpenRun, interval: int) -> None:
    """Turn the stored scores into the next curriculum."""
    run.check_stop()
    start = time.perf_counter()
    if not run.ledger.begin_stage(run.lease, interval, "selection"):
        return
    evidence = LedgerEvidence(
        run.ledger, run.run_id, interval, run.plan.num_intervals, run.config.scoring.type,
        run.samples,
    )  # fmt: skip
    generator, made_from = derive_generator(run.config.run.seed, interval, "selection")
    selection = choose_curriculum(
        run.config.curriculum, evidence, run.plan.samples_per_interval, generator,
        seed=run.config.run.seed, alarms=run.ledger.alarms(run.run_id),
    )  # fmt: skip
    run.ledger.finish_selection(
        run.lease, interval, replace(selection, generator=made_from), time.perf_counter() - start
    )


def train_interval(run: OpenRun, interval: int) -> None:
    """Train on the curriculum in its stored order, and evaluate what came of it."""
    run.check_stop()
    if not run.ledger.begin_stage(run.lease, interval, "training"):
        return
    order = run.ledger.selection(run.run_id, interval).ordinals
    start = _checkpoint(run, interval)
    with run.shown_progress(_label(run, interval, "training")) as on_progress:
        try:
            outcome = run.trainer.train_interval(
                interval,
                order,
                start,
                _checkpoint(run, 0),
                confirm_ownership=run.renew_lease,
                should_stop=run.should_stop,
                on_progress=on_progress,
                known=_known(run, interval),
            )
        except StopRequested:
            run.check_stop()  # a pause is raised as one
            raise
    run.host.load_weights(outcome.checkpoint)
    evaluation = run.evaluate(interval)
    usage = judges_usage(rewards_of(run.config), run.run_dir)
    facts = {} if usage is None else {"judge": asdict(usage)}
    alarms = watch(run, interval, outcome, evaluation)
    run.ledger.finish_training(run.lease, interval, outcome, evaluation, facts, alarms=alarms)
    _remove_checkpoints(run)
    rows = queries.intervals(run.ledger, run.run_id)
    for line in [*interval_lines(run, rows), *map(alarm_line, alarms)]:
        say(line)
    if run.flow_run is not None:
        run.flow_run.shown.show_interval(run, rows, outcome.checkpoint)
    stop_on(alarms)


def _known(run: OpenRun, interval: int) -> Known | None:
    """What a strategy that also samples answers may decide by."""
    section = run.config.curriculum
    if not section.at(interval).SAMPLES_ANSWERS:
        return None
    earlier = [alarm for alarm in run.ledger.alarms(run.run_id) if alarm.interval < interval]
    rule = rule_after(section, earlier).at(interval)
    if not rule.SAMPLES_ANSWERS:  # the guard has fallen back
        return Known(None, rule=rule)
    measured, gradients = run.ledger.gradient_terms(run.run_id, interval) or (None, None)
    return Known(run.ledger.beliefs(run.run_id, interval), measured, gradients, rule)


def finish(run: OpenRun) -> None:
    """Put the last checkpoint's model where people look for it, with a model card."""
    checkpoint = _checkpoint(run, run.plan.num_intervals)
    verify(checkpoint)
    metric = run.config.evaluation.metric.type if run.config.evaluation else None
    write_final_model(
        checkpoint,
        run.run_dir / "final",
        run_id=run.run_id,
        name=run.config.run.name,
        base_model=run.config.model.name_or_path,
        strategy=run.config.curriculum.type,
        trainer=run.config.training.type,
        evaluations=[
            Evaluation(row["interval"], row["metric"], row["value"], row["n"], {}, 0.0)
            for row in queries.evaluations(run.ledger, run.run_id)
            if row["category"] is None and row["metric"] == metric
        ],
    )
    run.host.tokenizer.save_pretrained(str(run.run_dir / "final"))
    _remove_checkpoints(run)  # again: the run may have been killed before it was done


def _remove_checkpoints(run: OpenRun) -> None:
    keep = run.config.run.keep_checkpoints
    apply_retention(run.ledger, run.run_id, keep, run.run_dir, run.lease)


def _checkpoint(run: OpenRun, interval: int) -> Checkpoint:
    checkpoint = run.ledger.checkpoint(run.run_id, interval)
    if checkpoint is None:
        raise LedgerError(f"run {run.run_id}: the ledger has no checkpoint for interval {interval}")
    return checkpoint


def interval_lines(run: OpenRun, rows: Sequence[dict[str, Any]]) -> list[str]:
    """The last interval in a line, and the alarm where its policy's entropy has collapsed."""
    row, config = rows[-1], run.config
    line = (
        f"interval {row['interval']}: {mean_label(config.scoring.type)} {row['score_mean']:.3f}, "
        f"{row['n_selected']} selected, {row['n_first_time']} for the first time, "
        f"loss {row['train_loss']:.3f}"
    )
    if row["n_groups"] is not None:
        line += (
            f", reward {row['reward_mean']:.3f}, policy entropy {number(row['policy_entropy'])}, "
            f"{row['n_without_signal']} of {row['n_groups']} groups without signal"
        )
    if row["metric"] is not None and config.evaluation is not None:
        line += f", {config.evaluation.metric.type} {row['metric']:.3f}"
    if not isinstance(config.training, GrpoSection):
        return [line]
    alarm_share = config.training.entropy_alarm
    if not collapsed([each["policy_entropy"] for each in rows], alarm_share)[-1]:
        return [line]
    return [line, collapse_alarm([row["interval"]], alarm_share)]


def _label(run: OpenRun, interval: int, what: str) -> str:
    return f"{what} · interval {interval}"
