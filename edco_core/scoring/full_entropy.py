"""Full-sequence entropy: how uncertain the model is over its whole own answer."""

from __future__ import annotations

from edco_core.config_scoring import FullEntropySection
from edco_core.scoring.answer_entropy import AnswerEntropyScorer


class FullEntropyScorer(AnswerEntropyScorer[FullEntropySection]):
    """Entropy over the whole generated answer, end token included (EDCO, arXiv 2601.03725).

    As prefix entropy, but decoded until the answer ends, or is cut at ``max_new_tokens``.  By
    default the model is asked as it is trained, without the request for a quick answer.
    """

    @property
    def _max_new_tokens(self) -> int:
        return self.settings.max_new_tokens
