"""Prefix entropy: how uncertain the model is while it begins its own answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from edco_core.config import PrefixEntropySection
from edco_core.prompts import prompt_token_ids, quick_answer_template
from edco_core.records import Pool, ScoreShard
from edco_core.scoring.decoding import decode_greedily, plan_batches

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.records import Ints


class PrefixEntropyScorer:
    """Mean entropy, in nats, of the first L generated tokens (EDCO, arXiv 2601.03725).

    score = (1 / n) sum_{t=1..n} H_t, with H_t the full-vocabulary entropy of the model's
    distribution at generated position t and n = min(L, length of the answer with its end token).
    The answer is the model's own, decoded greedily; no reference is needed.  With ``quick_answer``
    the prompt asks for a short answer, so that informative tokens come first.  The released code
    samples 128 tokens, keeps the top 20 probabilities and averages the highest fifth instead.
    """

    def __init__(self, settings: PrefixEntropySection, pool: Pool, host: ModelHost) -> None:
        self._settings = settings
        self._host = host
        self._prompts = prompt_token_ids(
            pool, host.tokenizer, template=quick_answer_template(settings.quick_answer)
        )
        self._batches = plan_batches(
            [len(prompt) for prompt in self._prompts],
            max_new_tokens=settings.prefix_tokens,
            max_batch_tokens=settings.max_batch_tokens,
        )

    def score(
        self, already_scored: Ints, on_progress: Callable[[int, int], None]
    ) -> Iterator[ScoreShard]:
        """Score the samples that have no score yet, shard by shard, with the host's weights.

        ``on_progress`` gets (samples scored, samples in the pool) after each batch.
        """
        missing = np.ones(len(self._prompts), dtype=bool)
        missing[already_scored] = False
        num_done = len(self._prompts) - int(missing.sum())
        shard: list[tuple[int, float, int]] = []
        for batch in self._batches:
            ordinals = [ordinal for ordinal in batch if missing[ordinal]]
            if not ordinals:
                continue
            decoded = decode_greedily(
                self._host.model_for_inference(),
                [self._prompts[ordinal] for ordinal in ordinals],
                max_new_tokens=self._settings.prefix_tokens,
                pad_token_id=self._host.pad_token_id,
                eos_token_ids=self._host.eos_token_ids,
                with_entropies=True,
            )
            assert decoded.entropies is not None
            for ordinal, entropies in zip(ordinals, decoded.entropies, strict=True):
                shard.append((ordinal, float(np.mean(entropies)), len(entropies)))
            num_done += len(ordinals)
            on_progress(num_done, len(self._prompts))
            # Whole batches only: a shard that is stored never has to be batched again.
            if len(shard) >= self._settings.shard_size:
                yield _as_shard(shard)
                shard = []
        if shard:
            yield _as_shard(shard)


def _as_shard(rows: list[tuple[int, float, int]]) -> ScoreShard:
    ordinals, scores, n_tokens = zip(*rows, strict=True)
    return ScoreShard(
        ordinals=np.array(ordinals, dtype=np.int64),
        scores=np.array(scores, dtype=np.float64),
        n_tokens=np.array(n_tokens, dtype=np.int64),
    )
