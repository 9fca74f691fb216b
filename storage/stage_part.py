"""What all stages share: they begin with the interval listed, and end with their own row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, text

from edco_core.errors import LedgerError
from edco_core.records import Lease, Stage
from storage import tables
from storage.checks import refuse_finished
from storage.part import LedgerPart, dump

Facts = Mapping[str, Any]


class StagePart(LedgerPart):
    """Base of the groups of verbs that write what a stage leaves behind."""

    def _begin(self, connection: Connection, lease: Lease, interval: int, stage: Stage) -> None:
        if interval < 0:
            raise LedgerError(f"run {lease.run_id}: there is no interval {interval}")
        refuse_finished(connection, lease, interval, stage)
        keys = {"run_key": lease.run_key, "interval": interval}
        listed = connection.execute(
            text("SELECT 1 FROM interval_stats WHERE run_key = :run_key AND interval = :interval"),
            keys,
        ).first()
        if listed is None:
            connection.execute(insert(tables.interval_stats), keys)

    def _finish(
        self,
        connection: Connection,
        lease: Lease,
        interval: int,
        stage: Stage,
        seconds: float,
        facts: Facts | None,
    ) -> None:
        connection.execute(
            insert(tables.stages),
            {
                "run_key": lease.run_key,
                "interval": interval,
                "stage": stage,
                "finished_at": self._database.utc_now(connection),
                "seconds": float(seconds),
                "facts": dump(dict(facts or {})),
            },
        )


def bulk_keys(lease: Lease, interval: int) -> dict[str, int | str]:
    """The columns that all rows of a stage have in common."""
    return {"run_key": lease.run_key, "run_id": lease.run_id, "interval": interval}
