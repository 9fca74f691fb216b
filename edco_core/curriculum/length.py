"""Short prompts first, or long ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edco_core.curriculum.base import Candidate
from edco_core.curriculum.static_order import StaticOrderStrategy

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats


class LengthStrategy(StaticOrderStrategy):
    """A static order by the length of the instruction (baseline of EDCO, arXiv 2601.03725).

    Lengths are in characters, as the ledger has them; those of conversations count their JSON.
    """

    unit = "characters of the prompt"

    def difficulties(self, evidence: Evidence) -> Floats:
        return evidence.samples.prompt_chars.astype(np.float64)

    @classmethod
    def difficulty_of(cls, sample: Candidate) -> float | None:
        return float(sample.prompt_chars)
