"""The ``scoring`` section of the configuration: one class per scorer, chosen by ``type``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from edco_core.config_rewards import Metric
from edco_core.config_section import OWN, Section, for_forms, type_or_own


class RescoreSection(Section):
    """Whom later intervals score again (see edco_core/scoring/rescoring.py)."""

    policy: Literal["all", "selective"] = Field(
        "all", description="selective: only those whose score could change who is selected."
    )
    target_recall: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Of selective: the share of what scoring everything would select that must be "
        "found, else more is scored. Then 0.95 by default.",
    )
    audit_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Of selective: the share of the pool scored at random to learn and check by. "
        "Then 0.15 by default.",
    )

    @model_validator(mode="after")
    def _settings_are_used(self) -> RescoreSection:
        _only_with(self, "policy", "selective", {"target_recall": 0.95, "audit_share": 0.15})
        return self


RANKING_STRATEGIES = frozenset({"dynamic_ppl", "edco"})
"""Strategies that tell what they take the highest of (``Strategy.ranking``)."""


def refuse_vllm_for(scoring: Any, model: Any) -> None:
    """Raise ValueError for a model whose weights vLLM could not follow."""
    if getattr(scoring, "engine", "transformers") != "vllm":
        return
    problem = None
    if model.load_in_4bit:
        problem = "model.load_in_4bit"
    elif model.peft is not None and model.peft.use_dora:
        problem = "model.peft.use_dora"
    elif model.peft is not None and model.peft.modules_to_save:
        problem = "model.peft.modules_to_save"
    elif model.peft is not None and model.peft.bias != "none":
        problem = "model.peft.bias"
    if problem is not None:
        raise ValueError(
            f"scoring.engine: vllm does not take adapters of that kind ({problem}). Use engine: "
            "transformers, or plain LoRA"
        )


def refuse_selective_without_ranking(rescore: RescoreSection, curriculum: Any) -> None:
    """Raise ValueError where no score could be known beforehand not to matter."""
    if rescore.policy == "all":
        return
    problem = None
    if curriculum.type not in RANKING_STRATEGIES:
        problem = (
            f"curriculum.type '{curriculum.type}' does not select the highest of anything; it goes "
            f"with {', '.join(sorted(RANKING_STRATEGIES))}"
        )
    elif curriculum.type == "edco" and curriculum.unlike_a_ranking() is not None:
        key = curriculum.unlike_a_ranking()
        problem = f"what curriculum.{key} does to the selection is known only when all are scored"
    elif curriculum.intervals == 1:
        problem = "it would be ignored: there is one interval, and the first scores everything"
    if problem is not None:
        raise ValueError(f"scoring.rescore.policy: selective: {problem}. Use policy: all")


class BaseScoringSection(Section):
    """What all scorers have."""

    rescore: RescoreSection = Field(default_factory=RescoreSection)
    max_batch_tokens: int = Field(16384, ge=1, description="Padded tokens in one batch.")
    shard_size: int = Field(
        1024, ge=1, description="About so many samples are stored in one transaction."
    )


class EntropySection(BaseScoringSection):
    """How the entropies of a sample's tokens become its score."""

    aggregate: Literal["mean", "top_fraction"] = Field(
        "mean", description="Over all tokens, or over those with the highest entropy."
    )
    fraction: float | None = Field(
        None, gt=0, le=1, description="Of top_fraction: the share of tokens. Then 0.2 by default."
    )
    vocabulary: Literal["full", "top_k"] = Field(
        "full", description="Exact, or over the k likeliest tokens, renormalised."
    )
    k: int | None = Field(None, ge=2, description="Of top_k: how many. Then 20 by default.")
    unit: Literal["nats", "bits"] = "nats"

    CHOICES: ClassVar[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
        "aggregate": ("top_fraction", {"fraction": 0.2}),
        "vocabulary": ("top_k", {"k": 20}),
    }
    """Settings with the choice that others belong to, and the defaults of those."""

    @model_validator(mode="after")
    def _settings_are_used(self) -> Self:
        self._apply_preset()
        for key, (choice, dependents) in self.CHOICES.items():
            _only_with(self, key, choice, dependents)
        return self

    def _apply_preset(self) -> None:
        """Where there is one."""


VLLM_OWNED_ARGS: dict[str, str] = {
    "model": "model.name_or_path",
    "revision": "model.revision",
    "trust_remote_code": "model.trust_remote_code",
    "enable_lora": "model.peft",
    "max_lora_rank": "model.peft.r",
    "logits_processors": "nothing: the entropies are taken there",
}
"""Keys under ``scoring.engine_args`` that follow from others."""


class AnswerEntropySection(EntropySection):
    """Entropies of the model's own answer."""

    decoding: Literal["greedy", "sample"] = "greedy"
    temperature: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Of sampling. Then 1.0 by default."
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="Of sampling: mass kept. Then 1.0 by default."
    )
    quick_answer: bool | str = Field(
        "auto",
        description="Ask for a short answer with the informative words first: true or 'en', 'zh', "
        "your own text that contains {prompt}, or false; auto: where there is a chat template.",
    )
    chat_template: bool = Field(
        True, description="false: plain text, also where the tokenizer has a chat template."
    )
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="What generates; vllm is for CUDA machines (docs/scoring.md)."
    )
    engine_python: str | None = Field(
        None, description="Of vllm: the Python of an environment that has it; null: this one."
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Of vllm: arguments of its LLM, names unchanged."
    )

    CHOICES: ClassVar[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
        **EntropySection.CHOICES,
        "decoding": ("sample", {"temperature": 1.0, "top_p": 1.0}),
    }

    @model_validator(mode="after")
    def _engine_settings_are_used(self) -> AnswerEntropySection:
        if self.engine != "vllm" and (self.engine_python or self.engine_args):
            raise ValueError("engine_python and engine_args would be ignored without engine: vllm")
        default = type(self).model_fields["max_batch_tokens"].default
        if self.engine == "vllm" and self.max_batch_tokens != default:
            raise ValueError(
                "max_batch_tokens would be ignored with engine: vllm, which makes its own batches "
                "(engine_args.max_num_batched_tokens); remove it"
            )
        owned = sorted(set(self.engine_args) & set(VLLM_OWNED_ARGS))
        if owned:
            raise ValueError(
                "; ".join(
                    f"engine_args.{key} is decided by {VLLM_OWNED_ARGS[key]}" for key in owned
                )
            )
        return self

    @field_validator("quick_answer")
    @classmethod
    def _template_has_its_slot(cls, value: bool | str) -> bool | str:
        known = ("auto", "en", "zh")
        if isinstance(value, str) and value not in known and "{prompt}" not in value:
            raise ValueError("use auto, true, false, 'en', 'zh', or a text that contains {prompt}")
        return value


class PrefixEntropySection(AnswerEntropySection):
    """Entropy of the first generated tokens (EDCO, arXiv 2601.03725, prefix entropy)."""

    type: Literal["prefix_entropy"] = "prefix_entropy"
    preset: Literal["edco_released"] | None = Field(
        None, description="edco_released: all settings of the paper's released code."
    )
    prefix_tokens: int = Field(16, ge=1, le=4096, description="L, generated tokens per sample.")

    EDCO_RELEASED: ClassVar[dict[str, Any]] = {
        "prefix_tokens": 128, "decoding": "sample", "temperature": 0.7, "top_p": 0.7,
        "vocabulary": "top_k", "k": 20, "unit": "bits",
        "aggregate": "top_fraction", "fraction": 0.2, "chat_template": False,
    }  # fmt: skip

    def _apply_preset(self) -> None:
        if self.preset is None:
            return
        decided = self.EDCO_RELEASED
        given = self.model_fields_set
        clash = sorted(k for k, v in decided.items() if k in given and getattr(self, k) != v)
        if clash:
            raise ValueError(
                f"preset 'edco_released' decides {', '.join(clash)}; "
                "remove the preset or those keys"
            )
        _fill(self, decided if "quick_answer" in given else {"quick_answer": True, **decided})


class FullEntropySection(AnswerEntropySection):
    """Entropy of the whole generated answer: what prefix entropy approximates."""

    type: Literal["full_entropy"] = "full_entropy"
    max_new_tokens: int = Field(256, ge=1, description="An answer longer than this is cut.")
    quick_answer: bool | str = False


class ReferencePrefixEntropySection(EntropySection):
    """Entropy on the reference answer's own first tokens; nothing is decoded."""

    type: Literal["reference_prefix_entropy"] = "reference_prefix_entropy"
    prefix_tokens: int = Field(16, ge=1, description="L, tokens of the reference per sample.")


class LossSection(BaseScoringSection):
    """Mean negative log-likelihood per token of the reference answer, in nats."""

    type: Literal["loss"] = "loss"


class PerplexitySection(BaseScoringSection):
    """exp(loss)."""

    type: Literal["perplexity"] = "perplexity"


class PassRateSection(BaseScoringSection):
    """Share of sampled answers that are wrong: 1 - pass rate, so that higher is harder."""

    type: Literal["pass_rate"] = "pass_rate"
    k: int = Field(8, ge=1, le=1024, description="Answers per sample.")
    metric: Metric = Field(
        "exact_match",
        validate_default=True,
        description="As in evaluation.metric: what a right answer is.",
    )
    max_new_tokens: int = Field(64, ge=1)
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1)


class OwnScoringSection(BaseScoringSection):
    """Your own scorer: a subclass of ``edco_core.scoring.Scorer`` (README)."""

    type: str = Field(OWN, description="module:attribute of the class.")
    args: dict[str, Any] = Field(default_factory=dict, description="For it: self.settings.args.")

    @model_validator(mode="after")
    def _keeps_the_contract(self) -> OwnScoringSection:
        # Imports the user's module and torch, and only where there is such a scorer.
        from edco_core.own import load_class
        from edco_core.scoring import Scorer

        load_class(self.type, Scorer)
        return self


ScoringSection = Annotated[
    Annotated[PrefixEntropySection, Tag("prefix_entropy")]
    | Annotated[FullEntropySection, Tag("full_entropy")]
    | Annotated[ReferencePrefixEntropySection, Tag("reference_prefix_entropy")]
    | Annotated[LossSection, Tag("loss")]
    | Annotated[PerplexitySection, Tag("perplexity")]
    | Annotated[PassRateSection, Tag("pass_rate")]
    | Annotated[OwnScoringSection, Tag(OWN)],
    Discriminator(type_or_own),
    Field(json_schema_extra=for_forms),
]


def _only_with(section: Section, key: str, choice: str, dependents: Mapping[str, Any]) -> None:
    """Give settings that belong to one choice of ``key`` their default, or refuse them."""
    given = [name for name in dependents if getattr(section, name) is not None]
    if getattr(section, key) == choice:
        _fill(section, {name: v for name, v in dependents.items() if name not in given})
    elif given:
        raise ValueError(
            f"'{given[0]}' would be ignored: it belongs to '{key}: {choice}'; "
            "set that, or remove it"
        )


def _fill(section: Section, values: Mapping[str, Any]) -> None:
    """Set what follows from other settings; it does not count as given by anybody."""
    for name, value in values.items():
        object.__setattr__(section, name, value)
