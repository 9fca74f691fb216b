"""What reinforcement learning sampled in one interval, group by group; kept beside each save.

A *group* is the answers to one prompt in one step.  Its advantages are its rewards against each
other, so where all are worth the same it is *without signal*: nothing is learned from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edco_core.checkpoints import ROLLOUTS
from edco_core.records import GradientTerms, RolloutAnswers, RolloutGroups

if TYPE_CHECKING:
    from edco_core.records import BoolArray, Floats, Ints

_SCHEMA = pa.schema(
    {
        "step": pa.int64(),
        "ordinal": pa.int64(),
        "slot": pa.int64(),
        "advantage_abs_mean": pa.float64(),
        "rewards": pa.list_(pa.float64()),
        "is_correct": pa.list_(pa.bool_()),
        "n_tokens": pa.list_(pa.int64()),
        "truncated": pa.list_(pa.bool_()),
        "texts": pa.list_(pa.string()),
        "n_trained": pa.int64(),
        "gradient_correct": pa.float64(),
        "gradient_wrong": pa.float64(),
        "gradient_gap": pa.float64(),
    }
)


@dataclass(frozen=True, slots=True)
class Group:
    """The answers to one prompt: arrays of one length n."""

    ordinal: int
    rewards: Floats
    is_correct: BoolArray
    advantages: Floats
    n_tokens: Ints
    """Generated tokens of each answer."""
    truncated: BoolArray
    """Whether the answer was cut off at its longest length."""
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Gradients:
    """Of one group's answers, g = gradient of log p(answer | prompt) by the trained parameters."""

    correct: float | None
    """Mean of |g|^2 over the correct answers; None: there are none."""
    wrong: float | None
    """The same of the others."""
    gap: float | None
    """|mean g of the correct - mean g of the others|^2; None where one of them is missing."""


class RolloutLog:
    """All groups of an interval so far, in the order they were sampled."""

    def __init__(self, *, keep_texts: bool) -> None:
        self._keep_texts = keep_texts
        self._rows: list[dict[str, Any]] = []

    @property
    def num_drawn(self) -> int:
        """Prompts that were asked so far, those passed over among them."""
        return len(self._rows)

    def add(
        self, group: Group, *, step: int, n_trained: int, gradients: Gradients | None = None
    ) -> None:
        """Keep a group, of whose answers ``n_trained`` were trained on in a step.

        Those with any have slots, counted from 0.
        """
        slot = sum(row["slot"] is not None for row in self._of_last_step(step))
        self._rows.append(
            {
                "step": step,
                "ordinal": group.ordinal,
                "slot": slot if n_trained else None,
                "advantage_abs_mean": float(np.abs(group.advantages).mean()),
                "rewards": group.rewards.tolist(),
                "is_correct": group.is_correct.tolist(),
                "n_tokens": group.n_tokens.tolist(),
                "truncated": group.truncated.tolist(),
                "texts": list(group.texts) if self._keep_texts else None,
                "n_trained": n_trained,
                "gradient_correct": gradients.correct if gradients else None,
                "gradient_wrong": gradients.wrong if gradients else None,
                "gradient_gap": gradients.gap if gradients else None,
            }
        )

    def _of_last_step(self, step: int) -> list[dict[str, Any]]:
        first = len(self._rows)
        while first and self._rows[first - 1]["step"] == step:
            first -= 1
        return self._rows[first:]

    def save(self, checkpoint: Path) -> None:
        """Write all of it beside a checkpoint's weights."""
        pq.write_table(pa.Table.from_pylist(self._rows, _SCHEMA), checkpoint / ROLLOUTS)

    def load(self, checkpoint: Path) -> None:
        """Go on from what was saved there, by this version or one that kept less."""
        self._rows = [
            {
                **dict.fromkeys(_SCHEMA.names),
                "n_trained": 0 if row["slot"] is None else len(row["rewards"]),
                **row,
            }
            for row in pq.read_table(checkpoint / ROLLOUTS).to_pylist()
        ]

    def step_ordinals(self, num_slots: int, steps_per_round: int) -> Ints:
        """Shape (steps, slots): the samples each step trained on; a round's steps share them.

        -1 in a slot that a step left empty.
        """
        rounds: dict[int, list[int]] = {}
        for row in self._rows:
            trained = rounds.setdefault(row["step"], [])
            if row["slot"] is not None:
                trained.append(row["ordinal"])
        filled = [each + [-1] * (num_slots - len(each)) for each in rounds.values()]
        return np.repeat(np.array(filled, np.int64), steps_per_round, axis=0)

    def groups(self) -> RolloutGroups:
        rows = self._rows
        return RolloutGroups(
            steps=np.array([row["step"] for row in rows], np.int64),
            ordinals=np.array([row["ordinal"] for row in rows], np.int64),
            slots=np.array([-1 if row["slot"] is None else row["slot"] for row in rows], np.int64),
            n=np.array([len(row["rewards"]) for row in rows], np.int64),
            n_correct=np.array([sum(row["is_correct"]) for row in rows], np.int64),
            reward_mean=np.array([np.mean(row["rewards"]) for row in rows]),
            reward_std=np.array([_spread(row["rewards"]) for row in rows]),
            advantage_abs_mean=np.array([row["advantage_abs_mean"] for row in rows]),
            n_tokens_mean=np.array([np.mean(row["n_tokens"]) for row in rows]),
            truncated_share=np.array([np.mean(row["truncated"]) for row in rows]),
            n_trained=np.array([row["n_trained"] for row in rows], np.int64),
            gradients=self._gradients(),
        )

    def _gradients(self) -> GradientTerms | None:
        correct, wrong, gap = (
            np.array([row[f"gradient_{name}"] for row in self._rows], np.float64)
            for name in ("correct", "wrong", "gap")
        )
        if np.isnan(correct).all() and np.isnan(wrong).all():
            return None
        return GradientTerms(correct, wrong, gap)

    def answers(self) -> RolloutAnswers | None:
        """Every answer with its text; None where texts are not kept."""
        if not self._keep_texts:
            return None

        def flat(name: str) -> list[Any]:
            return [value for row in self._rows for value in row[name]]

        sizes = [len(row["rewards"]) for row in self._rows]
        return RolloutAnswers(
            groups=np.repeat(np.arange(len(sizes)), sizes),
            texts=tuple(flat("texts")),
            rewards=np.array(flat("rewards"), np.float64),
            is_correct=np.array(flat("is_correct"), bool),
            n_tokens=np.array(flat("n_tokens"), np.int64),
            truncated=np.array(flat("truncated"), bool),
        )


def _spread(rewards: Sequence[float] | Floats) -> float:
    """Their standard deviation; exactly 0 where they are equal in TRL's single precision."""
    return float(np.std(rewards)) if np.ptp(np.asarray(rewards, np.float32)) > 0 else 0.0
