"""What is refused before anything is written, with the samples that caused it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, text

from edco_core.errors import LedgerError
from edco_core.records import Lease, Stage
from storage.part import AlreadyKeptError

if TYPE_CHECKING:
    from edco_core.records import Ints


def refuse_finished(connection: Connection, lease: Lease, interval: int, stage: Stage) -> None:
    done = connection.execute(
        text(
            "SELECT 1 FROM stages WHERE run_key = :key AND interval = :interval AND stage = :stage"
        ),
        {"key": lease.run_key, "interval": interval, "stage": stage},
    ).first()
    if done:
        raise AlreadyKeptError(
            f"run {lease.run_id}, interval {interval}: the {stage} stage is finished already, "
            "and what is finished is never written again"
        )


def refuse_not_finite(where: str, what: str, ordinals: Ints, values: Any) -> None:
    bad = np.asarray(ordinals)[~np.isfinite(values)]
    if len(bad):
        listed = ", ".join(str(ordinal) for ordinal in bad[:5])
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise LedgerError(
            f"{where}: {len(bad)} of {len(values)} {what} are NaN or infinite "
            f"(sample ordinals {listed}{more}); nothing of them was kept. What made them is "
            "broken: look at these samples, at model.dtype and at the weights"
        )


def refuse_ordinals(where: str, ordinals: Any, pool_size: int, *, distinct: bool = True) -> None:
    if len(ordinals) == 0:
        return
    low, high = int(np.min(ordinals)), int(np.max(ordinals))
    if low < 0 or high >= pool_size:
        raise LedgerError(
            f"{where}: ordinals from {low} to {high} came, the pool has 0 to {pool_size - 1}"
        )
    if distinct:
        ascending = np.sort(ordinals)
        if (ascending[1:] == ascending[:-1]).any():
            raise LedgerError(f"{where}: the same sample came twice")
