"""What training and scoring cost on this device, measured before runs are planned by seconds.

The first measurement of the same settings, model and data counts for as long as the comparison's
name is used: a plan measured anew would be another plan, and its half-done runs would be lost.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.checkpoints import mark_complete, weights_sha256
from edco_core.config import Config
from edco_core.records import Checkpoint
from flows.compare_plan import Cost, NotMeasuredError
from flows.display import progress, say
from flows.prepare import Inputs, complete
from storage import Ledger

if TYPE_CHECKING:
    from edco_core.loading import ModelHost

_SCORED_SAMPLES = 256
_ROUNDS = 12
"""Of sampling and training on it; where nothing is sampled a round is a step."""
_NOT_COUNTED = 2
"""Of the rounds, after the first one: in them memory is asked for and kernels are chosen."""


def calibrated(ledger: Ledger, experiment: str, config: Config, inputs: Inputs) -> Cost:
    """The cost of these settings: as the ledger has it, else measured and kept there."""
    keys = _keys(config, inputs)
    known = _known(ledger, experiment, keys)
    if None in known.values():
        say(f"measuring what {config.curriculum.type} costs on this device")
        measured = _measure(
            config, inputs, train=known["step"] is None, score=known["scoring"] is None
        )
        for what, seconds in measured.items():
            known[what] = ledger.keep_calibration(experiment, what, keys[what], seconds)
        say(
            f"a step takes {known['step']:.3g} s, an interval {known['interval']:.3g} s beside "
            f"its steps, scoring the pool {known['scoring']:.3g} s"
        )
    return _cost(known)


def stored_cost(ledger: Ledger | None, experiment: str, config: Config, inputs: Inputs) -> Cost:
    """The cost as it was measured; raises NotMeasuredError."""
    known = _known(ledger, experiment, _keys(config, inputs)) if ledger else {"step": None}
    if None in known.values():
        raise NotMeasuredError(
            "compare.budget.seconds: what the strategies cost has not been measured yet, so "
            "their runs are not planned. 'edco compare' measures it, or give a budget of steps."
        )
    return _cost(known)


def _keys(config: Config, inputs: Inputs) -> dict[str, str]:
    """What each measurement depends on, as a hash."""
    common = {"model": config.model.model_dump(mode="json"), "data": inputs.pool.fingerprint}
    scoring = _digest(common | {"scoring": config.scoring.model_dump(mode="json")})
    training = _digest(common | _trained_by(config))
    return {"step": training, "interval": training, "scoring": scoring}


def _trained_by(config: Config) -> dict[str, Any]:
    """What training costs by: also the strategy, where it decides how answers are sampled."""
    settings: dict[str, Any] = {"training": config.training.model_dump(mode="json")}
    if any(part.SAMPLES_ANSWERS for part in config.curriculum.parts()):
        settings["curriculum"] = config.curriculum.model_dump(
            mode="json", exclude={"intervals", "top_n", "guard"}
        )
    return settings


def _known(ledger: Ledger, experiment: str, keys: Mapping[str, str]) -> dict[str, float | None]:
    return {what: ledger.calibration(experiment, what, key) for what, key in keys.items()}


def _cost(known: Mapping[str, float | None]) -> Cost:
    return Cost(**{what: seconds for what, seconds in known.items() if seconds is not None})


def _digest(settings: object) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _measure(config: Config, inputs: Inputs, *, train: bool, score: bool) -> dict[str, float]:
    """Seconds by what they are for; trains in a folder that is gone afterwards."""
    from edco_core.loading import ModelHost  # torch: seconds

    prepared = complete(inputs)
    if prepared.parent is not None:
        prepared.parent.make()
    host = ModelHost(prepared.config.model, seed=prepared.config.run.seed)
    host.load_base()
    measured: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="edco-calibration-") as folder:
        if score:
            measured["scoring"] = _scoring_seconds(config, inputs, host, Path(folder))
        if train:
            measured |= _training_seconds(config, inputs, host, Path(folder))
    return measured


def _scoring_seconds(config: Config, inputs: Inputs, host: ModelHost, folder: Path) -> float:
    """For the whole pool, from samples taken evenly from it."""
    from edco_core.scoring import build_scorer

    pool = inputs.pool
    scorer = build_scorer(config.scoring, pool, host, seed=config.run.seed, cache_dir=folder)
    num_samples = min(len(pool), _SCORED_SAMPLES)
    wanted = np.linspace(0, len(pool) - 1, num_samples).astype(np.int64)
    none = np.empty(0, dtype=np.int64)
    with progress("calibration · scoring") as on_progress:
        for _ in scorer.score(wanted[:8], none, on_progress, interval=0):  # to warm up
            pass
        began = time.perf_counter()
        for _ in scorer.score(wanted, none, on_progress, interval=0):
            pass
    return (time.perf_counter() - began) * len(pool) / num_samples


def _training_seconds(
    config: Config, inputs: Inputs, host: ModelHost, folder: Path
) -> dict[str, float]:
    """A step, by the median of some; and what an interval takes beside its steps.

    Mean over the intervals where strategies that sample answers in other ways take turns.
    """
    parts = [config.curriculum.at(k) for k in range(config.curriculum.intervals)]
    turns = [part if part.SAMPLES_ANSWERS else None for part in parts]
    rules: list[Any] = []
    for rule in turns:
        if rule not in rules:
            rules.append(rule)
    found = [
        _seconds_under(rule, config, inputs, host, folder / str(number))
        for number, rule in enumerate(rules)
    ]
    return {
        what: sum(turns.count(rule) * each[what] for rule, each in zip(rules, found, strict=True))
        / len(turns)
        for what in ("step", "interval")
    }


def _seconds_under(
    rule: Any, config: Config, inputs: Inputs, host: ModelHost, folder: Path
) -> dict[str, float]:
    """The same where the answers are sampled by this section; None: as TRL does."""
    from edco_core.training import build_trainer, make_plan

    folder.mkdir()
    size = len(inputs.pool)
    one_step = make_plan(config.training, num_intervals=1, samples_per_interval=1)
    wanted = one_step.slots_per_step * _ROUNDS / config.training.epochs_per_interval
    num_samples = min(size, max(1, round(wanted)))
    plan = make_plan(config.training, num_intervals=1, samples_per_interval=num_samples)
    trainer = build_trainer(
        config.training, inputs.pool, host, plan,
        curriculum=rule, run_id="calibration", run_dir=folder, seed=config.run.seed,
    )  # fmt: skip
    trainer.prepare()
    saved = host.save_start(folder / "checkpoints" / "start")
    if config.model.peft is None:
        digest = weights_sha256(saved)
    else:
        digest = mark_complete(saved, run_id="calibration", step=0, num_tokens=0).weights_sha256
    start = Checkpoint(0, 0, str(saved), digest)
    moments: list[float] = []
    order = np.linspace(0, size - 1, num_samples).astype(np.int64)
    with progress("calibration · training") as update:
        outcome = trainer.train_interval(
            0, order, start, start,
            confirm_ownership=lambda: None, should_stop=lambda: False,
            on_progress=_noting(moments, update),
        )  # fmt: skip
    # Answers are sampled in the first step of a round and trained on in all.
    of_rounds = np.diff(moments[plan.steps_per_round - 1 :: plan.steps_per_round])[_NOT_COUNTED:]
    if len(of_rounds) == 0:  # a pool of a round or two
        return {"step": outcome.seconds / len(outcome.steps), "interval": 0.0}
    step = statistics.median(of_rounds.tolist()) / plan.steps_per_round
    return {"step": step, "interval": max(0.0, outcome.seconds - step * len(outcome.steps))}


def _noting(moments: list[float], update: Callable[[int, int], None]) -> Callable[[int, int], None]:
    def on_progress(done: int, total: int) -> None:
        moments.append(time.perf_counter())
        update(done, total)

    return on_progress
