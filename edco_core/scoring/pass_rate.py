"""Pass rate: how often the model's own sampled answers are right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edco_core.config_scoring import PassRateSection
from edco_core.records import ScoreShard
from edco_core.scoring.answering import Answering
from edco_core.scoring.base import Scorer, as_shard

if TYPE_CHECKING:
    from edco_core.records import Ints


class PassRateScorer(Scorer[PassRateSection]):
    """Share of k sampled answers that are wrong: 1 - pass rate, so that higher is harder.

    score = 1 - (1 / k) sum_i [answer_i is right], with k answers drawn at ``temperature`` and
    ``top_p``; the prompt, as evaluation asks it, is read once for all of them.  The difficulty that
    curricula for reinforcement learning use (such as CurES, arXiv 2510.01037, with p = 1 - score).
    """

    @cached_property
    def _answering(self) -> Answering:
        settings = self.settings
        return Answering(
            self.pool,
            self.host,
            settings.metric,
            max_new_tokens=settings.max_new_tokens,
            cache_dir=self._cache_dir,
        )

    def _num_tokens(self) -> Ints:
        return self._answering.num_tokens(self.settings.k)

    def _score_batch(self, ordinals: Sequence[int], interval: int) -> ScoreShard:
        drawn = self._answering.draw(ordinals, self.settings, seed=self._seed, interval=interval)
        wrong_B = np.mean(~drawn.is_correct_BK, axis=1)
        return as_shard(ordinals, wrong_B, drawn.lengths_BK.sum(axis=1))
