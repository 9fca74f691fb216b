"""The configuration of a run: one YAML file, typed, with every unknown key refused.

``load_config`` reads a file and ``--set`` overrides into a :class:`Config`; a mistake becomes one
:class:`~edco_core.errors.ConfigError` that names the key, what came and what is allowed.  Names of
PEFT, TRL and transformers settings are theirs, unchanged.  Nothing here imports torch: keys under
``training.args`` are checked by the trainer, which knows TRL's own list.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from edco_core.config_curriculum import CurriculumSection as CurriculumSection
from edco_core.config_curriculum import EdcoSection as EdcoSection
from edco_core.config_curriculum import RandomSection as RandomSection
from edco_core.config_curriculum import refuse_unmet_needs
from edco_core.config_errors import explain
from edco_core.config_errors import nearest as nearest
from edco_core.config_guard import refuse_guard
from edco_core.config_rewards import Metric
from edco_core.config_scoring import PrefixEntropySection as PrefixEntropySection
from edco_core.config_scoring import ScoringSection as ScoringSection
from edco_core.config_scoring import refuse_selective_without_ranking, refuse_vllm_for
from edco_core.config_section import Section as _Section
from edco_core.config_training import LOOP_OWNED_ARGS as LOOP_OWNED_ARGS
from edco_core.config_training import GrpoSection as GrpoSection
from edco_core.config_training import SftSection as SftSection
from edco_core.config_training import TrainingSection as TrainingSection
from edco_core.config_training import refuse_two_ways_to_sample
from edco_core.config_yaml import read_yaml
from edco_core.errors import ConfigError

DEFAULT_STORE_URL = "duckdb:///edco.duckdb"
_DEFAULT_TYPES = {"scoring": "prefix_entropy", "curriculum": "edco", "training": "sft"}
RUN_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

Field_ = Literal["prompt", "completion", "messages", "answer", "category", "sample_id"]
"""The fields of a sample (README, "Your own data")."""


KeepCheckpoints = Literal["all", "best"] | Annotated[StrictInt, Field(ge=1)]
"""Which checkpoints of a run stay on disk (edco_core/retention.py)."""


class RunSection(_Section):
    """Name, seed and place of a run."""

    name: str = Field("run", min_length=1, max_length=60, description="Begins the run's id.")
    experiment: str | None = Field(None, description="Groups runs for comparison.")
    seed: int = Field(0, ge=0, lt=2**32, description="All randomness derives from it.")
    output_dir: str = Field("runs", description="Folder that gets one folder per run.")
    keep_checkpoints: KeepCheckpoints = Field(
        "all",
        description="Which intervals' checkpoints stay on disk: all, best (by the metric), or a "
        "count: the last so many. The start, the best and the newest always stay.",
    )

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, value: str) -> str:
        if not RUN_ID_PATTERN.fullmatch(value):
            raise ValueError("use letters, digits, '.', '_' and '-', a letter or digit first")
        return value

    @field_validator("keep_checkpoints", mode="before")
    @classmethod
    def _a_word_or_a_count(cls, value: Any) -> Any:
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if value not in ("all", "best") and not is_count:
            raise ValueError("use all, best, or a count of at least 1: the last so many")
        return value


class LoraSection(_Section):
    """PEFT's ``LoraConfig``, names unchanged."""

    type: Literal["lora"] = "lora"
    r: int = Field(16, ge=1, description="Rank.")
    lora_alpha: int = Field(32, ge=1, description="Scale: updates count lora_alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout of the adapter's input.")
    target_modules: str | list[str] = Field("all-linear", description="Layers that get an adapter.")
    modules_to_save: list[str] | None = Field(
        None, description="Layers trained and saved whole, beside the adapter."
    )
    bias: Literal["none", "all", "lora_only"] = Field(
        "none", description="Biases that are trained."
    )
    use_rslora: bool = Field(False, description="Scale by lora_alpha / sqrt(r).")
    use_dora: bool = Field(False, description="Train magnitude and direction apart.")


class ModelSection(_Section):
    """The model to fine-tune."""

    name_or_path: str = Field(
        min_length=1,
        description="A local folder, a hub id, or run:RUN_ID (run:RUN_ID@best): what that run "
        "of the same ledger came to.",
    )
    revision: str | None = Field(None, description="Of a hub id: branch, tag or commit.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 for LoRA on CUDA, else float32."
    )
    attn_implementation: str | None = Field(None, description="null: transformers chooses.")
    trust_remote_code: bool = Field(False, description="Run code that comes with a hub model.")
    load_in_4bit: bool = Field(False, description="QLoRA: needs CUDA and the 'qlora' extra.")
    peft: LoraSection | None = Field(
        default_factory=LoraSection, description="null = full fine-tuning."
    )

    @model_validator(mode="after")
    def _quantised_needs_lora(self) -> ModelSection:
        if self.load_in_4bit and self.peft is None:
            raise ValueError("load_in_4bit needs 'peft': 4-bit weights are not trainable")
        return self


class DataSection(_Section):
    """Where the samples are.  Each source is a file, a folder, a glob or a hub id."""

    train: str = Field(min_length=1, description="The pool.")
    eval: str | None = Field(None, description="What is measured on; null: nothing is.")
    train_split: str | None = Field(None, description="Hub data only; null: train.")
    eval_split: str | None = Field(None, description="Hub data only; null: test.")
    hub_config: str | None = Field(None, description="Hub data only: its configuration's name.")
    columns: dict[Field_, str] = Field(
        default_factory=dict, description="Our field: the data's column."
    )
    on_bad_rows: Literal["error", "skip"] = Field(
        "error", description="skip: leave them out, and record each in the ledger."
    )


class PassAtKSection(_Section):
    """Several drawn answers to each sample: pass@k, the chance that one of k is right."""

    k: int = Field(8, ge=1, le=1024, description="Answers drawn to each sample.")
    report: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, description="Which pass@… are kept; null: k and the powers of 2 below."
    )
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    top_p: float = Field(1.0, gt=0, le=1, description="Mass kept.")

    @model_validator(mode="after")
    def _enough_are_drawn(self) -> PassAtKSection:
        if self.report is not None and max(self.report) > self.k:
            raise ValueError(
                f"report: {max(self.report)} came, but k: {self.k} answers are drawn. Allowed: up "
                "to k; raise that, or remove the larger ones"
            )
        return self

    @property
    def reported(self) -> list[int]:
        """The k of each pass@k, ascending."""
        if self.report is not None:
            return sorted(set(self.report))
        return sorted({self.k, *(2**i for i in range(self.k.bit_length()))})


class EvaluationSection(_Section):
    """What is measured on ``data.eval`` before training and after intervals."""

    metric: Metric = Field(
        "exact_match",
        validate_default=True,
        description="What a right answer is: a reward by name, or {type: …} with its settings.",
    )
    pass_at_k: PassAtKSection | None = Field(
        None, description="Beside the metric, of greedy answers: pass@k of drawn ones. null: not."
    )
    max_new_tokens: int = Field(64, ge=1, description="Longest answer.")
    every: int = Field(1, ge=1, description="In intervals; the last one always is evaluated.")
    max_batch_tokens: int = Field(16384, ge=1, description="Padded tokens in one batch.")


class StoreSection(_Section):
    """The ledger."""

    url: str | None = Field(None, description="null: $EDCO_STORE, else duckdb:///edco.duckdb.")
    keep_texts: bool = Field(True, description="false: no text of a sample enters the ledger.")


class Config(_Section):
    """A whole run."""

    run: RunSection = Field(default_factory=RunSection, description="Name, seed and place.")
    model: ModelSection = Field(description="What is fine-tuned.")
    data: DataSection = Field(description="What it is fine-tuned on.")
    scoring: ScoringSection = Field(
        default_factory=PrefixEntropySection, description="How samples are scored."
    )
    curriculum: CurriculumSection = Field(
        default_factory=EdcoSection, description="Which samples are trained on."
    )
    training: TrainingSection = Field(
        default_factory=SftSection, description="How the model is trained."
    )
    evaluation: EvaluationSection | None = Field(
        None, description="null: the defaults when data.eval is given, else no evaluation."
    )
    store: StoreSection = Field(default_factory=StoreSection, description="The ledger.")

    @model_validator(mode="before")
    @classmethod
    def _types_have_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for name, default in _DEFAULT_TYPES.items():
                section = values.get(name)
                if isinstance(section, Mapping) and "type" not in section:
                    values = {**values, name: {"type": default, **section}}
        return values

    @model_validator(mode="after")
    def _sections_go_together(self) -> Config:
        refuse_selective_without_ranking(self.scoring.rescore, self.curriculum)
        refuse_vllm_for(self.scoring, self.model)
        refuse_unmet_needs(self.curriculum, self.scoring, self.training)
        refuse_two_ways_to_sample(self.training, self.curriculum)
        refuse_guard(self.curriculum, self.scoring)
        if self.data.eval is None and self.evaluation is not None:
            raise ValueError("evaluation would be ignored without data.eval; set that or remove it")
        if self.data.eval is None and self.run.keep_checkpoints == "best":
            raise ValueError(
                "run.keep_checkpoints: best needs data.eval, which tells what is best; set that, "
                "or keep all or the last so many (a count)"
            )
        if getattr(self.training, "keep_rollout_texts", False) and not self.store.keep_texts:
            raise ValueError(
                "training.keep_rollout_texts does not go with store.keep_texts: false; an answer "
                "may quote its sample"
            )
        if self.data.eval is not None and self.evaluation is None:
            object.__setattr__(self, "evaluation", EvaluationSection())
        return self

    def store_url(self, override: str | None = None) -> str:
        """The ledger's address: the command line's, the file's, the environment's, the default."""
        return override or self.store.url or os.environ.get("EDCO_STORE") or DEFAULT_STORE_URL

    def for_ledger(self) -> dict[str, Any]:
        """The resolved configuration as JSON, without the ledger's own address (a secret)."""
        return self.model_dump(mode="json", exclude={"store": {"url"}})


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply ``key.sub=value`` overrides, check everything.

    Raises ConfigError: no such file, not YAML, or settings that are wrong.
    """
    values = read_values(path, overrides)
    if "compare" in values:
        raise ConfigError(
            f"{path}: has a section 'compare', so it stands for many runs. "
            f"Type: edco compare {path}"
        )
    return parse_config(values, source=str(path))


def read_values(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a YAML file says, with overrides applied and nothing checked; raises ConfigError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}). 'edco init' writes one to start from."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 ({error.reason}).") from error
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected sections ({', '.join(sorted(Config.model_fields))}), "
            f"found {type(values).__name__}. 'edco init' writes a file to start from."
        )
    return with_overrides(values, overrides)


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a configuration with ``key.sub=value`` applied; raises ConfigError."""
    changed = copy.deepcopy(dict(values))
    for override in overrides:
        _apply_override(changed, override)
    return changed


def parse_config(values: Mapping[str, Any], source: str = "configuration") -> Config:
    """Check a configuration given as a mapping."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = explain(error, Config)
        raise ConfigError(f"{source}:\n" + "\n".join(f"  {p}" for p in problems)) from error


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, raw = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected key.sub=value, e.g. curriculum.top_n=0.1")
    try:
        value = read_yaml(raw)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {error}") from error
    if key.startswith("store"):
        override = f"{key}=…"  # an address may hold a password
    *parents, last = key.split(".")
    section: Any = values
    for parent in parents:
        if section.get(parent) is None:
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise ConfigError(f"--set {override}: '{parent}' is a value, not a section")
    section[last] = value
