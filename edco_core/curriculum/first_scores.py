"""Orders by what the model scored before any training: of perplexity and static_entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edco_core.curriculum.base import Candidate
from edco_core.curriculum.static_order import StaticOrderStrategy

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats


class FirstScoresStrategy(StaticOrderStrategy):
    """A static order by the scores of the first interval: with ``perplexity`` those of the
    reference answers (baseline of EDCO, arXiv 2601.03725), with ``static_entropy`` EDCO's own
    entropies, never renewed.

    Loss and perplexity give the same order.
    """

    unit = "in the first scores"

    def difficulties(self, evidence: Evidence) -> Floats:
        return evidence.scores_at(0)

    @classmethod
    def difficulty_of(cls, sample: Candidate) -> float | None:
        return sample.scores[0]
