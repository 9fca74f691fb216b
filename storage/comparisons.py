"""Comparisons of strategies: their newest table, and what their plans were measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import delete, insert, select

from edco_core.records import ComparisonRow
from storage.part import LedgerPart, retried
from storage.tables import calibrations, comparison_rows


class Comparisons(LedgerPart):
    """Verbs about comparisons, by the name of their experiment."""

    @retried
    def keep_comparison(self, experiment: str, rows: Sequence[ComparisonRow]) -> None:
        """Keep the table of a comparison in place of the one before."""
        with self._database.writing() as connection:
            self._database.lock(connection, "comparisons")
            connection.execute(
                delete(comparison_rows).where(comparison_rows.c.experiment == experiment)
            )
            now = self._database.utc_now(connection)
            common = {"experiment": experiment, "made_at": now}
            connection.execute(insert(comparison_rows), [asdict(row) | common for row in rows])

    @retried
    def calibration(self, experiment: str, measured: str, settings_sha256: str) -> float | None:
        """The seconds that were measured for these settings, if they were."""
        wanted = (experiment, measured, settings_sha256)
        keys = (calibrations.c.experiment, calibrations.c.measured, calibrations.c.settings_sha256)
        with self._database.reading() as connection:
            statement = select(calibrations.c.seconds)
            for column, value in zip(keys, wanted, strict=True):
                statement = statement.where(column == value)
            seconds: float | None = connection.execute(statement).scalar()
        return seconds

    @retried
    def keep_calibration(
        self, experiment: str, measured: str, settings_sha256: str, seconds: float
    ) -> float:
        """Keep a measurement, unless there is one: what counts from now on."""
        known = self.calibration(experiment, measured, settings_sha256)
        if known is not None:
            return known
        with self._database.writing() as connection:
            connection.execute(
                insert(calibrations),
                {
                    "experiment": experiment,
                    "measured": measured,
                    "settings_sha256": settings_sha256,
                    "seconds": seconds,
                    "made_at": self._database.utc_now(connection),
                },
            )
        return seconds
