"""The configuration of a comparison: that of a run, and which strategies, seeds and budget.

Every strategy gets the same model, data, evaluation, intervals and samples per interval; what else
differs is said with it (``set``).  From here to runs: flows/compare_plan.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictInt, ValidationError, field_validator, model_validator

from edco_core.config import Config, parse_config, read_values
from edco_core.config_errors import explain
from edco_core.config_section import Section
from edco_core.errors import ConfigError

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,29}")
_SEED = "{seed}"
"""In ``data.train``: each seed has a pool of its own."""
_SHARED = ("intervals", "top_n", "guard")
"""Keys of ``curriculum`` that all strategies get."""
_MAY_DIFFER = ("scoring", "training")


class BudgetSection(Section):
    """What each run may cost: intervals and samples per interval are planned by it."""

    steps: int | None = Field(None, ge=1, description="Optimizer steps.")
    seconds: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds of the device: training, and the scoring that the strategy needs.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> BudgetSection:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("give either steps or seconds")
        return self


class CompareSection(Section):
    """Strategies, each with every seed."""

    strategies: list[str | dict[str, Any]] = Field(
        min_length=2,
        description="Names, or curriculum sections, each with an optional label and set: settings "
        "of scoring and training that only it gets. One of them is random.",
    )
    seeds: Annotated[StrictInt, Field(ge=1, le=1000)] | list[StrictInt] = Field(
        5, description="A count, from run.seed on, or a list."
    )
    budget: BudgetSection | None = Field(
        None, description="null: as many steps as intervals and top_n come to."
    )
    parallel: int = Field(1, ge=1, le=64, description="Runs at once, each in a process of its own.")

    @field_validator("seeds")
    @classmethod
    def _seeds_are_seeds(cls, value: int | list[int]) -> int | list[int]:
        if isinstance(value, list):
            if not value:
                raise ValueError("give at least one seed")
            if len(set(value)) < len(value):
                raise ValueError("a seed is named twice")
            if not all(0 <= seed < 2**32 for seed in value):
                raise ValueError("seeds are from 0 to 4294967295")
        return value


class CompareConfig(Config):
    """What a configuration file of a comparison holds."""

    compare: CompareSection = Field(description="What is compared.")


@dataclass(frozen=True, slots=True)
class Arm:
    """A strategy as it is compared."""

    label: str
    config: Config
    """Of its runs, but for the seed and what the budget decides."""

    def config_of(self, seed: int) -> Config:
        """The same with the pool of a seed."""
        train = self.config.data.train.replace(_SEED, str(seed))
        data = self.config.data.model_copy(update={"train": train})
        return self.config.model_copy(update={"data": data})


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared with what."""

    name: str
    """``run.experiment`` of its runs."""
    arms: tuple[Arm, ...]
    reference: str
    """Label of the random draw that the others are tested against."""
    seeds: tuple[int, ...]
    budget: BudgetSection | None
    parallel: int

    @property
    def has_pools(self) -> bool:
        """Whether each seed has a pool of its own."""
        return _SEED in self.arms[0].config.data.train


def is_comparison(values: Mapping[str, Any]) -> bool:
    """Whether a configuration file is one of a comparison."""
    return "compare" in values


def load_comparison(path: Path, overrides: Sequence[str] = ()) -> CompareConfig:
    """Read a YAML file with a section ``compare`` and check all of it.

    Raises ConfigError: no such file, not YAML, no such section, or settings that are wrong.
    """
    values = read_values(path, overrides)
    if not is_comparison(values):
        raise ConfigError(
            f"{path}: has no section 'compare', which names the strategies, e.g. compare: "
            "{strategies: [random, edco], seeds: 5}. For one run: edco run " + str(path)
        )
    _refuse_ignored(values, str(path))
    config = parse_compare_config(values, str(path))
    comparison_of(config, str(path))
    return config


def parse_compare_config(values: Mapping[str, Any], source: str) -> CompareConfig:
    """Check a configuration given as a mapping, but for its strategies."""
    try:
        return CompareConfig.model_validate(values)
    except ValidationError as error:
        problems = explain(error, CompareConfig)
        raise ConfigError(f"{source}:\n" + "\n".join(f"  {p}" for p in problems)) from error


def comparison_of(config: CompareConfig, source: str = "configuration") -> Comparison:
    """The strategies with their configurations; raises ConfigError for one that is wrong."""
    compare = config.compare
    if config.data.eval is None:
        raise ConfigError(f"{source}: a comparison needs data.eval, on which it is decided.")
    name = config.run.experiment or config.run.name
    values = config.model_dump(mode="json", exclude={"compare"})
    # As they were given, so that a strategy may have a preset for what was not.
    given_only = config.model_dump(mode="json", include=set(_MAY_DIFFER), exclude_unset=True)
    for key in _MAY_DIFFER:
        values[key] = {"type": values[key]["type"], **given_only.get(key, {})}
    values["run"]["experiment"] = name
    arms: list[Arm] = []
    for number, given in enumerate(compare.strategies):
        where = f"{source}: compare.strategies.{number}"
        arm = _arm(values, given, where, has_budget=compare.budget is not None)
        if arm.label in {each.label for each in arms}:
            raise ConfigError(
                f"{source}: compare.strategies: two are called '{arm.label}'. Give one a label, "
                f"e.g. {{type: {arm.config.curriculum.type}, …, label: {arm.label}-2}}."
            )
        arms.append(arm)
    reference = next((a.label for a in arms if a.config.curriculum.type == "random"), None)
    if reference is None:
        raise ConfigError(
            f"{source}: compare.strategies: none of them is random, which all are tested against. "
            "Add it: [random, …]."
        )
    seeds = compare.seeds
    if isinstance(seeds, int):
        seeds = list(range(config.run.seed, config.run.seed + seeds))
    return Comparison(name, tuple(arms), reference, tuple(seeds), compare.budget, compare.parallel)


def _arm(
    values: Mapping[str, Any], given: str | Mapping[str, Any], source: str, *, has_budget: bool
) -> Arm:
    """A strategy of the list, with what all have in common."""
    section = {"type": given} if isinstance(given, str) else dict(given)
    if "type" not in section:
        raise ConfigError(f"{source}.type: is missing. Name the strategy, e.g. type: edco.")
    label = section.pop("label", section.get("type"))
    changes: Any = section.pop("set", {})
    if not isinstance(label, str) or not _LABEL.fullmatch(label):
        raise ConfigError(
            f"{source}.label: {label!r} came. Use up to 30 letters, digits, '.', '_' and '-', a "
            "letter or digit first."
        )
    source = f"{source} ({label})"
    if not isinstance(changes, Mapping):
        raise ConfigError(f"{source}.set: should be 'key.sub: value' (came: {changes!r}).")
    for key in changes:
        if str(key).partition(".")[0] not in _MAY_DIFFER:
            raise ConfigError(
                f"{source}.set: '{key}' came. Only keys of {' and '.join(_MAY_DIFFER)} may differ, "
                "such as scoring.prefix_tokens; the rest is the same for all, or it would be no "
                "comparison."
            )
    if has_budget and "intervals" in section:
        raise ConfigError(
            f"{source}: intervals would be ignored: compare.budget decides how many there are. "
            "Remove one of the two."
        )
    shared = {key: values["curriculum"][key] for key in _SHARED}
    whole = {**values, "curriculum": shared | section}
    for key, change in changes.items():
        for name in reversed(str(key).split(".")):
            change = {name: change}
        whole = _with_changes(whole, change)
    return Arm(label, parse_config(whole, source))


def _with_changes(values: Any, change: Any) -> Any:
    """Settings with some changed; a section of another ``type`` has none of its settings left."""
    if not (isinstance(values, Mapping) and isinstance(change, Mapping)):
        return change
    if change.get("type", values.get("type")) != values.get("type"):
        return change
    return {**values, **{key: _with_changes(values.get(key), change[key]) for key in change}}


def _refuse_ignored(values: Mapping[str, Any], source: str) -> None:
    """Raise ConfigError for settings of a strategy that no strategy would get."""
    curriculum, compare = values.get("curriculum"), values.get("compare")
    keys = set(curriculum) if isinstance(curriculum, Mapping) else set()
    if ignored := sorted(keys - set(_SHARED)):
        raise ConfigError(
            f"{source}: curriculum.{ignored[0]} would be ignored: strategies have their settings "
            f"in compare.strategies. Allowed here, for all of them: {', '.join(_SHARED)}."
        )
    has_budget = isinstance(compare, Mapping) and compare.get("budget") is not None
    if has_budget and "intervals" in keys:
        raise ConfigError(
            f"{source}: curriculum.intervals would be ignored: compare.budget decides how many "
            "there are. Remove one of the two."
        )
