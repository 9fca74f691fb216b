"""Pass rate: how often the model's own sampled answers are right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edco_core.config_scoring import PassRateSection
from edco_core.evaluation import METRICS
from edco_core.prompts import prompt_token_ids, reference_texts
from edco_core.records import ScoreShard
from edco_core.scoring.base import Scorer, as_shard
from edco_core.scoring.decoding import decode
from edco_core.scoring.drawing import Drawing

if TYPE_CHECKING:
    from edco_core.prompts import TokenIds
    from edco_core.records import Ints


class PassRateScorer(Scorer[PassRateSection]):
    """Share of k sampled answers that are wrong: 1 - pass rate, so that higher is harder.

    score = 1 - (1 / k) sum_i [metric(answer_i) holds], with k answers drawn at ``temperature`` and
    ``top_p``; the prompt, as evaluation asks it, is read once for all of them.  The difficulty that
    curricula for reinforcement learning use (such as CurES, arXiv 2510.01037, with p = 1 - score).
    """

    @cached_property
    def _prompts(self) -> list[TokenIds]:
        return prompt_token_ids(self._pool, self._host.tokenizer)

    @cached_property
    def _references(self) -> list[str]:
        return reference_texts(self._pool)

    @cached_property
    def _answers(self) -> list[str | None]:
        answers: list[str | None] = self._pool.table.column("answer").to_pylist()
        return answers

    def _num_tokens(self) -> Ints:
        lengths = np.fromiter((len(prompt) for prompt in self._prompts), dtype=np.int64)
        return (lengths + self.settings.max_new_tokens) * self.settings.k

    def _score_batch(self, ordinals: Sequence[int], interval: int) -> ScoreShard:
        settings = self.settings
        decoded = decode(
            self._host.model_for_inference(),
            [self._prompts[ordinal] for ordinal in ordinals],
            max_new_tokens=settings.max_new_tokens,
            pad_token_id=self._host.pad_token_id,
            eos_token_ids=self._host.eos_token_ids,
            drawing=Drawing(
                self._seed, interval, ordinals, settings.max_new_tokens,
                temperature=settings.temperature, top_p=settings.top_p,
                answers_per_prompt=settings.k,
            ),
        )  # fmt: skip
        texts = self._host.tokenizer.batch_decode(decoded.token_ids, skip_special_tokens=True)
        metric = METRICS[settings.metric]
        failed_BK = np.array(
            [
                not metric(text, self._references[ordinal], self._answers[ordinal])
                for ordinal, text in zip(np.repeat(ordinals, settings.k), texts, strict=True)
            ]
        ).reshape(len(ordinals), settings.k)
        n_tokens = decoded.lengths_N.reshape(len(ordinals), settings.k).sum(axis=1)
        return as_shard(ordinals, failed_BK.mean(axis=1), n_tokens)
