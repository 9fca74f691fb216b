"""What every scorer is given and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from edco_core.config_scoring import BaseScoringSection
from edco_core.records import Pool, ScoreShard
from edco_core.scoring.batches import MemoryLimit, plan_batches

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.records import Floats, Ints

SettingsT = TypeVar("SettingsT", bound=BaseScoringSection)


class Scorer(ABC, Generic[SettingsT]):
    """Samples in, numbers out, with the weights the host holds.  The harder, the higher.

    A scorer says what a sample costs (``_num_tokens``) and scores one batch (``_score_batch``).
    Batches, shards, order and memory are the same for all.  A score depends on the sample, the
    weights, and the settings; where something is drawn also on (seed, interval, ordinal).  It does
    not depend on the other samples of a batch, beyond the rounding of sums.
    """

    def __init__(
        self,
        settings: SettingsT,
        pool: Pool,
        host: ModelHost,
        *,
        seed: int,
        cache_dir: Path | None = None,
    ) -> None:
        """``pool`` holds the samples (``pool.table``), ``host`` model and tokenizer.

        ``cache_dir`` is the run's own folder, for what a judge said; None: nothing is kept.
        """
        self.settings = settings
        self.pool = pool
        self.host = host
        self._seed = seed
        self._cache_dir = cache_dir
        self._memory = MemoryLimit()

    @abstractmethod
    def _num_tokens(self) -> Ints:
        """Shape (P,): positions each sample of the pool takes in a batch, by ordinal."""

    @abstractmethod
    def _score_batch(self, ordinals: Sequence[int], interval: int) -> ScoreShard:
        """The scores of these samples, in this order."""

    @property
    def _max_batch_tokens(self) -> int:
        return self.settings.max_batch_tokens

    def _rest(self) -> None:
        """Everything wanted is scored: give back what the training to come could use."""

    def score(
        self,
        wanted: Ints,
        already_scored: Ints,
        on_progress: Callable[[int, int], None],
        *,
        interval: int,
    ) -> Iterator[ScoreShard]:
        """Score the samples of ``wanted`` that are not in ``already_scored``, shard by shard.

        Both hold ordinals.  Batches are planned over ``wanted`` alone, and a shard is whole
        batches: a set that was half scored is completed in the very batches it would have had, so
        scores stay identical.  ``on_progress`` gets (samples scored, samples wanted) after each
        batch.
        """
        wanted = np.unique(wanted)
        missing = np.setdiff1d(wanted, already_scored)
        is_missing = np.zeros(len(self.pool), dtype=bool)
        is_missing[missing] = True
        num_done = len(wanted) - len(missing)
        lengths = self._num_tokens()[wanted]
        parts: list[ScoreShard] = []
        for batch in plan_batches(lengths, max_batch_tokens=self._max_batch_tokens):
            ordinals = [int(ordinal) for ordinal in wanted[batch] if is_missing[ordinal]]
            if not ordinals:
                continue
            width = int(lengths[batch[0]])
            parts += self._memory.in_parts(
                ordinals, width, lambda some: self._score_batch(some, interval)
            )
            num_done += len(ordinals)
            on_progress(num_done, len(wanted))
            if sum(len(part.ordinals) for part in parts) >= self.settings.shard_size:
                yield _joined(parts)
                parts = []
        if parts:
            yield _joined(parts)
        self._rest()


def as_shard(
    ordinals: Sequence[int], scores: Floats, n_tokens: Ints, token_entropies: Floats | None = None
) -> ScoreShard:
    """One batch as a shard, in the types of the ledger."""
    return ScoreShard(
        ordinals=np.asarray(ordinals, dtype=np.int64),
        scores=np.asarray(scores, dtype=np.float64),
        n_tokens=np.asarray(n_tokens, dtype=np.int64),
        token_entropies=token_entropies,
    )


def _joined(parts: Sequence[ScoreShard]) -> ScoreShard:
    entropies = [part.token_entropies for part in parts if part.token_entropies is not None]
    return as_shard(
        np.concatenate([part.ordinals for part in parts]).tolist(),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.n_tokens for part in parts]),
        np.concatenate(entropies) if entropies else None,
    )
