"""What all prompts of a pool begin with, read by the model once instead of once per sample.

Such a beginning is the system turn of a chat template and the request for a quick answer.
Shapes: B = prompts, P = shared positions, H = heads, D = size of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.prompts import TokenIds

_MIN_TOKENS = 8
"""Shorter beginnings are not worth copying."""


class SharedPrefix:
    """Keys and values of the shared positions, one pair (1, H, P, D) per layer."""

    def __init__(self, layers: list[tuple[torch.Tensor, torch.Tensor]], num_tokens: int) -> None:
        self._layers = layers
        self._num_tokens = num_tokens

    def __len__(self) -> int:
        return self._num_tokens

    def fill(self, cache: DynamicCache, num_rows: int) -> None:
        """Put them into an empty cache, for ``num_rows`` prompts; nothing is copied yet."""
        for index, (keys, values) in enumerate(self._layers):
            cache.update(
                keys.expand(num_rows, -1, -1, -1), values.expand(num_rows, -1, -1, -1), index
            )


class PrefixCache:
    """The shared beginning of a pool's prompts under the weights the host holds now."""

    def __init__(self, prompts: Sequence[TokenIds], host: ModelHost) -> None:
        self._token_ids = common_beginning(prompts)
        self.host = host
        self._version: int | None = None
        self._shared: SharedPrefix | None = None

    def get(self) -> SharedPrefix | None:
        """None where nothing worth it is shared, or the model keeps more than keys and values."""
        if len(self._token_ids) < _MIN_TOKENS:
            return None
        if self._version != self.host.weights_version:
            self._shared = self._read()
            self._version = self.host.weights_version
        return self._shared

    @torch.inference_mode()
    def _read(self) -> SharedPrefix | None:
        model = self.host.model_for_inference()
        cache = DynamicCache(config=model.config)
        ids = torch.as_tensor(self._token_ids, dtype=torch.long, device=model.device)[None]
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        # A window counts the padding between the beginning and the rest; a state cannot skip it.
        if not all(type(layer) is DynamicLayer for layer in cache.layers):
            return None
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        return SharedPrefix(layers, len(self._token_ids))


def common_beginning(prompts: Sequence[TokenIds]) -> TokenIds:
    """The longest run of tokens that all prompts begin with and none ends in."""
    first = np.asarray(prompts[0])
    num = min(len(prompt) for prompt in prompts) - 1  # each keeps a token to go on from
    for prompt in prompts:
        differs = np.flatnonzero(first[:num] != prompt[:num])
        if len(differs):
            num = int(differs[0])
        if num == 0:
            break
    return first[: max(0, num)]
