"""Prefix entropy: how uncertain the model is while it begins its own answer."""

from __future__ import annotations

from edco_core.config_scoring import PrefixEntropySection
from edco_core.scoring.answer_entropy import AnswerEntropyScorer


class PrefixEntropyScorer(AnswerEntropyScorer[PrefixEntropySection]):
    """Entropy of the first L generated tokens (EDCO, arXiv 2601.03725).

    score = (1 / n) sum_{t=1..n} H_t, with H_t the full-vocabulary entropy, in nats, of the model's
    distribution at generated position t and n = min(L, length of the answer with its end token).
    The answer is the model's own, decoded greedily; no reference is needed.  With ``quick_answer``
    the prompt asks for a short answer, so that informative tokens come first.

    The released code samples 128 tokens, keeps the top 20 probabilities and averages the highest
    fifth instead: ``preset: edco_released``.  Its entropies are those of the model's distribution
    itself; temperature and top-p change only which token is drawn.
    """

    @property
    def _max_new_tokens(self) -> int:
        return self.settings.prefix_tokens
