"""Reinforcement learning with TRL's ``GRPOTrainer``, one interval at a time.

A *round* is the optimizer steps that train on the same answers: one, unless ``num_iterations`` or
``steps_per_generation`` make it more.  TRL forgets its answers when it is stopped, so saves and
intervals end with a round; answers are then drawn from the random state that the save restores.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from trl import GRPOConfig, GRPOTrainer

from edco_core.config import GrpoSection
from edco_core.errors import ConfigError
from edco_core.positions import check_positions, num_positions
from edco_core.prompts import prompt_token_ids, training_dataset
from edco_core.records import STAGES, Checkpoint, TrainingOutcome, TrainingStep
from edco_core.rewards import Questions, build_rewards
from edco_core.training.answers import Answers, Batch, StepAnswers
from edco_core.training.gradients import group_gradients
from edco_core.training.interval import (
    IntervalTrainer,
    Plan,
    Span,
    Watch,
    build_args,
    plan_of,
)
from edco_core.training.rollouts import Gradients, RolloutLog
from edco_core.training.sampling import build_sampling, num_answers

if TYPE_CHECKING:
    from edco_core.records import Ints, Known

REFERENCE_ADAPTER = "ref"
"""TRL's name for its copy of the adapter."""


class GrpoTrainer(IntervalTrainer[GrpoSection]):
    """Trains intervals of one run; every group of answers is kept beside the next save."""

    _rows: Any = None

    @staticmethod
    def make_plan(settings: GrpoSection, *, num_intervals: int, samples_per_interval: int) -> Plan:
        """Steps and prompts; raises ConfigError for ``training.args`` that do not go together."""
        _, prompts_per_step, steps_per_round = _grpo_args(
            settings, output_dir="unused", max_steps=1, seed=0
        )
        return plan_of(
            settings,
            num_intervals=num_intervals,
            samples_per_interval=samples_per_interval,
            slots_per_step=prompts_per_step,
            steps_per_round=steps_per_round,
        )

    def prepare(self) -> None:
        """Try the training arguments on the model, once per run."""
        if self._rows is not None:
            return
        self._questions = Questions(self._pool)
        self._rewards = build_rewards(self._settings.rewards, cache_dir=self._run_dir)
        self._rows = training_dataset(self._pool, self._host.tokenizer, ("prompt",))
        if not (self._run_dir / "checkpoints").exists():
            self._try_args()

    def _try_args(self) -> None:
        args = self._build_args(
            output_dir=str(self._run_dir / "checkpoints"),
            max_steps=self._plan.total_steps,
            seed=self._seed,
        )
        peft = self._host.settings.peft
        if args.beta and peft is not None and peft.bias != "none":
            raise ConfigError(
                "model.peft.bias: trained biases stay when the adapter is switched off, so that "
                f"the KL term (training.args.beta: {args.beta}) would have no reference. Use "
                "'bias: none', or beta: 0."
            )
        if args.use_vllm:
            _refuse_without_vllm()
        # Neither an engine nor a second model just to see whether the arguments are right.
        args.use_vllm, args.beta = False, 0.0
        self._host.load_base()
        if num_positions(self._host.model) is not None:
            num_new = args.max_completion_length or 0
            num_tokens = [
                len(ids) + num_new for ids in prompt_token_ids(self._pool, self._host.tokenizer)
            ]
            check_positions(
                self._host, self._pool, range(len(self._pool)), num_tokens,
                "lower training.args.max_completion_length",
            )  # fmt: skip
        with self._host.lent_for_training() as model:
            try:
                trainer = self._make(model, args, self._rows.select(range(1)), [])
                trainer.create_optimizer_and_scheduler(num_training_steps=args.max_steps)
            except (TypeError, ValueError, ImportError, RuntimeError) as error:
                raise ConfigError(f"training.args: {error}") from error
            del trainer

    def _begin(self, span: Span, order: Ints, saved: Path | None, known: Known | None) -> None:
        self._span, self._order, self._known = span, order, known
        rule = known.rule if known is not None else None
        if rule is None and self._curriculum is not None:
            rule = self._curriculum.at(span.interval)
        self._sampling = build_sampling(self._settings, rule)
        self._log = RolloutLog(keep_texts=self._settings.keep_rollout_texts)
        if saved is not None:
            self._log.load(saved)

    def _build_args(self, *, output_dir: str, max_steps: int, seed: int) -> GRPOConfig:
        args, _, _ = _grpo_args(
            self._settings, output_dir=output_dir, max_steps=max_steps, seed=seed
        )
        args.trust_remote_code = self._host.settings.trust_remote_code
        return args

    def _build_trainer(
        self, model: Any, args: Any, rows: Ints, watch: Watch, start: Path, run_start: Path
    ) -> GRPOTrainer:
        is_adapter = self._host.settings.peft is not None
        holds_start = self._settings.kl_reference == "start"
        if not is_adapter:  # TRL loads the reference from where the model says it came from
            model.config._name_or_path = str(run_start if holds_start else start)
        trainer = self._make(model, args, self._rows.select(rows), [watch])
        if is_adapter and holds_start and args.beta:
            # TRL's copy is of the adapter as the interval begins.  The run began with one that
            # changes nothing, so that switching it off gives the run's start.
            model.delete_adapter(REFERENCE_ADAPTER)
        return trainer

    def _make(self, model: Any, args: Any, rows: Any, callbacks: list[Any]) -> GRPOTrainer:
        trainer = _SampledByUs(
            model=model,
            args=args,
            reward_funcs=self._worth,
            train_dataset=rows,
            processing_class=self._host.tokenizer,
            callbacks=callbacks,
        )
        trainer.sample = self._sample
        return trainer

    def _worth(self, *, completion_ids: list[list[int]], ordinal: list[int], **_: Any) -> list[Any]:
        """TRL's reward function: the weighted sum of ours.  What else they say is kept a moment."""
        texts = self._host.tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        ends = {*self._host.eos_token_ids, self._host.pad_token_id}
        answered = [
            self._questions.answered(i, text, truncated=ids[-1] not in ends)
            for i, text, ids in zip(ordinal, texts, completion_ids, strict=True)
        ]
        self._scored = self._rewards.score(answered)
        self._answered = answered
        self._lengths = np.array([len(ids) for ids in completion_ids], np.int64)
        return list(self._scored.total)

    def _sample(self, trainer: _SampledByUs, num_rows: int) -> Batch:
        """Answers to train on in the trainer's next step, and their groups into the log.

        Prompts are asked in the stored order, each after the last that was asked so far: from its
        beginning again behind its end.
        """
        num_drawn, per_prompt = self._log.num_drawn, num_answers(self._settings)
        seed = [self._seed, self._span.interval, STAGES.index("training"), num_drawn]
        step = StepAnswers(
            lambda ordinals, group_size: self._answers(trainer, ordinals, group_size),
            lambda places: self._order[(num_drawn + places) % len(self._order)],
            num_prompts=num_rows // per_prompt,
            per_prompt=per_prompt,
            is_scaled=trainer.scale_rewards != "none",
            rng=np.random.default_rng(np.random.SeedSequence(seed)),
            known=self._known,
        )
        places = self._sampling.sample(step)
        n_trained = np.bincount(step.groups[places], minlength=len(step.ordinals))
        gradients: list[Gradients | None] = [None] * len(n_trained)
        if self._sampling.measures_gradients:
            gradients = list(group_gradients(trainer, step))
        for group, num, measured in zip(step.as_groups(), n_trained, gradients, strict=True):
            self._log.add(
                group,
                step=trainer.state.global_step + 1 + self._span.offset,
                n_trained=int(num),
                gradients=measured,
            )
        return step.trained_on(places, pad_token_id=self._host.pad_token_id)

    def _answers(self, trainer: _SampledByUs, ordinals: Ints, group_size: int) -> Answers:
        """An answer to each of these prompts, and what it is worth."""
        batch = trainer.generate(list(self._rows.select(ordinals)), group_size)
        return Answers(
            batch,
            rewards=self._scored.total,
            is_correct=self._scored.is_correct,
            n_tokens=self._lengths,
            truncated=np.array([each.truncated for each in self._answered]),
            texts=[each.text for each in self._answered],
        )

    @contextmanager
    def _taken_off(self, model: Any) -> Iterator[None]:
        try:
            yield
        finally:
            if REFERENCE_ADAPTER in getattr(model, "peft_config", {}):
                model.delete_adapter(REFERENCE_ADAPTER)

    def _save_beside(self, checkpoint: Path) -> None:
        shutil.rmtree(checkpoint / REFERENCE_ADAPTER, ignore_errors=True)
        self._log.save(checkpoint)

    def _num_tokens(self, state: Any) -> int:
        before = self._span.tokens_before if self._span.offset else 0
        return before + int(state.num_input_tokens_seen)

    def _outcome(
        self, checkpoint: Checkpoint, history: list[dict[str, Any]], seconds: float
    ) -> TrainingOutcome:
        before = self._span.tokens_before if self._span.offset else 0
        steps: list[TrainingStep] = []
        num_tokens = 0
        for entry in history:
            num_tokens = int(entry.get("num_tokens", num_tokens))  # only where answers are made
            steps.append(
                TrainingStep(
                    step=entry["step"],
                    loss=float(entry["loss"]),
                    learning_rate=entry.get("learning_rate"),
                    grad_norm=entry.get("grad_norm"),
                    num_tokens=before + num_tokens,
                    policy_entropy=entry.get("entropy"),
                    kl=entry.get("kl"),
                )
            )
        plan = self._plan
        step_ordinals = self._log.step_ordinals(plan.slots_per_step, plan.steps_per_round)
        return TrainingOutcome(
            checkpoint,
            tuple(steps),
            step_ordinals,
            seconds,
            rollouts=self._log.groups(),
            answers=self._log.answers(),
        )


class _SampledByUs(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, which asks us for what to train on and lends us its generation for that."""

    num_generations: int
    sample: Callable[[_SampledByUs, int], Batch]
    """From this trainer and the number of answers that it would have sampled."""

    def generate(self, rows: list[Batch], group_size: int) -> Batch:
        """An answer to each row; ``group_size`` rows with the same prompt make a group of TRL's."""
        usual = self.num_generations
        self.num_generations = group_size
        try:
            batch: Batch = super()._generate_and_score_completions(rows)
        finally:
            self.num_generations = usual
        return batch

    def _generate_and_score_completions(self, inputs: list[Batch]) -> Batch:
        return self.sample(self, len(inputs))


def _grpo_args(
    settings: GrpoSection, *, output_dir: str, max_steps: int, seed: int
) -> tuple[GRPOConfig, int, int]:
    """TRL's arguments, prompts per optimizer step, and optimizer steps per round."""
    _refuse_partial_groups(settings)
    decided = {"shuffle_dataset": False, "remove_unused_columns": False}
    args = build_args(
        GRPOConfig, settings, decided, output_dir=output_dir, max_steps=max_steps, seed=seed
    )
    accumulated, per_generation = args.gradient_accumulation_steps, args.steps_per_generation
    # In batches of per_device_train_batch_size: how long answers are used, and a step.
    used = per_generation * args.num_iterations
    if accumulated % per_generation or (accumulated % used and used % accumulated):
        raise ConfigError(
            f"training.args.steps_per_generation: {per_generation} came, with "
            f"gradient_accumulation_steps {accumulated} and num_iterations {args.num_iterations}. "
            "TRL mixes the answers that it generates together, so that a step with a part of them "
            "could not be traced back to its prompts. Use a divisor of "
            "gradient_accumulation_steps, and num_iterations that divide or multiply what is left."
        )
    steps_per_round = max(1, used // accumulated)
    if args.save_steps % steps_per_round:
        if "save_steps" in settings.args:
            raise ConfigError(
                f"training.args.save_steps: {args.save_steps} came; answers are used for "
                f"{steps_per_round} steps, and are lost in between. Use a multiple of that."
            )
        args.save_steps += steps_per_round - args.save_steps % steps_per_round
    prompts = args.per_device_train_batch_size * per_generation // args.num_generations
    return args, prompts * max(1, accumulated // used), steps_per_round


def _refuse_partial_groups(settings: GrpoSection) -> None:
    """Raise ConfigError where the answers generated together are not whole groups."""
    defaults = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    values = {**defaults, **settings.args}
    batch, num_answers = values["per_device_train_batch_size"], values["num_generations"]
    accumulated = values["gradient_accumulation_steps"]
    per_generation = values["steps_per_generation"] or accumulated
    numbers = (batch, num_answers, per_generation)
    if not all(isinstance(each, int) and each >= 1 for each in numbers):
        return  # TRL says what is wrong with them
    answers = batch * per_generation
    if num_answers < 2 or answers % num_answers:
        allowed = [n for n in range(2, answers + 1) if answers % n == 0]
        raise ConfigError(
            f"training.args.num_generations: {num_answers} came, and {answers} answers are "
            f"generated together (per_device_train_batch_size {batch} x steps_per_generation "
            f"{per_generation}), which are not whole groups of at least 2. Allowed with these: "
            f"{', '.join(map(str, allowed)) or 'nothing'}; or use a multiple of {num_answers} "
            "as per_device_train_batch_size."
        )


def _refuse_without_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "training.args.use_vllm: vLLM is not installed here. Type: pip install 'trl[vllm]' "
            "(it needs CUDA), or use_vllm: false."
        )
