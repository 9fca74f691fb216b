"""Selective rescoring on loghub: share scored, recall of the curriculum, accuracy, cost.

For each seed two runs of eight intervals, of the same model on the same pool: one that scores
everything at every interval, one with ``rescore: {policy: selective}``.  Of the latter the samples
it left out are scored as well, outside its ledger and its time, so that the curriculum that scoring
everything would have selected is known exactly.  Stages are called one after the other, without
Prefect.

The model is the one of ``examples/loghub.yaml``, which has seen half of the systems; all of its
weights are trained, which takes less time than an adapter in so small a model.  Cost is that of
the scoring stages, audit, decisions and writing included, against the entropy of whole answers
(up to 256 tokens) of the same pool at every interval, by the rate measured on part of it with the
weights at the start and at the end.

The scores of the run that scored everything are also replayed: what selective rescoring would have
scored and found with other audit shares, without a model.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import Aim, Figure, Report
from benchmarks.tasks import LOGHUB, Task, write_rows
from edco_core.config import Config, parse_config
from edco_core.curriculum import KnownEvidence, Ranking, build_strategy, derive_generator
from edco_core.loading import ModelHost
from edco_core.records import ScoreHistory
from edco_core.scoring import build_scorer
from edco_core.scoring.rescoring import rescore
from flows import opening, stages
from flows.open_run import OpenRun
from flows.prepare import complete, load_inputs
from storage import Ledger, open_ledger, queries

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints

NOBODY = np.empty(0, dtype=np.int64)


def measure(*, quick: bool) -> Report:
    """Both policies, seed by seed, in turns."""
    seeds = (0,) if quick else (0, 1)
    with tempfile.TemporaryDirectory(prefix="edco-bench-") as name:
        folder = Path(name)
        config = task_config(LOGHUB, folder, quick=quick)
        runs: dict[str, list[dict[str, Any]]] = {"all": [], "selective": []}
        for seed in seeds:
            for policy, outcomes in runs.items():
                outcomes.append(_run(config, policy, seed, folder))
    selective, everything = runs["selective"], runs["all"]
    return Report(
        [
            Figure(
                "samples scored",
                [sum(run["scored"]) for run in selective],
                [sum(run["scored"]) for run in everything],
                "all, at every interval",
                "",
            ),
            Figure(
                "least recall of an interval",
                [min(run["recall"]) for run in selective],
                [1.0] * len(seeds),
                "scoring everything",
                "",
                Aim("≥", 0.95),
            ),
            Figure(
                "final accuracy",
                [run["accuracy"] for run in selective],
                [run["accuracy"] or 1e-9 for run in everything],  # a quick model knows nothing
                "scoring everything",
                "",
            ),
            Figure(
                "scoring, selective",
                [run["scoring_seconds"] for run in selective],
                [run["full_entropy_seconds"] for run in selective],
                "entropy of whole answers",
                aim=Aim("≤", 0.02),
            ),
            Figure(
                "scoring, all",
                [run["scoring_seconds"] for run in everything],
                [run["full_entropy_seconds"] for run in everything],
                "entropy of whole answers",
                aim=Aim("≤", 0.06),
            ),
        ],
        {"runs": runs, "config": config.for_ledger()},
    )


def task_config(task: Task, folder: Path, *, quick: bool) -> Config:
    """Pool and evaluation set drawn from the task, and its model, which is trained once."""
    pool_size, eval_size, intervals = (200, 40, 3) if quick else (2000, 400, 8)
    rng = np.random.default_rng(0)
    for name, size in (("train", pool_size), ("eval", eval_size)):
        write_rows(folder / f"{name}.jsonl", task.draw(name, rng)[:size])
    model = task.model(quick=quick)
    return parse_config(
        {
            "run": {"name": "rescoring", "output_dir": str(folder / "runs")},
            "model": {"name_or_path": str(model), "peft": None},
            "data": {"train": str(folder / "train.jsonl"), "eval": str(folder / "eval.jsonl")},
            "scoring": {"type": "prefix_entropy", "prefix_tokens": 4, "quick_answer": False},
            "curriculum": {"type": "edco", "intervals": intervals, "top_n": 0.125},
            "training": {
                "args": {
                    "learning_rate": 1e-3,
                    "lr_scheduler_type": "linear",
                    "per_device_train_batch_size": 16,
                }
            },
            "evaluation": {"max_new_tokens": task.max_new_tokens, "every": intervals},
        }
    )


def _run(config: Config, policy: str, seed: int, folder: Path) -> dict[str, Any]:
    """One run, stage by stage, and what it would have selected had everything been scored."""
    values = config.model_dump(mode="json")
    values["run"]["seed"] = seed
    values["scoring"]["rescore"] = {"policy": policy}
    config = parse_config(values)
    url = f"duckdb:///{folder / f'{policy}-{seed}.duckdb'}"
    host = ModelHost(config.model, seed=seed)
    host.load_base()
    prepared = complete(load_inputs(config, url))
    run = opening.create(lambda: open_ledger(url), prepared, f"{policy}-{seed}", host)
    outcome: dict[str, Any] = {"seed": seed, "scored": [], "recall": [], "recall_estimate": []}
    rates = []
    with run.owned():
        run.warm_up()
        for interval in range(run.plan.num_intervals):
            stages.take_checkpoint(run, interval)
            if interval == 0:
                rates.append(_full_entropy_seconds(run))
            stages.score_pool(run, interval)
            stages.select_curriculum(run, interval)
            outcome["recall"].append(_true_recall(run, interval))
            stages.train_interval(run, interval)
        rates.append(_full_entropy_seconds(run))
        rows = queries.intervals(run.ledger, run.run_id)
        if policy == "all":
            outcome["replayed"] = replayed(run.ledger, run.run_id, config)
    outcome["audit_share"] = config.scoring.rescore.audit_share
    outcome["scored"] = [row["n_rescored"] for row in rows]
    outcome["recall_estimate"] = [row["recall_estimate"] for row in rows]
    outcome["scoring_seconds"] = sum(row["scoring_seconds"] for row in rows)
    outcome["full_entropy_seconds"] = float(np.mean(rates)) * len(run.pool) * len(rows)
    outcome["accuracy"] = rows[-1]["metric"]
    return outcome


def replayed(ledger: Ledger, run_id: str, config: Config) -> list[dict[str, Any]]:
    """What selective rescoring would have done with the scores of a run that scored everything.

    For several audit shares, five audits each: the share scored and the recall, both on average
    over the intervals after the first, and the recall estimate's mean error.
    """
    intervals = range(config.curriculum.intervals)
    stored = [ledger.scores(run_id, interval).scores for interval in intervals]
    chosen = [ledger.selection(run_id, interval).ordinals for interval in intervals]
    outcomes = []
    for audit_share in (0.05, 0.1, 0.15, 0.2, 0.3):
        results = [
            each for seed in range(5) for each in _replay(stored, chosen, config, audit_share, seed)
        ]
        shares, recalls, estimates = (np.array(column) for column in zip(*results, strict=True))
        outcomes.append(
            {
                "audit_share": audit_share,
                "share_scored": float(shares.mean()),
                "recall_mean": float(recalls.mean()),
                "recall_min": float(recalls.min()),
                "estimate_too_high_by": float((estimates - recalls).mean()),
            }
        )
    return outcomes


def _replay(
    stored: Sequence[Floats],
    chosen: Sequence[Ints],
    config: Config,
    audit_share: float,
    seed: int,
) -> Iterator[tuple[float, float, float]]:
    """Share scored, recall and its estimate, interval by interval."""
    size, num_selected = len(stored[0]), len(chosen[0])
    strategy = build_strategy(config.curriculum)
    last = ScoreHistory(
        stored[0].copy(), np.zeros(size, np.int64), np.full(size, np.nan), np.full(size, -1)
    )
    for interval in range(1, len(stored)):
        true = stored[interval]
        is_trained_since = np.zeros(size, dtype=bool)
        for earlier in range(interval):
            ordinals = chosen[earlier]
            is_trained_since[ordinals[last.scored_at_interval[ordinals] <= earlier]] = True
        is_scored = np.zeros(size, dtype=bool)

        def score(wanted: Ints, true: Floats = true, is_scored: Any = is_scored) -> Floats:
            is_scored[wanted] = True
            return true[wanted]

        def ranking_of(scores: Floats, interval: int = interval) -> Ranking:
            rng, _ = derive_generator(config.run.seed, interval, "selection")
            ranking = strategy.ranking(scores, rng)
            assert ranking is not None
            return ranking

        rescored = rescore(
            score, last, is_trained_since, ranking_of, num_selected,
            audit_share=audit_share, target_recall=0.95,
            rng=np.random.default_rng([seed, interval]),
        )  # fmt: skip
        scores = np.where(is_scored, true, last.scores)
        wanted, found = (
            np.argsort(-ranking_of(each).keys(each), kind="stable")[:num_selected]
            for each in (true, scores)
        )
        recall = len(np.intersect1d(wanted, found)) / num_selected
        yield float(is_scored.mean()), recall, rescored.recall_estimate
        last = ScoreHistory(
            scores,
            np.where(is_scored, interval, last.scored_at_interval),
            np.where(is_scored, last.scores, last.earlier_scores),
            np.where(is_scored, last.scored_at_interval, last.earlier_scored_at_interval),
        )


def _true_recall(run: OpenRun, interval: int) -> float:
    """Share of the curriculum that scoring everything would have selected that was selected."""
    stored = run.ledger.scores(run.run_id, interval)
    scores = stored.scores.copy()
    assert stored.scored_at_interval is not None
    left = np.flatnonzero(stored.scored_at_interval != interval)
    for shard in run.scorer.score(left, NOBODY, lambda done, total: None, interval=interval):
        scores[shard.ordinals] = shard.scores
    rng, _ = derive_generator(run.config.run.seed, interval, "selection")
    wanted = run.strategy.select(KnownEvidence(scores), run.plan.samples_per_interval, rng).ordinals
    found = run.ledger.selection(run.run_id, interval).ordinals
    return len(np.intersect1d(wanted, found)) / len(wanted)


def _full_entropy_seconds(run: OpenRun, num_samples: int = 96) -> float:
    """Per sample, with the weights the host holds."""
    drawn = np.sort(np.random.default_rng(0).permutation(len(run.pool))[:num_samples])
    part = replace(run.pool, table=run.pool.table.take(drawn))
    section = {"type": "full_entropy", "max_new_tokens": 256}
    settings = parse_config({**run.config.for_ledger(), "scoring": section}).scoring
    start = time.perf_counter()
    scorer = build_scorer(settings, part, run.host, seed=0)
    for _ in scorer.score(np.arange(len(part)), NOBODY, lambda done, total: None, interval=0):
        pass
    return (time.perf_counter() - start) / len(part)
