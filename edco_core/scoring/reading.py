"""Reading the reference answers: one number for each of their tokens, without decoding.

Shapes: B = sequences, T = positions, C = the last positions, those of completions, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edco_core.scoring.decoding import holds_positions_only, new_cache, pad_left

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from edco_core.prompts import TokenIds
    from edco_core.records import Floats

    Measure = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_MAX_LOGITS = 2**25
"""Logits at a time: 128 MiB of float32, however large vocabulary and batch."""


@torch.inference_mode()
def read_completions(
    model: PreTrainedModel,
    prompts: Sequence[TokenIds],
    completions: Sequence[TokenIds],
    measure: Measure,
    *,
    pad_token_id: int,
) -> tuple[Floats, NDArray[np.bool_]]:
    """``measure`` of the model's distribution before each completion token, and which count.

    ``measure`` maps logits (n, V) and the tokens that follow (n,) to (n,).  Both results are (B, C)
    and aligned at the right end.  Logits exist for the completions alone, a few positions at a
    time: what was read before stays in the cache.  Of models with recurrent layers a few sequences
    at a time, as padding read by itself would go into their states.
    """
    device = model.device
    sequences = [
        np.concatenate([prompt, completion])
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    ids_BT, mask_BT, positions_BT = pad_left(sequences, pad_token_id, device)
    num_last = max(len(completion) for completion in completions)
    lengths_B = np.fromiter((len(completion) for completion in completions), dtype=np.int64)
    counts_BC = np.arange(num_last)[None] >= num_last - lengths_B[:, None]
    targets_BC = ids_BT[:, -num_last:]
    vocabulary = model.config.get_text_config().vocab_size
    step = max(1, _MAX_LOGITS // (len(sequences) * vocabulary))
    end = ids_BT.shape[1] - 1  # the last token is only predicted
    start = end - num_last
    cache = new_cache(model) if step < num_last else None
    if cache is not None and len(sequences) > 1 and not holds_positions_only(cache):
        half = len(sequences) // 2
        parts = [
            read_completions(
                model, prompts[part], completions[part], measure, pad_token_id=pad_token_id
            )
            for part in (slice(half), slice(half, None))
        ]
        return (
            np.concatenate([_to_width(values_BC, num_last) for values_BC, _ in parts]),
            np.concatenate([_to_width(counts_BC, num_last) for _, counts_BC in parts]),
        )
    values: list[torch.Tensor] = []
    read = 0
    for first in range(start, end, step):
        behind = min(first + step, end)
        logits_BCV = model(
            input_ids=ids_BT[:, read:behind],
            attention_mask=mask_BT[:, :behind],
            position_ids=positions_BT[:, read:behind],
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=behind - first,
        ).logits
        following_BC = targets_BC[:, first - start : behind - start]
        values.append(
            measure(logits_BCV.flatten(0, 1), following_BC.flatten()).view_as(following_BC)
        )
        read = behind
    return torch.cat(values, dim=1).double().cpu().numpy(), counts_BC


def _to_width(array_BC: NDArray[Any], width: int) -> NDArray[Any]:
    return np.pad(array_BC, ((0, 0), (width - array_BC.shape[1], 0)))


def negative_log_likelihood(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """-ln p(target), in nats."""
    return torch.nn.functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
