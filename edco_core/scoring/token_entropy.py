"""The entropy of a next-token distribution, and of many tokens one score: pure maths, no model.

Shapes: N = sequences, L = positions, V = vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.records import Floats

_MAX_CHUNK_ELEMENTS = 2**24  # 64 MiB of float32 at a time, however large the vocabulary


def entropy_from_logits(logits_NV: torch.Tensor) -> torch.Tensor:
    """Shannon entropy in nats, exact over the full vocabulary: H = -sum_v p(v) ln p(v).

    Returns float32 of shape (N,).  A logit of minus infinity has probability zero and adds nothing.
    """
    num_rows = max(1, _MAX_CHUNK_ELEMENTS // logits_NV.shape[-1])
    entropies = []
    for chunk_CV in torch.split(logits_NV, num_rows):
        log_p_CV = torch.log_softmax(chunk_CV.float(), dim=-1)
        p_CV = log_p_CV.exp()
        # 0 * -inf is NaN; its limit, and the value wanted, is 0.
        entropies.append(-(p_CV * log_p_CV.masked_fill(p_CV == 0, 0.0)).sum(dim=-1))
    return torch.cat(entropies)


def entropy_function(
    k: int | None, unit: Literal["nats", "bits"]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits (N, V) to entropies (N,): exact, or of the ``k`` likeliest tokens, renormalised."""

    def entropy(logits_NV: torch.Tensor) -> torch.Tensor:
        if k is not None:
            logits_NV = logits_NV.topk(min(k, logits_NV.shape[-1]), dim=-1).values
        entropy_N = entropy_from_logits(logits_NV)
        return entropy_N / math.log(2) if unit == "bits" else entropy_N

    return entropy


def aggregated(
    entropies_NL: Floats, counts_NL: NDArray[np.bool_], fraction: float | None
) -> Floats:
    """The mean (N,) over the positions that count, or over their highest ``fraction``.

    Of n tokens the highest max(1, floor(fraction x n)) are taken.
    """
    lengths_N = counts_NL.sum(axis=1)
    if fraction is None:
        means: Floats = np.where(counts_NL, entropies_NL, 0.0).sum(axis=1) / lengths_N
        return means
    taken_N = np.maximum(1, (fraction * lengths_N + 1e-9).astype(np.int64))
    descending_NL = -np.sort(-np.where(counts_NL, entropies_NL, -np.inf), axis=1)
    is_taken_NL = np.arange(entropies_NL.shape[1])[None] < taken_N[:, None]
    highest: Floats = np.where(is_taken_NL, descending_NL, 0.0).sum(axis=1) / taken_N
    return highest
