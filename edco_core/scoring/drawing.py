"""Sampled tokens that depend on the sample alone, not on its batch.

Shapes: N = sequences (answers per prompt x prompts), L = generated positions, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

_MAX_SAMPLES = 2**40
"""Ordinal and number of the answer share one 64-bit word."""


class Drawing:
    """Draws tokens by temperature and top-p, each from a random number of its own.

    The number of generated position t of answer a to sample ``ordinal`` is the t-th of a Philox
    generator (counter-based) keyed by (seed, interval, ordinal, a): batch, order and resume change
    nothing.  It picks from the cumulated distribution in the order of the vocabulary.
    """

    def __init__(
        self,
        seed: int,
        interval: int,
        ordinals: Sequence[int],
        max_new_tokens: int,
        *,
        temperature: float,
        top_p: float,
        answers_per_prompt: int = 1,
    ) -> None:
        self.answers_per_prompt = answers_per_prompt
        self._temperature = temperature
        self._top_p = top_p
        self._uniforms_NL = torch.from_numpy(
            np.stack(
                [
                    uniforms(seed, interval, ordinal, answer, max_new_tokens)
                    for ordinal in ordinals
                    for answer in range(answers_per_prompt)
                ]
            )
        )

    def draw(self, logits_NV: torch.Tensor, rows_N: torch.Tensor, position: int) -> torch.Tensor:
        """One token (N,) for each row; ``rows_N`` says which sequence a row is."""
        p_NV = torch.softmax(logits_NV.float() / self._temperature, dim=-1)
        if self._top_p < 1:
            sorted_NV, order_NV = p_NV.sort(dim=-1, descending=True, stable=True)
            before_NV = sorted_NV.cumsum(dim=-1) - sorted_NV
            dropped_NV = torch.zeros_like(p_NV, dtype=torch.bool)
            dropped_NV.scatter_(-1, order_NV, before_NV >= self._top_p)  # the likeliest stays
            p_NV = p_NV.masked_fill(dropped_NV, 0.0)
        cumulated_NV = p_NV.double().cumsum(dim=-1)
        uniforms_N = self._uniforms_NL[:, position].to(logits_NV.device)[rows_N]
        # Scaled to the last value, so that rounding cannot lead beyond the last likely token.
        target_N1 = (uniforms_N * cumulated_NV[:, -1])[:, None]
        return torch.searchsorted(cumulated_NV, target_N1, right=True)[:, 0].clamp(
            max=logits_NV.shape[-1] - 1
        )


def uniforms(
    seed: int, interval: int, ordinal: int, answer: int, num: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Numbers in [0, 1) that belong to one answer to one sample at one interval."""
    assert seed < 2**32
    assert ordinal < _MAX_SAMPLES
    key = np.array([seed | interval << 32, ordinal | answer << 40], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(num)
