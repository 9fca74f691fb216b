"""Runs for the benchmark of the ledger, written interval by interval through its verbs."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.ledger_rows import make_checkpoint, shards
from edco_core.config import EdcoSection
from edco_core.curriculum import KnownEvidence, build_strategy, derive_generator
from edco_core.records import Evaluation, RunSpec, Selection, TrainingOutcome, TrainingStep
from storage import Ledger

if TYPE_CHECKING:
    from edco_core.records import Floats


def select(spec: RunSpec, interval: int, scores: Floats) -> Selection:
    """A fourth of the pool, as the default strategy draws it."""
    rng, record = derive_generator(spec.seed, interval, "selection")
    strategy = build_strategy(EdcoSection())
    return replace(strategy.select(KnownEvidence(scores), spec.top_n, rng), generator=record)


def draw(spec: RunSpec, interval: int, scores: Floats) -> Selection:
    """A fourth of the pool, drawn in proportion to the scores: much quicker than ``select``."""
    rng = np.random.default_rng([spec.seed, interval, 1])
    times = rng.exponential(size=len(scores)) / scores
    ordinals = np.argpartition(times, spec.top_n)[: spec.top_n]
    ranks = np.empty(len(scores), np.int64)
    ranks[np.argsort(-scores)] = np.arange(1, len(scores) + 1)
    return Selection(
        ordinals=ordinals,
        scores=scores[ordinals],
        ranks=ranks[ordinals],
        probabilities=scores[ordinals] / scores.sum(),
        reason="tempered_draw",
        cutoff=float(scores[ordinals].min()),
        facts={"temperature": 1.0, "top_n": spec.top_n},
    )


def write_run(ledger: Ledger, spec: RunSpec, shard_rows: int) -> None:
    """A finished run; each interval trains on one step only, which no question here asks for."""
    lease = ledger.create_run(spec, "benchmark")
    for interval in range(spec.intervals):
        say(f"  interval {interval + 1} of {spec.intervals}")
        ledger.finish_checkpoint(lease, make_checkpoint(spec, interval), None, 1.0)
        scores = np.empty(spec.pool_size)
        for shard in shards(spec, interval, shard_rows):
            ledger.add_scores(lease, interval, shard)
            scores[shard.ordinals] = shard.scores
        ledger.finish_scoring(lease, interval, 1.0)
        selection = draw(spec, interval, scores)
        ledger.finish_selection(lease, interval, selection, 1.0)
        outcome = TrainingOutcome(
            checkpoint=make_checkpoint(spec, interval + 1),
            steps=(TrainingStep(interval + 1, 1.0, 1e-4, None, None),),
            step_ordinals=selection.ordinals[:8].reshape(1, -1),
            seconds=1.0,
        )
        evaluation = Evaluation(interval, "exact_match", 0.5, 100, {"domain 0": (0.5, 100)}, 1.0)
        ledger.finish_training(lease, interval, outcome, evaluation)
    ledger.release(lease, "finished")


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
