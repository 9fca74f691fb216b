"""What the intervals of reinforcement learning cost beside the same training run straight through.

Both train a small gsm8k model on the same prompts in the same order, with the same answers: 8
prompts x 8 answers to a step, LoRA, KL term, a save at the same steps.  The reference is TRL's
``GRPOTrainer`` as any script would use it, in one go.  Measured are our intervals: the trainer
built anew for each, resumed from the save before, every group recorded and written beside it, the
weights hashed and marked.  That both end with the same adapter, to the last bit, is checked.

Scoring, selection, evaluation and the ledger are left out: see ``scoring`` and ``orchestration``.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from trl import GRPOTrainer

from benchmarks.measuring import Aim, Figure, Report
from benchmarks.tasks import GSM8K
from edco_core.checkpoints import mark_complete, weights_sha256
from edco_core.config import GrpoSection, ModelSection
from edco_core.loading import ModelHost
from edco_core.prompts import training_rows
from edco_core.records import Checkpoint, Pool
from edco_core.training import Plan, make_plan
from edco_core.training.grpo import GrpoTrainer

SEED = 0


def measure(*, quick: bool) -> Report:
    """Whole trainings in turns, on a warm model."""
    intervals, steps = (2, 2) if quick else (5, 5)
    answers, max_tokens = (2, 4) if quick else (8, 48)
    pool, host = GSM8K.load(8 * steps * intervals, quick=quick)
    settings = GrpoSection.model_validate(
        {
            "type": "grpo",
            # Not what one would train for, but neither always nor never there.
            "rewards": [{"type": "contains", "texts": ["2"]}],
            "args": {
                "per_device_train_batch_size": 8 * answers,
                "num_generations": answers,
                "max_completion_length": max_tokens,
                "learning_rate": 1e-4,
                "beta": 0.01,
                "save_steps": steps,
            },
        }
    )
    plan = make_plan(settings, num_intervals=intervals, samples_per_interval=8 * steps)
    order = np.random.default_rng(SEED).permutation(len(pool))
    straight: list[float] = []
    ours: list[float] = []
    same: list[bool] = []
    for _ in range(1 if quick else 3):
        hashes = []
        for train, seconds in ((_straight, straight), (_by_intervals, ours)):
            with tempfile.TemporaryDirectory(prefix="edco-bench-") as name:
                fresh = ModelHost(ModelSection(name_or_path=host.settings.name_or_path), seed=SEED)
                took, digest = train(settings, pool, fresh, plan, order, Path(name))
                seconds.append(took)
                hashes.append(digest)
        same.append(len(set(hashes)) == 1)
    return Report(
        [
            Figure("training by intervals", ours, straight, "straight through", aim=Aim("≤", 1.03)),
        ],
        {
            "intervals": intervals,
            "steps_per_interval": plan.steps_per_interval,
            "answers_per_step": 8 * answers,
            "max_new_tokens": max_tokens,
            "same_adapter": same,
        },
    )


def _by_intervals(
    settings: GrpoSection, pool: Pool, host: ModelHost, plan: Plan, order: Any, folder: Path
) -> tuple[float, str]:
    trainer = GrpoTrainer(settings, pool, host, plan, run_id="b", run_dir=folder, seed=SEED)
    trainer.prepare()
    start = host.save_start(folder / "checkpoints" / "start")
    mark_complete(start, run_id="b", step=0, num_tokens=0)
    first = checkpoint = Checkpoint(0, 0, str(start), weights_sha256(start))
    began = time.perf_counter()
    for interval, part in enumerate(np.split(order, plan.num_intervals)):
        checkpoint = trainer.train_interval(
            interval,
            part,
            checkpoint,
            first,
            confirm_ownership=lambda: None,
            should_stop=lambda: False,
            on_progress=lambda done, total: None,
        ).checkpoint
    return time.perf_counter() - began, checkpoint.weights_sha256


def _straight(
    settings: GrpoSection, pool: Pool, host: ModelHost, plan: Plan, order: Any, folder: Path
) -> tuple[float, str]:
    host.load_base()
    args = GrpoTrainer(
        settings, pool, host, plan, run_id="b", run_dir=folder, seed=SEED
    )._build_args(output_dir=str(folder), max_steps=plan.total_steps, seed=SEED)
    prompts = training_rows(pool, host.tokenizer)["prompt"]
    began = time.perf_counter()
    with host.lent_for_training() as model:
        trainer = GRPOTrainer(
            model=model,
            args=args,
            reward_funcs=_worth,
            train_dataset=Dataset.from_dict({"prompt": [prompts[i] for i in order]}),
            processing_class=host.tokenizer,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        del trainer
    seconds = time.perf_counter() - began
    saved = folder / f"checkpoint-{plan.total_steps}"
    shutil.rmtree(saved / "ref", ignore_errors=True)
    return seconds, weights_sha256(saved)


def _worth(completions: list[str], **_: Any) -> list[float]:
    return [float("2" in completion) for completion in completions]
