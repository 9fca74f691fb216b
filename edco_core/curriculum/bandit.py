"""Categories as arms of a bandit: what sec and dump have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from edco_core.config_strategies import DumpSection, SecSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, selection_of

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Ints, RolloutGroups, Selection

SectionT = TypeVar("SectionT", SecSection, DumpSection)


class BanditStrategy(Strategy[SectionT]):
    """N slots are drawn among the categories by softmax(value / temperature), with replacement;
    inside a category those trained on least come first, drawn among equals.

    That is a draw without replacement that begins anew when a category is used up.  Slots that a
    category is too small for are drawn again among the others.
    """

    @abstractmethod
    def values(
        self, evidence: Evidence, groups: RolloutGroups | None, arms: Ints
    ) -> tuple[Floats, dict[str, Any]]:
        """Shape (A,), the value of each category, and the state to remember.

        ``groups`` is what the interval before sampled, ``arms`` (G,) the category of each.
        """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        categories, size = evidence.samples.categories, len(evidence.scores)
        codes = categories.codes
        groups = evidence.rollouts_at(evidence.interval - 1) if evidence.interval else None
        arms = codes[:0] if groups is None else codes[groups.ordinals]
        values, state = self.values(evidence, groups, arms)
        logits = values / self.settings.temperature
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        sizes = np.bincount(codes, minlength=len(values))
        slots = draw_slots(shares, sizes, num_samples, rng)
        used = np.zeros(size, np.int64)
        for interval in range(evidence.interval):
            used[evidence.selected_at(interval)] += 1
        by_arm = np.lexsort((rng.random(size), used, codes))
        firsts = np.cumsum(sizes) - sizes
        place = np.arange(size) - firsts[codes[by_arm]]
        chosen = rng.permutation(by_arm[place < slots[codes[by_arm]]])
        return selection_of(
            evidence,
            chosen,
            reason="arm_draw",
            facts={
                "rule": self.settings.type,
                "temperature": self.settings.temperature,
                "num_samples": num_samples,
                "pool_size": size,
                "arms": {
                    name: {"value": float(values[i]), "share": float(shares[i]),
                           "num_slots": int(slots[i]), "size": int(sizes[i])}
                    for i, name in enumerate(categories.names)
                },
            },
            state=state,
        )  # fmt: skip

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        arm = facts["arms"][sample.category]
        return Explanation(
            f"{'drawn' if sample.is_selected else 'not drawn'} for category '{sample.category}' "
            f"(value {arm['value']:.4f}, share {arm['share']:.3f}), which got {arm['num_slots']} "
            f"of {facts['num_samples']} slots for its {arm['size']} samples, those trained on "
            "least first"
        )


def draw_slots(shares: Floats, sizes: Ints, num: int, rng: np.random.Generator) -> Ints:
    """Shape (A,): ``num`` slots drawn by shares, no more in an arm than its size."""
    slots = np.zeros(len(sizes), np.int64)
    while (left := num - int(slots.sum())) > 0:
        has_room = slots < sizes
        weights = shares * has_room
        weights = weights if weights.sum() > 0 else has_room.astype(np.float64)
        slots = np.minimum(slots + rng.multinomial(left, weights / weights.sum()), sizes)
    return slots


def mean_by_arm(values: Floats, n: Ints, arms: Ints, num_arms: int) -> tuple[Floats, Ints]:
    """Shapes (A,): mean over the answers of each arm (0 without any), and how many there are."""
    count = np.bincount(arms, weights=n, minlength=num_arms)
    total = np.bincount(arms, weights=values * n, minlength=num_arms)
    return total / np.maximum(count, 1), count.astype(np.int64)
