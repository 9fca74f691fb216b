"""Supervised fine-tuning with TRL's ``SFTTrainer``, one interval at a time."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from datasets import load_from_disk
from jinja2 import TemplateError
from trl import SFTConfig, SFTTrainer

from edco_core.config import SftSection
from edco_core.errors import ConfigError, DataError
from edco_core.positions import check_positions, num_positions
from edco_core.prompts import template_refuses, training_dataset
from edco_core.records import Checkpoint, TrainingOutcome, TrainingStep
from edco_core.training.interval import (
    IntervalTrainer,
    Plan,
    Span,
    Watch,
    build_args,
    plan_of,
)

if TYPE_CHECKING:
    from edco_core.records import Ints, Known


logger = logging.getLogger(__name__)


class SftTrainer(IntervalTrainer[SftSection]):
    """Trains intervals of one run.  ``run_dir`` gets ``tokenized/``, too."""

    _tokenized: Any = None
    _num_tokens_by_ordinal: Ints

    @staticmethod
    def make_plan(settings: SftSection, *, num_intervals: int, samples_per_interval: int) -> Plan:
        """Steps and slots; raises ConfigError for ``training.args`` TRL does not take."""
        args = _sft_args(settings, output_dir="unused", max_steps=1, seed=0)
        return plan_of(
            settings,
            num_intervals=num_intervals,
            samples_per_interval=samples_per_interval,
            slots_per_step=args.per_device_train_batch_size * args.gradient_accumulation_steps,
        )

    def prepare(self) -> None:
        """Tokenise the whole pool as TRL does, once per run, and try the training arguments."""
        if self._tokenized is not None:
            return
        folder = self._run_dir / "tokenized"
        if not folder.exists():
            self._tokenize(folder)
        self._tokenized = load_from_disk(str(folder))
        lengths = pc.list_value_length(self._tokenized.data.column("input_ids"))
        self._num_tokens_by_ordinal = lengths.to_numpy().astype(np.int64)

    def _begin(self, span: Span, order: Ints, saved: Path | None, known: Known | None) -> None:
        self._span = span
        rows = np.resize(order, self._plan.rows_per_interval)
        self._step_ordinals = rows.reshape(span.num_steps, self._plan.slots_per_step)
        step_tokens = self._num_tokens_by_ordinal[self._step_ordinals].sum(axis=1)
        self._tokens_after = span.tokens_before + np.cumsum(step_tokens)

    def _build_args(self, *, output_dir: str, max_steps: int, seed: int) -> Any:
        args = _sft_args(self._settings, output_dir=output_dir, max_steps=max_steps, seed=seed)
        # Tokenised already: TRL would go through the whole growing list again at each interval.
        args.dataset_kwargs = {**(args.dataset_kwargs or {}), "skip_prepare_dataset": True}
        return args

    def _build_trainer(
        self, model: Any, args: Any, rows: Ints, watch: Watch, start: Path, run_start: Path
    ) -> Any:
        return SFTTrainer(
            model=model,
            args=args,
            train_dataset=self._tokenized.select(rows),
            processing_class=self._host.tokenizer,
            callbacks=[watch],
        )

    def _num_tokens(self, state: Any) -> int:
        return self._tokens_after_step(state.global_step + self._span.offset)

    def _tokens_after_step(self, step: int) -> int:
        return int(self._tokens_after[step - self._span.first - 1])

    def _outcome(
        self, checkpoint: Checkpoint, history: list[dict[str, Any]], seconds: float
    ) -> TrainingOutcome:
        steps = tuple(
            TrainingStep(
                step=entry["step"],
                loss=float(entry["loss"]),
                learning_rate=entry.get("learning_rate"),
                grad_norm=entry.get("grad_norm"),
                num_tokens=self._tokens_after_step(entry["step"]),
            )
            for entry in history
        )
        return TrainingOutcome(checkpoint, steps, self._step_ordinals, seconds)

    def _tokenize(self, folder: Path) -> None:
        args = _sft_args(
            self._settings,
            output_dir=str(self._run_dir / "checkpoints"),
            max_steps=self._plan.total_steps,
            seed=self._seed,
        )
        raw = training_dataset(self._pool, self._host.tokenizer, ("prompt", "completion"))
        self._host.load_base()
        with self._host.lent_for_training() as model:
            try:
                # Only for the tokenised data set it makes: exactly what TRL would train on.
                trainer = SFTTrainer(
                    model=model, args=args, train_dataset=raw, processing_class=self._host.tokenizer
                )
                trainer.create_optimizer_and_scheduler(num_training_steps=args.max_steps)
            except TemplateError as error:
                raise template_refuses(self._pool, error) from error
            except (TypeError, ValueError, ImportError, RuntimeError) as error:
                raise ConfigError(f"training.args: {error}") from error
            prepared = trainer.train_dataset
            del trainer
        self._refuse_dropped(prepared["ordinal"], args)
        self._tell_of_cut(prepared["input_ids"], args)
        if num_positions(self._host.model) is not None:
            # Of a generated answer the last token is not read; here it is.
            num_tokens = [len(ids) + 1 for ids in prepared["input_ids"]]
            check_positions(
                self._host, self._pool, prepared["ordinal"], num_tokens,
                "lower training.args.max_length",
            )  # fmt: skip
        temporary = folder.with_name(".tokenized.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        prepared.select_columns(["input_ids", "labels"]).save_to_disk(str(temporary))
        temporary.replace(folder)

    def _tell_of_cut(self, input_ids: Sequence[Sequence[int]], args: SFTConfig) -> None:
        """TRL cuts without a word, and of what is cut the end is never learned."""
        if args.max_length is None:
            return
        num_full = sum(len(ids) >= args.max_length for ids in input_ids)
        if num_full:
            logger.warning(
                "%d of %d samples fill training.args.max_length %d; what they have beyond is cut, "
                "and the end of such an answer not learned. Raise it to train on all of them.",
                num_full, len(self._pool), args.max_length,
            )  # fmt: skip

    def _refuse_dropped(self, kept: list[int], args: SFTConfig) -> None:
        dropped = sorted(set(range(len(self._pool))) - set(kept))
        if dropped:
            ids = self._pool.table.column("sample_id").take(dropped[:5]).to_pylist()
            raise DataError(
                f"{len(dropped)} samples have a prompt that fills max_length {args.max_length}, so "
                f"nothing of their completion is left to train on (first: {', '.join(ids)}). "
                "Raise training.args.max_length, or shorten those prompts."
            )


def _sft_args(settings: SftSection, *, output_dir: str, max_steps: int, seed: int) -> SFTConfig:
    return build_args(
        SFTConfig, settings, {}, output_dir=output_dir, max_steps=max_steps, seed=seed
    )
