"""The entropy of a next-token distribution: pure maths, no model.

Shapes: B = sequences, V = vocabulary.
"""

from __future__ import annotations

import torch

_MAX_CHUNK_ELEMENTS = 2**24  # 64 MiB of float32 at a time, however large the vocabulary


def entropy_from_logits(logits_BV: torch.Tensor) -> torch.Tensor:
    """Shannon entropy in nats, exact over the full vocabulary: H = -sum_v p(v) ln p(v).

    Returns float32 of shape (B,).  A logit of minus infinity has probability zero and adds nothing.
    """
    num_rows = max(1, _MAX_CHUNK_ELEMENTS // logits_BV.shape[-1])
    entropies = []
    for chunk_CV in torch.split(logits_BV, num_rows):
        log_p_CV = torch.log_softmax(chunk_CV.float(), dim=-1)
        p_CV = log_p_CV.exp()
        # 0 * -inf is NaN; its limit, and the value wanted, is 0.
        entropies.append(-(p_CV * log_p_CV.masked_fill(p_CV == 0, 0.0)).sum(dim=-1))
    return torch.cat(entropies)
