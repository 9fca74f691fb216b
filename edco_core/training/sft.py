"""Supervised fine-tuning, one interval at a time, as if it were one training.

How a run of many intervals stays one training, to the last bit: every interval builds TRL's
``SFTTrainer`` anew with the schedule of the *whole* run, resumes it from the last saved step (its
optimizer, schedule and random state with it), and stops it at the interval's last step.  The
trainer sees the run's order as one list that grows: rows it has already been through, which it
skips without loading them, then this interval's samples in their stored order.  Continuing after
a kill is the same call.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset, load_from_disk
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from edco_core.checkpoints import (
    latest_complete,
    mark_complete,
    read_facts,
    remove_others,
    weights_sha256,
)
from edco_core.config import SftSection, nearest
from edco_core.errors import ConfigError, DataError, StopRequested, TrainingError
from edco_core.prompts import training_rows
from edco_core.records import Checkpoint, Pool, TrainingOutcome, TrainingStep

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.records import Ints

DEFAULT_SAVE_STEPS = 100
"""Steps between saves inside an interval; TRL's 500 would lose too much of a short interval."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration comes to: all intervals are alike."""

    num_intervals: int
    samples_per_interval: int
    slots_per_step: int
    """Samples in one optimizer step: per_device_train_batch_size x gradient_accumulation_steps."""
    steps_per_interval: int

    @property
    def total_steps(self) -> int:
        return self.num_intervals * self.steps_per_interval


def make_plan(settings: SftSection, *, num_intervals: int, samples_per_interval: int) -> Plan:
    """Steps and slots; raises ConfigError for ``training.args`` TRL does not take."""
    args = build_args(settings, output_dir="unused", max_steps=1, seed=0)
    slots = args.per_device_train_batch_size * args.gradient_accumulation_steps
    num_rows = max(1, round(samples_per_interval * settings.epochs_per_interval))
    return Plan(num_intervals, samples_per_interval, slots, math.ceil(num_rows / slots))


def build_args(settings: SftSection, *, output_dir: str, max_steps: int, seed: int) -> SFTConfig:
    """TRL's SFTConfig for one interval: the user's ``training.args`` over our defaults."""
    known = {field.name for field in dataclasses.fields(SFTConfig) if field.init}
    for key in settings.args:
        if key not in known:
            raise ConfigError(
                f"training.args.{key}: TRL's SFTConfig has no such setting."
                f"{nearest(key, known)} All of them: https://huggingface.co/docs/trl/sft_trainer"
            )
    on_cuda = torch.cuda.is_available()
    values: dict[str, Any] = {
        # TRL's defaults suit large models on GPUs; on the CPU both only cost time.
        "bf16": on_cuda and not settings.args.get("fp16", False),
        # transformers' new name for gradient_checkpointing, which TRL still documents.
        "activation_checkpointing": settings.args.get("gradient_checkpointing", on_cuda),
        "save_steps": DEFAULT_SAVE_STEPS,
        "report_to": "none",
        "use_cpu": not on_cuda and not torch.backends.mps.is_available(),
        "dataloader_pin_memory": on_cuda,
        **settings.args,
        "output_dir": output_dir,
        "max_steps": max_steps,
        "seed": seed,
        "train_sampling_strategy": "sequential",
        "save_strategy": "steps",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }
    try:
        args = SFTConfig(**values)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"training.args: {error}") from error
    for key in ("per_device_train_batch_size", "gradient_accumulation_steps", "save_steps"):
        value = getattr(args, key)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"training.args.{key}: use a whole number of at least 1 ({value!r})")
    # One process trains on one device; without this several visible GPUs mean DataParallel.
    _ = args.device
    args._n_gpu = min(args.n_gpu, 1)
    return args


class SftTrainer:
    """Trains intervals of one run.  ``run_dir`` gets ``tokenized/`` and ``checkpoints/``."""

    def __init__(
        self,
        settings: SftSection,
        pool: Pool,
        host: ModelHost,
        plan: Plan,
        *,
        run_id: str,
        run_dir: Path,
        seed: int,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._host = host
        self._plan = plan
        self._run_id = run_id
        self._run_dir = run_dir
        self._seed = seed
        self._tokenized: Any = None
        self._num_tokens: Ints | None = None

    def train_interval(
        self,
        interval: int,
        order: Ints,
        start: Checkpoint,
        *,
        confirm_ownership: Callable[[], None],
        should_stop: Callable[[], bool],
        on_progress: Callable[[int, int], None],
    ) -> TrainingOutcome:
        """Train on one curriculum and return what happened, step by step.

        ``order`` (N,) holds the ordinals in training order; further epochs repeat it, and a last
        step that is not full is filled from its beginning.  ``confirm_ownership`` raises when the
        run is another process's by now; it is asked before a file is touched.  Raises
        StopRequested after a save when ``should_stop`` says so, and TrainingError for a loss that
        is not finite.
        """
        began = time.perf_counter()
        plan, restart = self._plan, self._settings.restart_optimizer
        first_step = interval * plan.steps_per_interval
        rows = np.resize(order, plan.steps_per_interval * plan.slots_per_step)
        folder = self._run_dir / "checkpoints" / f"interval-{interval:03d}"
        confirm_ownership()
        resume_from = self._resume_point(folder, start, first_step)

        # With a fresh optimizer per interval the trainer counts steps from 0 in each of them.
        offset = first_step if restart else 0
        end = first_step + plan.steps_per_interval - offset
        seen = np.zeros(0 if restart else first_step * plan.slots_per_step, dtype=np.int64)
        args = build_args(
            self._settings,
            output_dir=str(folder),
            max_steps=plan.steps_per_interval if restart else plan.total_steps,
            seed=self._seed if not restart else _derive_seed(self._seed, interval),
        )
        # Tokenised already: TRL would go through the whole growing list again at each interval.
        args.dataset_kwargs = {**(args.dataset_kwargs or {}), "skip_prepare_dataset": True}
        self.prepare()
        self._host.load_weights(start)
        start_facts = read_facts(Path(start.path))
        is_ours = start_facts is not None and start_facts.run_id == self._run_id
        tokens_before = start_facts.num_tokens if start_facts and is_ours else 0
        step_tokens = self._tokens_per_step(rows)
        tokens_after = tokens_before + np.cumsum(step_tokens)

        def complete(checkpoint: Path, step: int) -> None:
            confirm_ownership()
            mark_complete(
                checkpoint,
                run_id=self._run_id,
                step=step,
                num_tokens=int(tokens_after[step - first_step - 1]),
            )

        watch = _Watch(
            first=first_step - offset,
            end=end,
            offset=offset,
            complete=complete,
            should_stop=should_stop,
            on_progress=on_progress,
        )
        final = folder / f"checkpoint-{end}"
        if read_facts(final) is None:  # else it was killed between its last save and its row
            with self._host.lent_for_training() as model:
                trainer = SFTTrainer(
                    model=model,
                    args=args,
                    train_dataset=self._tokenized.select(np.concatenate([seen, rows])),
                    processing_class=self._host.tokenizer,
                    callbacks=[watch],
                )
                trainer.remove_callback(PrinterCallback)
                self._host.undo_cast()
                trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
                history = trainer.state.log_history
                del trainer
            if watch.stopped:
                raise StopRequested(f"stopped after step {watch.last_step}, which is saved")
        else:
            history = _read_history(final)
        facts = read_facts(final)
        if facts is None:
            raise TrainingError(
                f"{final}: training ended without saving its last step; "
                f"type 'edco resume {self._run_id}' to train it again."
            )
        checkpoint = Checkpoint(interval + 1, facts.step, str(final), facts.weights_sha256)
        remove_others(folder, keep=final)
        if watch.last_step == end + offset:
            self._host.holds(checkpoint)
        return TrainingOutcome(
            checkpoint=checkpoint,
            steps=_steps(history, first_step, offset, tokens_after),
            step_ordinals=rows.reshape(plan.steps_per_interval, plan.slots_per_step),
            seconds=time.perf_counter() - began,
        )

    def _resume_point(self, folder: Path, start: Checkpoint, first_step: int) -> Path | None:
        """The last saved step: inside this interval, else the end of the previous one."""
        found = latest_complete(folder)
        # Hashed again: after a power loss a file may be shorter than its marker believes.
        if found is not None and weights_sha256(found[0]) == found[1].weights_sha256:
            remove_others(folder, keep=found[0])
            return found[0]
        shutil.rmtree(folder, ignore_errors=True)  # remains of a save that was killed
        if first_step == 0 or self._settings.restart_optimizer:
            return None
        return Path(start.path)

    def prepare(self) -> None:
        """Tokenise the whole pool as TRL does, once per run, and try the training arguments.

        Called before a run exists, so that nothing TRL refuses is found out after the first
        scoring.  Raises ConfigError for arguments and DataError for samples.
        """
        if self._tokenized is not None:
            return
        folder = self._run_dir / "tokenized"
        if not folder.exists():
            self._tokenize(folder)
        self._tokenized = load_from_disk(str(folder))
        lengths = pc.list_value_length(self._tokenized.data.column("input_ids"))
        self._num_tokens = lengths.to_numpy().astype(np.int64)

    def _tokenize(self, folder: Path) -> None:
        args = build_args(
            self._settings,
            output_dir=str(self._run_dir / "checkpoints"),
            max_steps=self._plan.total_steps,
            seed=self._seed,
        )
        raw = Dataset.from_dict(
            {
                **training_rows(self._pool, self._host.tokenizer),
                "ordinal": range(len(self._pool)),
            }
        )
        self._host.load_base()
        with self._host.lent_for_training() as model:
            try:
                # Only for the tokenised data set it makes: exactly what TRL would train on.
                trainer = SFTTrainer(
                    model=model, args=args, train_dataset=raw, processing_class=self._host.tokenizer
                )
                trainer.create_optimizer_and_scheduler(num_training_steps=args.max_steps)
            except (TypeError, ValueError, ImportError, RuntimeError) as error:
                raise ConfigError(f"training.args: {error}") from error
            prepared = trainer.train_dataset
            del trainer
        self._refuse_dropped(prepared["ordinal"], args)
        temporary = folder.with_name(".tokenized.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        prepared.select_columns(["input_ids", "labels"]).save_to_disk(str(temporary))
        temporary.replace(folder)

    def _refuse_dropped(self, kept: list[int], args: SFTConfig) -> None:
        dropped = sorted(set(range(len(self._pool))) - set(kept))
        if dropped:
            ids = self._pool.table.column("sample_id").take(dropped[:5]).to_pylist()
            raise DataError(
                f"{len(dropped)} samples have a prompt that fills max_length {args.max_length}, so "
                f"nothing of their completion is left to train on (first: {', '.join(ids)}). "
                "Raise training.args.max_length, or shorten those prompts."
            )

    def _tokens_per_step(self, rows: Ints) -> Ints:
        assert self._num_tokens is not None
        per_step: Ints = self._num_tokens[rows].reshape(-1, self._plan.slots_per_step).sum(axis=1)
        return per_step


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Stops the trainer at the interval's end or on request, and marks complete saves."""

    def __init__(
        self,
        *,
        first: int,
        end: int,
        offset: int,
        complete: Callable[[Path, int], None],
        should_stop: Callable[[], bool],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._first, self._end, self._offset = first, end, offset
        self._complete = complete
        self._should_stop = should_stop
        self._on_progress = on_progress
        self.stopped = False
        self.last_step = first + offset

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Each save writes the whole log again; earlier intervals' steps are in the ledger.
        state.log_history = [e for e in state.log_history if e["step"] > self._first]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self.last_step = state.global_step + self._offset
        self._on_progress(state.global_step - self._first, self._end - self._first)
        self.stopped = state.global_step < self._end and self._should_stop()
        if state.global_step >= self._end or self.stopped:
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step + self._offset}. Nothing after the "
                "last save is kept; lower training.args.learning_rate and start another run."
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._complete(saved, state.global_step + self._offset)
        remove_others(saved.parent, keep=saved)


def _derive_seed(seed: int, interval: int) -> int:
    """Another seed for each interval, unlike those of the runs next to this one."""
    return int(np.random.SeedSequence([seed, interval]).generate_state(1)[0])


def _read_history(checkpoint: Path) -> list[dict[str, Any]]:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return list(state["log_history"])


def _steps(
    history: list[dict[str, Any]], first_step: int, offset: int, tokens_after: Ints
) -> tuple[TrainingStep, ...]:
    """This interval's part of the trainer's log; it reaches back over resumes."""
    return tuple(
        TrainingStep(
            step=entry["step"] + offset,
            loss=float(entry["loss"]),
            learning_rate=entry.get("learning_rate"),
            grad_norm=entry.get("grad_norm"),
            num_tokens=int(tokens_after[entry["step"] + offset - first_step - 1]),
        )
        for entry in history
        if "loss" in entry and entry["step"] + offset > first_step
    )
