"""One training interval of many, as if they were one training: what all trainers share.

How a run of many intervals stays one training, to the last bit: every interval builds TRL's
trainer anew with the schedule of the *whole* run, resumes it from the last saved step (its
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
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from edco_core.checkpoints import (
    latest_complete,
    mark_complete,
    read_facts,
    remove_others,
    weights_sha256,
)
from edco_core.config import nearest
from edco_core.config_training import BaseTrainingSection
from edco_core.errors import ConfigError, StopRequested, TrainingError
from edco_core.records import Checkpoint, Pool, TrainingOutcome

if TYPE_CHECKING:
    from edco_core.config_curriculum import CurriculumSection
    from edco_core.loading import ModelHost
    from edco_core.records import Ints, Known

DEFAULT_SAVE_STEPS = 100
"""Steps between saves inside an interval; TRL's 500 would lose too much of a short interval."""

SettingsT = TypeVar("SettingsT", bound=BaseTrainingSection)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration comes to: all intervals are alike."""

    num_intervals: int
    samples_per_interval: int
    slots_per_step: int
    """Samples in one optimizer step: per_device_train_batch_size x gradient_accumulation_steps, in
    reinforcement learning divided by num_generations."""
    steps_per_interval: int
    steps_per_round: int = 1
    """Optimizer steps that share the same samples: above 1 only in reinforcement learning that
    trains on its answers several times.  Saves and intervals end with a round."""

    @property
    def total_steps(self) -> int:
        return self.num_intervals * self.steps_per_interval

    @property
    def rows_per_interval(self) -> int:
        return self.steps_per_interval // self.steps_per_round * self.slots_per_step


def plan_of(
    settings: BaseTrainingSection,
    *,
    num_intervals: int,
    samples_per_interval: int,
    slots_per_step: int,
    steps_per_round: int = 1,
) -> Plan:
    """As many steps as the epochs of a curriculum fill; the last one is filled up."""
    num_rows = max(1, round(samples_per_interval * settings.epochs_per_interval))
    num_rounds = math.ceil(num_rows / slots_per_step)
    return Plan(
        num_intervals,
        samples_per_interval,
        slots_per_step,
        num_rounds * steps_per_round,
        steps_per_round,
    )


def build_args(
    config_class: type[Any],
    settings: Any,
    decided: dict[str, Any],
    *,
    output_dir: str,
    max_steps: int,
    seed: int,
) -> Any:
    """TRL's arguments for one interval: ``training.args`` over our defaults, under what we decide.

    Raises ConfigError for what TRL does not take.
    """
    known = {field.name for field in dataclasses.fields(config_class) if field.init}
    for key in settings.args:
        if key not in known:
            raise ConfigError(
                f"training.args.{key}: TRL's {config_class.__name__} has no such setting."
                f"{nearest(key, known)} All of them: "
                f"https://huggingface.co/docs/trl/{settings.type}_trainer"
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
        args = config_class(**values | decided)
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


@dataclass(frozen=True, slots=True)
class Span:
    """One interval among the steps of a run."""

    interval: int
    first: int
    """Steps before it."""
    num_steps: int
    offset: int
    """What the trainer's own count lacks: with a fresh optimizer it starts from 0 each time."""
    tokens_before: int = 0
    """Tokens trained on before it."""

    @property
    def end(self) -> int:
        """Its last step, as the trainer counts."""
        return self.first + self.num_steps - self.offset


class IntervalTrainer(ABC, Generic[SettingsT]):
    """Trains intervals of one run, one after the other, in ``run_dir/checkpoints/``."""

    def __init__(
        self,
        settings: SettingsT,
        pool: Pool,
        host: ModelHost,
        plan: Plan,
        *,
        curriculum: CurriculumSection | None = None,
        run_id: str,
        run_dir: Path,
        seed: int,
    ) -> None:
        self._settings = settings
        self._curriculum = curriculum
        self._pool = pool
        self._host = host
        self._plan = plan
        self._run_id = run_id
        self._run_dir = run_dir
        self._seed = seed

    @abstractmethod
    def prepare(self) -> None:
        """Do what is done once per run, and try the training arguments.

        Called before a run exists, so that nothing TRL refuses is found out after the first
        scoring.  Raises ConfigError for arguments and DataError for samples.
        """

    @abstractmethod
    def _begin(self, span: Span, order: Ints, saved: Path | None, known: Known | None) -> None:
        """An interval begins, or goes on from ``saved``, one of its own checkpoints."""

    @abstractmethod
    def _build_args(self, *, output_dir: str, max_steps: int, seed: int) -> Any:
        """TRL's arguments for one interval."""

    @abstractmethod
    def _build_trainer(
        self, model: Any, args: Any, rows: Ints, watch: Watch, start: Path, run_start: Path
    ) -> Any:
        """TRL's trainer over these rows, which are all of the run so far.

        ``start`` and ``run_start``: where the interval and the run began.
        """

    @abstractmethod
    def _num_tokens(self, state: Any) -> int:
        """Tokens trained on since the start of the run, after the trainer's newest step."""

    @abstractmethod
    def _outcome(
        self, checkpoint: Checkpoint, history: list[dict[str, Any]], seconds: float
    ) -> TrainingOutcome:
        """What the interval did; ``history`` is the trainer's log of its steps."""

    def _taken_off(self, model: Any) -> AbstractContextManager[None]:
        """Take off the model whatever the trainer leaves on it, beyond what the host knows of."""
        return nullcontext()

    def _save_beside(self, checkpoint: Path) -> None:
        """Complete a checkpoint that TRL has written, before it is marked complete."""

    def train_interval(
        self,
        interval: int,
        order: Ints,
        start: Checkpoint,
        run_start: Checkpoint,
        *,
        confirm_ownership: Callable[[], None],
        should_stop: Callable[[], bool],
        on_progress: Callable[[int, int], None],
        known: Known | None = None,
    ) -> TrainingOutcome:
        """Train on one curriculum and return what happened, step by step.

        ``order`` (N,) holds the ordinals in training order; further epochs repeat it, and a last
        step that is not full is filled from its beginning.  ``start`` and ``run_start`` are the
        checkpoints the interval and the run began with.  ``confirm_ownership`` raises when the run
        is another process's by now; it is asked before a file is touched.  ``known`` is of
        use where the curriculum also samples answers.  Raises StopRequested after a save when
        ``should_stop`` says so, and TrainingError for a loss that is not finite.
        """
        began = time.perf_counter()
        plan, restart = self._plan, self._settings.restart_optimizer
        first = interval * plan.steps_per_interval
        folder = self._run_dir / "checkpoints" / f"interval-{interval:03d}"
        confirm_ownership()
        saved = self._saved_step(folder)
        resume_from = saved or (None if first == 0 or restart else Path(start.path))
        self.prepare()
        facts = read_facts(Path(start.path))
        is_ours = facts is not None and facts.run_id == self._run_id
        span = Span(
            interval,
            first,
            plan.steps_per_interval,
            offset=first if restart else 0,
            tokens_before=facts.num_tokens if facts and is_ours else 0,
        )
        rows = np.resize(order, plan.rows_per_interval)
        self._begin(span, order, saved, known)

        def complete(checkpoint: Path, state: Any) -> None:
            confirm_ownership()
            self._save_beside(checkpoint)
            mark_complete(
                checkpoint,
                run_id=self._run_id,
                step=state.global_step + span.offset,
                num_tokens=self._num_tokens(state),
            )

        watch = Watch(span, plan.steps_per_round, complete, should_stop, on_progress)
        final = folder / f"checkpoint-{span.end}"
        if read_facts(final) is None:  # else it was killed between its last save and its row
            args = self._build_args(
                output_dir=str(folder),
                max_steps=plan.steps_per_interval if restart else plan.total_steps,
                seed=derive_seed(self._seed, interval) if restart else self._seed,
            )
            seen = np.zeros(0 if restart else interval * plan.rows_per_interval, dtype=np.int64)
            self._host.load_weights(start)
            with self._host.lent_for_training() as model, self._taken_off(model):
                trainer = self._build_trainer(
                    model,
                    args,
                    np.concatenate([seen, rows]),
                    watch,
                    Path(start.path),
                    Path(run_start.path),
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
        if watch.last_step == span.end + span.offset:
            self._host.holds(checkpoint)
        of_interval = [
            {**entry, "step": entry["step"] + span.offset}  # as the run counts
            for entry in history  # it reaches back over resumes
            if "loss" in entry and entry["step"] + span.offset > first
        ]
        return self._outcome(checkpoint, of_interval, time.perf_counter() - began)

    def _saved_step(self, folder: Path) -> Path | None:
        """The last saved step of an interval; what a killed save left is removed."""
        found = latest_complete(folder)
        # Hashed again: a file may have been changed, or a disk may be bad.
        if found is not None and weights_sha256(found[0]) == found[1].weights_sha256:
            remove_others(folder, keep=found[0])
            return found[0]
        shutil.rmtree(folder, ignore_errors=True)
        return None


class Watch(TrainerCallback):  # type: ignore[misc]
    """Stops the trainer at the interval's end or on request, and marks complete saves."""

    def __init__(
        self,
        span: Span,
        steps_per_round: int,
        complete: Callable[[Path, Any], None],
        should_stop: Callable[[], bool],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._span = span
        self._first = span.first - span.offset
        self._steps_per_round = steps_per_round
        self._complete = complete
        self._should_stop = should_stop
        self._on_progress = on_progress
        self.stopped = False
        self.last_step = span.first

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Each save writes the whole log again; earlier intervals' steps are in the ledger.
        state.log_history = [e for e in state.log_history if e["step"] > self._first]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        self.last_step = state.global_step + self._span.offset
        self._on_progress(state.global_step - self._first, self._span.num_steps)
        can_stop = state.global_step % self._steps_per_round == 0
        self.stopped = state.global_step < self._span.end and can_stop and self._should_stop()
        if state.global_step >= self._span.end or self.stopped:
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step + self._span.offset}. Nothing "
                "after the last save is kept; lower training.args.learning_rate and start another "
                "run."
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._complete(saved, state)
        remove_others(saved.parent, keep=saved)


def derive_seed(seed: int, interval: int) -> int:
    """Another seed for each interval, unlike those of the runs next to this one."""
    return int(np.random.SeedSequence([seed, interval]).generate_state(1)[0])


def _read_history(checkpoint: Path) -> list[dict[str, Any]]:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return list(state["log_history"])
