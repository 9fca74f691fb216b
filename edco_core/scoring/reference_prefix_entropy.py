"""Entropy on the reference answer's own first tokens: one forward pass, nothing decoded."""

from __future__ import annotations

from collections.abc import Sequence

from edco_core.config_scoring import ReferencePrefixEntropySection
from edco_core.records import ScoreShard
from edco_core.scoring.base import as_shard
from edco_core.scoring.reference import ReferenceScorer
from edco_core.scoring.token_entropy import aggregated, entropy_function


class ReferencePrefixEntropyScorer(ReferenceScorer[ReferencePrefixEntropySection]):
    """As prefix entropy, with the reference answer in place of the model's own.

    H_t is the entropy of the model's distribution at position t, given the prompt and the
    reference's first t - 1 tokens, t = 1..min(L, its length with the end token).  Ours: cheaper
    than prefix entropy, and less like full-sequence entropy.
    """

    @property
    def _max_tokens(self) -> int | None:
        return self.settings.prefix_tokens

    def _score_batch(self, ordinals: Sequence[int], interval: int) -> ScoreShard:
        entropy = entropy_function(self.settings.k, self.settings.unit)
        entropies_BC, counts_BC = self._read(
            ordinals, lambda logits_NV, targets_N: entropy(logits_NV)
        )
        return as_shard(
            ordinals,
            aggregated(entropies_BC, counts_BC, self.settings.fraction),
            counts_BC.sum(axis=1),
            entropies_BC[counts_BC],
        )
