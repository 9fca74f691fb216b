"""The weighted list of rewards: one total for each answer, and who is to blame when it fails."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.errors import EdcoError, RewardError
from edco_core.rewards.base import CORRECT_FROM, Answered, Reward, Usage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.records import Floats

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """What the rewards say about a batch: arrays of shape (len(batch),)."""

    total: Floats
    """Sum of weight times value."""
    by_reward: dict[str, Floats]
    """Unweighted values, in the order of the list."""
    is_correct: NDArray[np.bool_]
    """The first reward of the list gives at least 1."""
    num_zeroed: int
    """Values counted as zero under ``on_error: zero``."""


class Rewards:
    """The rewards of a list, in its order.  See ``edco_core.rewards.build_rewards``."""

    def __init__(self, rewards: Sequence[Reward[Any]]) -> None:
        assert rewards
        self._rewards = list(rewards)
        self.names = _distinct([reward.settings.type for reward in rewards])
        """``type``; a second of the same type is ``type_2``."""

    @property
    def needs(self) -> frozenset[str]:
        """Optional fields of a sample that these rewards cannot do without."""
        return frozenset().union(*(reward.needs for reward in self._rewards))

    @property
    def usage(self) -> Usage:
        """What all judges have cost since the run began."""
        return sum((reward.usage for reward in self._rewards), Usage())

    def first_problem(self, asked: Iterable[Answered]) -> tuple[int, str, str] | None:
        """The first sample on which a reward could never be right, that reward, and why."""
        for index, each in enumerate(asked):
            for name, reward in zip(self.names, self._rewards, strict=True):
                if reward.max_checked is not None and index >= reward.max_checked:
                    continue
                found = reward.problem(each)
                if found is not None:
                    return index, name, found
        return None

    def score(self, batch: Sequence[Answered]) -> Scored:
        """Raises RewardError, or JudgeDownError, which no setting turns into zeros."""
        total = np.zeros(len(batch))
        by_reward: dict[str, Floats] = {}
        num_zeroed = 0
        for name, reward in zip(self.names, self._rewards, strict=True):
            values = _values(name, reward, batch) if batch else np.zeros(0)
            failed = ~np.isfinite(values)
            if failed.any():
                first = batch[int(failed.argmax())]
                if reward.settings.on_error == "error":
                    raise RewardError(
                        f"reward {name}: sample {first.sample_id}: "
                        f"{values[failed][0]} came ({reward.nan_means}). {_WHAT_NEXT}"
                    )
                logger.warning(
                    "reward %s: %d of %d answers counted as zero, the first to sample %s",
                    name, int(failed.sum()), len(batch), first.sample_id,
                )  # fmt: skip
                values = np.where(failed, 0.0, values)
                num_zeroed += int(failed.sum())
            by_reward[name] = values
            total += reward.settings.weight * values
        return Scored(total, by_reward, by_reward[self.names[0]] >= CORRECT_FROM, num_zeroed)


_WHAT_NEXT = "Mend the reward, or set its on_error: zero."


def _values(name: str, reward: Reward[Any], batch: Sequence[Answered]) -> Floats:
    """One number for each answer; what fails under ``on_error: zero`` is NaN."""
    try:
        return _checked(name, reward, batch)
    except EdcoError:
        raise
    except Exception as error:
        found = np.array([_value_alone(name, reward, each) for each in batch])
        if reward.settings.on_error == "error":
            raise RewardError(
                f"reward {name}: failed on {len(batch)} answers together and on none alone, with "
                f"{type(error).__name__}: {error}. {_WHAT_NEXT}"
            ) from error
        return found


def _value_alone(name: str, reward: Reward[Any], answered: Answered) -> float:
    try:
        return float(_checked(name, reward, [answered])[0])
    except EdcoError:
        raise
    except Exception as error:
        if reward.settings.on_error == "error":
            raise RewardError(
                f"reward {name}: sample {answered.sample_id}: {type(error).__name__}: {error}. "
                f"{_WHAT_NEXT}"
            ) from error
        return float("nan")


def _checked(name: str, reward: Reward[Any], batch: Sequence[Answered]) -> Floats:
    values = np.asarray(reward.score(batch), dtype=np.float64)
    if values.shape != (len(batch),):
        raise RewardError(
            f"reward {name}: shape {values.shape} came for {len(batch)} answers, the first to "
            f"sample {batch[0].sample_id}. Expected ({len(batch)},): one number for each."
        )
    return values


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(distinct)
