"""From a pool to what rewards see of it."""

from __future__ import annotations

from edco_core.prompts import prompt_texts, reference_texts
from edco_core.records import Pool
from edco_core.rewards.base import Answered


class Questions:
    """The texts of a pool, by ordinal, as rewards get them."""

    def __init__(self, pool: Pool) -> None:
        self._sample_ids: list[str] = pool.table.column("sample_id").to_pylist()
        self._prompts = prompt_texts(pool)
        self._references = reference_texts(pool)
        self._answers: list[str | None] = pool.table.column("answer").to_pylist()

    def __len__(self) -> int:
        return len(self._sample_ids)

    def answered(self, ordinal: int, text: str, *, truncated: bool) -> Answered:
        """An answer to one sample of the pool."""
        return Answered(
            sample_id=self._sample_ids[ordinal],
            prompt=self._prompts[ordinal],
            text=text,
            reference=self._references[ordinal],
            answer=self._answers[ordinal],
            truncated=truncated,
        )
