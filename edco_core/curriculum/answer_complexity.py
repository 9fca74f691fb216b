"""Simple answers first, or complex ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edco_core.curriculum.base import Candidate
from edco_core.curriculum.static_order import StaticOrderStrategy
from edco_core.curriculum.text_statistics import num_different_words

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats


class AnswerComplexityStrategy(StaticOrderStrategy):
    """A static order by the complexity of the answer (baseline of EDCO, arXiv 2601.03725).

    The paper leaves open what that is.  Ours is the number of different words and signs in the
    reference answer: it grows with length, but not with repetition, and needs no model and no
    other sample.
    """

    unit = "different words of the answer"

    def difficulties(self, evidence: Evidence) -> Floats:
        return evidence.samples.num_different_words

    @classmethod
    def difficulty_of(cls, sample: Candidate) -> float | None:
        if sample.completion is None:
            return None
        return float(num_different_words([sample.completion])[0])
