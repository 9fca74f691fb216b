"""The model answers samples of a pool, and a reward says which answers are right.

Shapes: B = samples of a batch, K = answers to each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from edco_core.positions import check_positions
from edco_core.prompts import prompt_token_ids
from edco_core.rewards import Questions, build_rewards
from edco_core.scoring.decoding import decode
from edco_core.scoring.drawing import Drawing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.config_rewards import BaseRewardSection
    from edco_core.loading import ModelHost
    from edco_core.records import Ints, Pool


class Sampling(Protocol):
    """Settings of drawn answers."""

    @property
    def k(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers to a batch of samples."""

    is_correct_BK: NDArray[np.bool_]
    lengths_BK: Ints
    """Generated tokens."""


class Answering:
    """Answers greedily or by sampling, with whatever weights the host holds."""

    def __init__(
        self,
        pool: Pool,
        host: ModelHost,
        metric: BaseRewardSection,
        *,
        max_new_tokens: int,
        cache_dir: Path | None,
    ) -> None:
        self.host, self.pool = host, pool
        self._max_new_tokens = max_new_tokens
        self._prompts = prompt_token_ids(pool, host.tokenizer)
        self._questions = Questions(pool)
        self._rewards = build_rewards([metric], cache_dir=cache_dir)

    @property
    def prompt_lengths(self) -> Ints:
        """Shape (P,), in tokens, by ordinal."""
        return np.fromiter((len(prompt) for prompt in self._prompts), dtype=np.int64)

    def num_tokens(self, k: int) -> Ints:
        """Shape (P,): positions of a batch that k answers to each sample take at the most."""
        return (self.prompt_lengths + self._max_new_tokens) * k

    def answer_greedily(self, ordinals: Sequence[int]) -> Judged:
        """One answer to each sample."""
        return self._answer(ordinals, None)

    def draw(
        self, ordinals: Sequence[int], sampling: Sampling, *, seed: int, interval: int
    ) -> Judged:
        """``sampling.k`` answers to each sample, which follow from (seed, interval, ordinal)."""
        drawing = Drawing(
            seed, interval, ordinals, self._max_new_tokens,
            temperature=sampling.temperature, top_p=sampling.top_p,
            answers_per_prompt=sampling.k,
        )  # fmt: skip
        return self._answer(ordinals, drawing)

    def _answer(self, ordinals: Sequence[int], drawing: Drawing | None) -> Judged:
        host = self.host
        prompts = [self._prompts[ordinal] for ordinal in ordinals]
        num_tokens = [len(prompt) + self._max_new_tokens for prompt in prompts]
        check_positions(host, self.pool, ordinals, num_tokens)
        decoded = decode(
            host.model_for_inference(),
            prompts,
            max_new_tokens=self._max_new_tokens,
            pad_token_id=host.pad_token_id,
            eos_token_ids=host.eos_token_ids,
            drawing=drawing,
        )
        k = 1 if drawing is None else drawing.answers_per_prompt
        token_ids = decoded.token_ids
        texts = host.tokenizer.batch_decode(token_ids, skip_special_tokens=True)
        scored = self._rewards.score(
            [
                self._questions.answered(ordinal, text, truncated=ids[-1] not in host.eos_token_ids)
                for ordinal, text, ids in zip(
                    np.repeat(ordinals, k).tolist(), texts, token_ids, strict=True
                )
            ]
        )
        return Judged(scored.is_correct.reshape(-1, k), decoded.lengths_N.reshape(-1, k))
