"""Loss and perplexity: how surprised the model is by the reference answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edco_core.config_scoring import LossSection, PerplexitySection
from edco_core.records import ScoreShard
from edco_core.scoring.base import as_shard
from edco_core.scoring.reading import negative_log_likelihood
from edco_core.scoring.reference import ReferenceScorer

if TYPE_CHECKING:
    from edco_core.records import Floats


class LossScorer(ReferenceScorer[LossSection | PerplexitySection]):
    """Mean negative log-likelihood per token of the completion, in nats.

    score = -(1 / n) sum_t ln p(y_t | x, y_<t) over the n tokens of the reference answer with its
    end token, prompt and answer as training sees them: the loss that TRL would report for the
    sample, but for what it cuts off at ``max_length``, which is read here.  The score
    of Dynamic-PPL (a baseline of EDCO, arXiv 2601.03725).
    """

    def _score_batch(self, ordinals: Sequence[int], interval: int) -> ScoreShard:
        losses_BC, counts_BC = self._read(ordinals, negative_log_likelihood)
        n_tokens = counts_BC.sum(axis=1)
        means = np.where(counts_BC, losses_BC, 0.0).sum(axis=1) / n_tokens
        return as_shard(ordinals, self._of_mean_loss(means), n_tokens)

    def _of_mean_loss(self, means: Floats) -> Floats:
        return means


class PerplexityScorer(LossScorer):
    """exp of the loss: the order of samples is the same, the distances are not."""

    def _of_mean_loss(self, means: Floats) -> Floats:
        return np.exp(means)
