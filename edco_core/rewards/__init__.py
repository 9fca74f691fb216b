"""Rewards: each gives a generated answer one number; together they are a weighted list.

A new reward is one file with one class (see :class:`~edco_core.rewards.base.Reward`), one settings
section in ``edco_core/config_rewards.py`` and one line in ``REWARDS``.  Loads without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edco_core.config_rewards import LlmJudgeSection
from edco_core.errors import DataError
from edco_core.rewards.base import Answered, Reward, Usage
from edco_core.rewards.choice import ChoiceReward
from edco_core.rewards.contains import ContainsReward
from edco_core.rewards.exact_match import ExactMatchReward
from edco_core.rewards.format import FormatReward
from edco_core.rewards.llm_judge import LlmJudgeReward, decides_verdicts
from edco_core.rewards.math import MathReward
from edco_core.rewards.numeric import NumericReward
from edco_core.rewards.own import OwnReward
from edco_core.rewards.questions import Questions
from edco_core.rewards.regex import RegexReward
from edco_core.rewards.weighted import Rewards, Scored

if TYPE_CHECKING:
    from edco_core.config_rewards import BaseRewardSection
    from edco_core.records import Pool

REWARDS: Mapping[str, type[Reward[Any]]] = {
    "choice": ChoiceReward,
    "contains": ContainsReward,
    "exact_match": ExactMatchReward,
    "format": FormatReward,
    "llm_judge": LlmJudgeReward,
    "math": MathReward,
    "numeric": NumericReward,
    "regex": RegexReward,
}


def build_rewards(
    sections: Sequence[BaseRewardSection], *, cache_dir: Path | None = None
) -> Rewards:
    """The rewards of a list of sections; ``cache_dir`` is the run's folder, for judges' verdicts.

    Raises ConfigError where something is missing on this machine: a library, or a judge's key.
    """
    kinds = [REWARDS.get(each.type, OwnReward) for each in sections]
    return Rewards(
        [kind(each, cache_dir=cache_dir) for kind, each in zip(kinds, sections, strict=True)]
    )


def needed_fields(sections: Sequence[BaseRewardSection]) -> frozenset[str]:
    """Optional fields of a sample that these rewards cannot do without, for ``load_pool``."""
    return build_rewards(sections).needs


def check_fields(
    sections: Sequence[BaseRewardSection], pool: Pool, key: str = "training.rewards"
) -> None:
    """Raise DataError, with the sample's line, where a reward could never be right.

    ``key`` is the setting the rewards are from.
    """
    questions = Questions(pool)
    asked = (questions.answered(i, "", truncated=False) for i in range(len(questions)))
    found = build_rewards(sections).first_problem(asked)
    if found is not None:
        ordinal, name, problem = found
        raise DataError(
            f"{pool.table.column('source')[ordinal].as_py()}: {problem}. {key} is {name}, for "
            "which no answer would be right: change the row, or use another reward."
        )


def judges_usage(sections: Iterable[BaseRewardSection], run_dir: Path) -> Usage | None:
    """What the judges among these have cost a run since it began; None: there is none.

    One that several settings name is counted once, at the prices that the first of them has.
    """
    judges: dict[str, BaseRewardSection] = {}
    for each in sections:
        if isinstance(each, LlmJudgeSection):
            judges.setdefault(decides_verdicts(each), each)
    if not judges:
        return None
    return build_rewards(list(judges.values()), cache_dir=run_dir).usage


__all__ = [
    "REWARDS",
    "Answered",
    "Questions",
    "Reward",
    "Rewards",
    "Scored",
    "Usage",
    "build_rewards",
    "check_fields",
    "judges_usage",
    "needed_fields",
]
