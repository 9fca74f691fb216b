"""Models that have learned each position by itself, such as GPT-2 and OPT: they read no further."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from edco_core.errors import DataError

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.records import Ints, Pool

_TABLE = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings?)$")


def num_positions(model: Any) -> int | None:
    """How many tokens the model can read; None where positions are computed, and any number can."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding) and _TABLE.search(name):
            # Of OPT the table has two rows that are no positions.
            configured = getattr(model.config, "max_position_embeddings", None)
            return int(configured or module.num_embeddings)
    return None


def check_positions(
    host: ModelHost,
    pool: Pool,
    ordinals: Sequence[int],
    num_tokens: Sequence[int] | Ints,
    how: str = "score or generate fewer tokens",
) -> None:
    """Raise DataError for samples with more tokens than the model has positions.

    ``num_tokens``: of each sample with its answer, whose last token is not read; ``how`` to make
    them fewer, in words.
    """
    positions = num_positions(host.model)
    if positions is None:
        return
    too_long = [(n, i) for i, n in zip(ordinals, num_tokens, strict=True) if n - 1 > positions]
    if too_long:
        most, ordinal = max(too_long)
        (sample_id,) = pool.table.column("sample_id").take([ordinal]).to_pylist()
        raise DataError(
            f"{pool.source}: sample '{sample_id}' has {most} tokens with its answer, and "
            f"'{host.settings.name_or_path}' has learned {positions} positions. Shorten or remove "
            f"such samples, {how}, or use another model."
        )
