"""Alarms of a run's guard: written with the training they are about, read by the next selection."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from edco_core.errors import LedgerError
from edco_core.records import Alarm, Lease
from storage.part import LedgerPart, retried, run_row
from storage.tables import guard_alarms


class Alarms(LedgerPart):
    """Verbs about alarms; ``finish_training`` writes them."""

    @retried
    def alarms(self, run_id: str) -> tuple[Alarm, ...]:
        """All alarms of a run, by interval and name. Raises NotFoundError for an unknown run."""
        columns = [column for column in guard_alarms.c if column.name != "run_key"]
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            rows = connection.execute(
                select(*columns)
                .where(guard_alarms.c.run_key == key)
                .order_by(guard_alarms.c.interval, guard_alarms.c.alarm)
            )
            return tuple(Alarm(**row._mapping) for row in rows)


def insert_alarms(
    connection: Connection, lease: Lease, interval: int, alarms: Sequence[Alarm]
) -> None:
    """Keep what was found wrong after an interval."""
    for alarm in alarms:
        if alarm.interval != interval:
            raise LedgerError(
                f"run {lease.run_id}: an alarm of interval {alarm.interval} came with the training "
                f"of interval {interval}"
            )
    if alarms:
        connection.execute(
            insert(guard_alarms),
            [
                {"run_key": lease.run_key}
                | {name: getattr(alarm, name) for name in Alarm.__dataclass_fields__}
                for alarm in alarms
            ],
        )
