"""Batched greedy decoding that can hand out the entropy of every token it generates.

Shapes: B = sequences, T = prompt positions, L = generated positions, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from edco_core.scoring.token_entropy import entropy_from_logits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Decoded:
    """Generated tokens, end-of-sequence included, and the entropy of each in nats."""

    token_ids: list[list[int]]
    entropies: list[list[float]] | None
    """One list per sequence, as long as its tokens; None when they were not asked for."""


@torch.no_grad()
def decode_greedily(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int] | NDArray[np.int32]],
    *,
    max_new_tokens: int,
    pad_token_id: int,
    eos_token_ids: Collection[int],
    with_entropies: bool,
) -> Decoded:
    """Continue every prompt greedily until it ends or ``max_new_tokens`` are there.

    Prompts are read once; only the last position is projected to the vocabulary.  When half of
    the sequences have ended they are dropped from the batch.
    """
    device = model.device
    width = max(len(prompt) for prompt in prompts)
    input_ids_BT = torch.full((len(prompts), width), pad_token_id, dtype=torch.long)
    mask_BT = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):  # padded on the left, so that all end at one position
        input_ids_BT[row, width - len(prompt) :] = torch.as_tensor(prompt, dtype=torch.long)
        mask_BT[row, width - len(prompt) :] = 1
    input_ids_BT, mask_BT = input_ids_BT.to(device), mask_BT.to(device)
    position_ids_BT = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
    eos_E = torch.tensor(sorted(eos_token_ids), dtype=torch.long, device=device)

    rows = torch.arange(len(prompts), device=device)  # which prompt each row of the batch is
    alive_B = torch.ones(len(prompts), dtype=torch.bool, device=device)
    cache = DynamicCache(config=model.config)
    tokens: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []
    for generated in range(max_new_tokens):
        logits_BV = model(
            input_ids=input_ids_BT,
            attention_mask=mask_BT,
            position_ids=position_ids_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        next_B = logits_BV.argmax(dim=-1)
        entropy_B = entropy_from_logits(logits_BV)[alive_B] if with_entropies else None
        tokens.append((rows[alive_B], next_B[alive_B], entropy_B))
        alive_B = alive_B & ~torch.isin(next_B, eos_E)
        num_alive = int(alive_B.sum())
        if num_alive == 0 or generated + 1 == max_new_tokens:
            break
        position_ids_BT = position_ids_BT[:, -1:] + 1
        if num_alive <= len(rows) // 2 and _can_shrink(cache):
            keep = alive_B.nonzero().flatten()
            cache.batch_select_indices(keep)
            rows, next_B, mask_BT, position_ids_BT, alive_B = (
                x[keep] for x in (rows, next_B, mask_BT, position_ids_BT, alive_B)
            )
        input_ids_BT = next_B[:, None]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)
    return _by_prompt(tokens, len(prompts), with_entropies)


def _can_shrink(cache: DynamicCache) -> bool:
    """Layers with a recurrent state cannot drop rows; their batches go on whole."""
    return all(hasattr(layer, "batch_select_indices") for layer in cache.layers)


def _by_prompt(
    tokens: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]],
    num_prompts: int,
    with_entropies: bool,
) -> Decoded:
    """One transfer from the device at the end, instead of one per step."""
    token_ids: list[list[int]] = [[] for _ in range(num_prompts)]
    entropies: list[list[float]] = [[] for _ in range(num_prompts)]
    for step_rows, step_tokens, step_entropies in tokens:
        values = step_entropies.tolist() if step_entropies is not None else ()
        for row, token in zip(step_rows.tolist(), step_tokens.tolist(), strict=True):
            token_ids[row].append(token)
        for row, value in zip(step_rows.tolist(), values, strict=False):
            entropies[row].append(value)
    return Decoded(token_ids, entropies if with_entropies else None)


def plan_batches(
    lengths: Sequence[int], *, max_new_tokens: int, max_batch_tokens: int
) -> list[list[int]]:
    """Indices in batches of similar length, longest first, each within the token budget.

    A batch costs (its longest prompt + ``max_new_tokens``) x its rows; a prompt longer than the
    whole budget is a batch of its own.  The plan depends on the lengths alone, so a pool that was
    half scored is completed in the very batches it would have had: scores stay identical.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for index in order:
        if batches:
            width = lengths[batches[-1][0]] + max_new_tokens
            if (len(batches[-1]) + 1) * width <= max_batch_tokens:
                batches[-1].append(index)
                continue
        batches.append([index])
    return batches
