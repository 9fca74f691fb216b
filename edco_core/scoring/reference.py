"""What scorers of the reference answer have in common: prompt and answer as training sees them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edco_core.config_scoring import BaseScoringSection
from edco_core.prompts import reference_token_ids
from edco_core.scoring.base import Scorer

if TYPE_CHECKING:
    from edco_core.prompts import TokenIds
    from edco_core.records import Ints

SettingsT = TypeVar("SettingsT", bound=BaseScoringSection)


class ReferenceScorer(Scorer[SettingsT]):
    """Reads the first ``_max_tokens`` tokens of every reference answer (None: all)."""

    @property
    def _max_tokens(self) -> int | None:
        return None

    @cached_property
    def _references(self) -> tuple[list[TokenIds], list[TokenIds]]:
        """Prompts and completions in ordinal order."""
        prompts, completions = reference_token_ids(self._pool, self._host.tokenizer)
        if self._max_tokens is not None:
            completions = [completion[: self._max_tokens] for completion in completions]
        return prompts, completions

    def _num_tokens(self) -> Ints:
        return np.fromiter(
            (len(p) + len(c) for p, c in zip(*self._references, strict=True)), dtype=np.int64
        )
