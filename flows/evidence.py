"""What the ledger knows, as a strategy sees it: the same for a run and for its replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from edco_core.curriculum.evidence import Evidence, Samples
from storage import Ledger

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints, RolloutGroups, Selection


class LedgerEvidence(Evidence):
    """Evidence for one interval of a run."""

    def __init__(
        self, ledger: Ledger, run_id: str, interval: int, num_intervals: int, scorer: str,
        samples: Samples,
    ) -> None:  # fmt: skip
        self._ledger = ledger
        self._run_id = run_id
        self.interval = interval
        self.num_intervals = num_intervals
        self.scorer = scorer
        self.samples = samples
        self.scores = self.scores_at(interval)
        self.state = {}
        if interval > 0:
            self.state = ledger.selection(run_id, interval - 1).state

    def after(self, made: Selection | None) -> None:
        """Let the strategy remember another selection at the interval before."""
        self.state = made.state if made is not None else {}

    def scores_at(self, interval: int) -> Floats:
        return self._ledger.scores(self._run_id, interval).scores

    def selected_at(self, interval: int) -> Ints:
        return self._ledger.selection(self._run_id, interval).ordinals

    def rollouts_at(self, interval: int) -> RolloutGroups | None:
        return self._ledger.rollouts(self._run_id, interval)


def kept_samples(ledger: Ledger, dataset_id: str) -> Samples:
    """The pool as the ledger has it, for a replay without the data."""

    def read(names: Sequence[str]) -> pa.Table:
        sql = f"SELECT {', '.join(names)} FROM samples WHERE dataset_id = :id ORDER BY ordinal"
        with ledger.query_batches(sql, {"id": dataset_id}) as (schema, batches):
            return pa.Table.from_batches(batches, schema)

    return Samples(read)
