"""Which samples go through the model together, and what happens when they do not fit."""

from __future__ import annotations

import gc
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from edco_core.errors import ModelError

if TYPE_CHECKING:
    from edco_core.records import Ints

logger = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


def plan_batches(
    lengths: Sequence[int] | Ints, *, max_batch_tokens: int, max_new_tokens: int = 0
) -> list[Ints]:
    """Indices in batches of similar length, longest first, each within the token budget.

    A batch costs (its longest length + ``max_new_tokens``) x its rows; a sample longer than the
    whole budget is a batch of its own.  The plan depends on the lengths alone, so a pool that was
    half scored is completed in the very batches it would have had: scores stay identical.
    """
    widths = np.asarray(lengths, dtype=np.int64) + max_new_tokens
    order = np.argsort(-widths, kind="stable")
    batches: list[Ints] = []
    start = 0
    while start < len(order):
        num_rows = max(1, max_batch_tokens // max(1, int(widths[order[start]])))
        batches.append(order[start : start + num_rows])
        start += num_rows
    return batches


class MemoryLimit:
    """Halves what does not fit into memory, and from then on splits larger batches beforehand."""

    def __init__(self) -> None:
        self._max_tokens: int | None = None

    def in_parts(
        self, items: Sequence[int], width: int, do: Callable[[Sequence[int]], ResultT]
    ) -> list[ResultT]:
        """``do`` on the items, in as few parts as fit; each item takes ``width`` positions.

        Raises ModelError when a single item does not fit.
        """
        results: list[ResultT] = []
        parts = deque(self._split(items, width))
        while parts:
            part = parts.popleft()
            try:
                results.append(do(part))
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise ModelError(
                        f"out of memory with the {width} tokens of a single sample (of all answers "
                        "to it, where several are drawn). Use a smaller model, a 16-bit "
                        "model.dtype, fewer answers, or shorter samples."
                    ) from error
            # Behind the handler, whose traceback holds on to the tensors of the attempt.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._max_tokens = len(part) * width // 2
            logger.warning(
                "out of memory with a batch of %d sequences of %d tokens: going on with %d tokens "
                "a batch",
                len(part),
                width,
                self._max_tokens,
            )
            parts.extendleft(reversed(self._split(part, width)))
        return results

    def _split(self, items: Sequence[int], width: int) -> list[Sequence[int]]:
        if self._max_tokens is None or len(items) * width <= self._max_tokens:
            return [items]
        num_rows = max(1, self._max_tokens // max(1, width))
        return [items[i : i + num_rows] for i in range(0, len(items), num_rows)]


def is_out_of_memory(error: BaseException) -> bool:
    """On any device; torch has no type of its own for the CPU's."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
