"""A strategy and a scorer of one's own, beside the configuration that names them:

curriculum: {type: "mine:Shortest", top_n: 0.25, args: {skip: 2}}
scoring: {type: "mine:PromptLength"}
"""

import numpy as np

from edco_core.curriculum import Explanation, Strategy, selection_of
from edco_core.scoring import Scorer, as_shard


class Shortest(Strategy):
    """The lowest scores, easy first, after the first ``skip``."""

    def choose(self, evidence, num_samples, rng):
        skip = self.settings.args.get("skip", 0)
        chosen = np.argsort(evidence.scores, kind="stable")[skip : skip + num_samples]
        return selection_of(evidence, chosen, reason="shortest", facts={"skip": skip})

    @classmethod
    def explain(cls, facts, sample):
        return Explanation(f"short, {facts['skip']} skipped" if sample.is_selected else "long")


class PromptLength(Scorer):
    """Characters of the prompt."""

    def _num_tokens(self):
        return np.ones(len(self.pool), np.int64)

    def _score_batch(self, ordinals, interval):
        prompts = self.pool.table.column("prompt").take(ordinals).to_pylist()
        lengths = np.array([len(prompt) for prompt in prompts], np.float64)
        return as_shard(ordinals, lengths, np.ones(len(ordinals), np.int64))
