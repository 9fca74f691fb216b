"""What scorers of the reference answer have in common: prompt and answer as training sees them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edco_core.config_scoring import BaseScoringSection
from edco_core.positions import check_positions
from edco_core.prompts import reference_token_ids
from edco_core.scoring.base import Scorer
from edco_core.scoring.reading import read_completions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.prompts import TokenIds
    from edco_core.records import Floats, Ints
    from edco_core.scoring.reading import Measure

SettingsT = TypeVar("SettingsT", bound=BaseScoringSection)


class ReferenceScorer(Scorer[SettingsT]):
    """Reads the first ``_max_tokens`` tokens of every reference answer (None: all)."""

    @property
    def _max_tokens(self) -> int | None:
        return None

    @cached_property
    def _references(self) -> tuple[list[TokenIds], list[TokenIds]]:
        """Prompts and completions in ordinal order."""
        prompts, completions = reference_token_ids(self.pool, self.host.tokenizer)
        if self._max_tokens is not None:
            completions = [completion[: self._max_tokens] for completion in completions]
        return prompts, completions

    def _read(self, ordinals: Sequence[int], measure: Measure) -> tuple[Floats, NDArray[np.bool_]]:
        """See ``read_completions``."""
        prompts, completions = ([part[i] for i in ordinals] for part in self._references)
        num_tokens = [len(p) + len(c) for p, c in zip(prompts, completions, strict=True)]
        check_positions(self.host, self.pool, ordinals, num_tokens)
        return read_completions(
            self.host.model_for_inference(),
            prompts,
            completions,
            measure,
            pad_token_id=self.host.pad_token_id,
        )

    def _num_tokens(self) -> Ints:
        return np.fromiter(
            (len(p) + len(c) for p, c in zip(*self._references, strict=True)), dtype=np.int64
        )
