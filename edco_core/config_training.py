"""The ``training`` sections of the configuration, one per trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from edco_core.config_rewards import RewardSection
from edco_core.config_section import Section, for_forms

if TYPE_CHECKING:
    from edco_core.config_curriculum import CurriculumSection

LOOP_OWNED_ARGS: dict[str, str] = {
    "output_dir": "run.output_dir",
    "seed": "run.seed",
    "data_seed": "run.seed",
    "max_steps": "curriculum.intervals, curriculum.top_n and training.epochs_per_interval",
    "num_train_epochs": "training.epochs_per_interval",
    "train_sampling_strategy": "curriculum.order (the stored order is followed exactly)",
    "shuffle_dataset": "curriculum.order (the stored order is followed exactly)",
    "packing": "nothing: a packed step cannot be traced back to its samples",
    "eval_packing": "nothing: evaluation generates, see 'evaluation'",
    "dataloader_drop_last": "nothing: every selected sample is trained on",
    "ignore_data_skip": "nothing: skipping is what makes a resumed run identical",
    "resume_from_checkpoint": "edco resume RUN_ID",
    "overwrite_output_dir": "nothing: a run never overwrites another",
    "disable_tqdm": "nothing: the progress bars are our own",
    "do_train": "nothing: the loop trains",
    "do_eval": "evaluation",
    "do_predict": "evaluation",
    "eval_strategy": "evaluation.every",
    "eval_steps": "evaluation.every",
    "save_strategy": "training.args.save_steps (intervals always save at their end)",
    "save_total_limit": "run.keep_checkpoints (each interval keeps its last save)",
    "save_only_model": "nothing: resuming needs the optimizer's state",
    "load_best_model_at_end": "nothing: 'edco show' names the best interval's checkpoint",
    "metric_for_best_model": "evaluation.metric",
    "logging_strategy": "nothing: every step goes to the ledger",
    "logging_steps": "nothing: every step goes to the ledger",
    "logging_nan_inf_filter": "nothing: a loss that is not finite stops the run",
    "model_init_kwargs": "model",
    "push_to_hub": "nothing: push the finished adapter folder yourself",
    "enable_jit_checkpoint": "nothing: SIGTERM stops at a safe point anyway",
    "auto_find_batch_size": "training.args.per_device_train_batch_size",
    "dataset_text_field": "data.columns",
    "dataset_kwargs": "data",
    "completion_only_loss": "nothing: the loss is on completions",
    "remove_unused_columns": "data",
    "eos_token": "the tokenizer: set eos_token in its tokenizer_config.json",
    "pad_token": "the tokenizer: set pad_token in its tokenizer_config.json",
    "chat_template_path": "the tokenizer: put chat_template.jinja into the model's folder",
    "use_cpu": "nothing: the device is found; hide GPUs with CUDA_VISIBLE_DEVICES=''",
    "eval_on_start": "evaluation (the start is always measured)",
}
"""Keys under ``training.args`` that the loop decides, and the setting that owns each."""

DEFAULT_REDRAWS = 3
_TEXTS = "training.keep_rollout_texts"
GRPO_OWNED_ARGS: dict[str, str] = {
    **LOOP_OWNED_ARGS,
    "generation_batch_size": "training.args.steps_per_generation (they say the same)",
    "num_generations_eval": "evaluation",
    "trust_remote_code": "model.trust_remote_code",
    "cast_lm_head_to_fp32": "model.dtype (float32)",
    "reward_weights": "training.rewards (each has a weight)",
    "multi_objective_aggregation": "training.rewards (their weighted sum is what is normalised)",
    "sync_ref_model": "training.kl_reference",
    "ref_model_mixup_alpha": "training.kl_reference",
    "ref_model_sync_steps": "training.kl_reference",
    "log_completions": _TEXTS,
    "log_completions_hub_repo": _TEXTS,
    "log_multimodal": _TEXTS,
    "log_unique_prompts": _TEXTS,
    "num_completions_to_print": _TEXTS,
    "use_transformers_continuous_batching": "nothing: it rounds the model's weights to 16 bits",
    "use_transformers_paged": "nothing: it rounds the model's weights to 16 bits",
    "transformers_continuous_batching_config": "nothing: see use_transformers_continuous_batching",
    "chat_template_kwargs": "the tokenizer: scoring and evaluation use its chat template as it is",
}
"""The same of reinforcement learning."""


def _refuse_owned(args: dict[str, Any], owners: dict[str, str]) -> dict[str, Any]:
    owned = sorted(set(args) & set(owners))
    if owned:
        raise ValueError("; ".join(f"'{key}' is decided by {owners[key]}" for key in owned))
    return args


class BaseTrainingSection(Section):
    """What all trainers have in common."""

    OWNED_ARGS: ClassVar[dict[str, str]] = LOOP_OWNED_ARGS

    epochs_per_interval: float = Field(
        1.0, gt=0, le=1000, allow_inf_nan=False, description="Passes over each curriculum."
    )
    restart_optimizer: bool = Field(
        False, description="A fresh optimizer and schedule each interval, as the paper released."
    )

    @field_validator("args", check_fields=False)
    @classmethod
    def _not_owned_by_the_loop(cls, args: dict[str, Any]) -> dict[str, Any]:
        return _refuse_owned(args, cls.OWNED_ARGS)


class SftSection(BaseTrainingSection):
    """Supervised fine-tuning with TRL's ``SFTTrainer``."""

    type: Literal["sft"] = "sft"
    args: dict[str, Any] = Field(
        default_factory=dict, description="TRL SFTConfig settings, names unchanged."
    )


class GrpoSection(BaseTrainingSection):
    """Reinforcement learning with TRL's ``GRPOTrainer`` (docs/reinforcement.md)."""

    OWNED_ARGS: ClassVar[dict[str, str]] = GRPO_OWNED_ARGS

    type: Literal["grpo"] = "grpo"
    rewards: list[RewardSection] = Field(
        min_length=1,
        description="What an answer is worth: their weighted sum. The first says what is correct.",
    )
    kl_reference: Literal["start", "moving"] = Field(
        "start",
        description="What the KL term (args.beta) holds on to: start = the run's starting model; "
        "moving = each interval's checkpoint, as the paper released.",
    )
    skip_without_signal: bool = Field(
        False,
        description="Prompts whose answers are all worth the same are passed over, and the next "
        "of the curriculum asked instead (DAPO).",
    )
    max_redraws: int | None = Field(
        None,
        ge=1,
        le=100,
        description="With skip_without_signal: how often a step may ask anew before it takes what "
        f"there is; null: {DEFAULT_REDRAWS}.",
    )
    keep_rollout_texts: bool = Field(
        False, description="Every sampled answer goes to the ledger (view rollout_texts)."
    )
    entropy_alarm: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="The policy's entropy has collapsed where an interval's mean is below this "
        "share of the first interval's; 0: never.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="TRL GRPOConfig settings, names unchanged."
    )

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> GrpoSection:
        if self.max_redraws is not None and not self.skip_without_signal:
            raise ValueError("max_redraws would be ignored without skip_without_signal: true")
        if self.kl_reference == "moving" and not self.args.get("beta"):
            raise ValueError(
                "kl_reference would be ignored without a KL term: set args.beta, such as 0.01"
            )
        if self.skip_without_signal and self.args.get("scale_rewards") == "batch":
            raise ValueError(
                "skip_without_signal does not go with args.scale_rewards: batch, which would "
                "count the answers passed over; use group or none"
            )
        return self


def refuse_two_ways_to_sample(
    training: SftSection | GrpoSection, curriculum: CurriculumSection
) -> None:
    """Raise ValueError where the curriculum samples answers and the rest does not go with that."""
    kinds = [part.type for part in curriculum.parts() if part.SAMPLES_ANSWERS]
    if not (isinstance(training, GrpoSection) and kinds):
        return
    if training.skip_without_signal:
        raise ValueError(
            f"training.skip_without_signal does not go with curriculum.type: {kinds[0]}, which "
            "itself decides how answers are sampled; remove it, or use another strategy"
        )
    if training.args.get("scale_rewards") == "batch":
        raise ValueError(
            f"training.args.scale_rewards: batch does not go with curriculum.type: {kinds[0]}: it "
            "would count answers that are not trained on; use group or none"
        )


TrainingSection = Annotated[
    SftSection | GrpoSection, Field(discriminator="type", json_schema_extra=for_forms)
]
