"""One order of the pool for the whole run, trained on stretch by stretch."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_strategies import StaticOrderSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, highest, selection_of

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Selection


class StaticOrderStrategy(Strategy[StaticOrderSection]):
    """Interval k trains on places kN to (k+1)N of the order, and at its end goes on at its start.

    The classic curriculum (Bengio et al., ICML 2009), and the static baselines of EDCO (arXiv
    2601.03725); which stretch an interval gets is not published.  Training keeps the order; equal
    difficulties are in the order of the pool.
    """

    unit: str
    """What difficulties are, for people."""

    @abstractmethod
    def difficulties(self, evidence: Evidence) -> Floats:
        """Shape (P,), the same at every interval."""

    @classmethod
    @abstractmethod
    def difficulty_of(cls, sample: Candidate) -> float | None:
        """The same of one sample; None where the ledger does not have what it takes."""

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        difficulties = self.difficulties(evidence)
        is_easy_first = self.settings.order == "easy_first"
        order = highest(-difficulties if is_easy_first else difficulties, len(difficulties))
        first = evidence.interval * num_samples % len(order)
        stretch = np.arange(first, first + num_samples) % len(order)
        chosen = order[stretch]
        return selection_of(
            evidence,
            chosen,
            reason=self.settings.order,
            facts={
                "rule": self.settings.type,
                "order": self.settings.order,
                "num_samples": num_samples,
                "pool_size": len(order),
                "first_place": first,
                "from": float(difficulties[chosen[0]]),
                "to": float(difficulties[chosen[-1]]),
            },
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        last = (facts["first_place"] + facts["num_samples"] - 1) % facts["pool_size"]
        stretch = (
            f"the turn of places {facts['first_place'] + 1} to {last + 1} of {facts['pool_size']} "
            f"in the order {facts['order']}, {facts['from']:.4g} to {facts['to']:.4g} {cls.unit}"
        )
        difficulty = cls.difficulty_of(sample)
        its_own = "" if difficulty is None else f"; it has {difficulty:.4g}"
        return Explanation(f"{'in' if sample.is_selected else 'not in'} {stretch}{its_own}")
