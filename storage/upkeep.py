"""Upkeep: removing runs, and giving back the space that nothing uses any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, text

from edco_core.errors import RunBusyError
from storage.duckdb_file import OnProgress
from storage.engine import Database
from storage.part import LedgerPart, run_row
from storage.schema import check_revision, current_revision
from storage.tables import PARTITIONED_BY_RUN, datasets, metadata, runs

TABLES = (*metadata.tables, "alembic_version")
OF_RUN = tuple(table for table in metadata.tables.values() if "run_key" in table.c)
"""Tables with rows of runs."""
OF_DATASET = tuple(
    table for table in metadata.tables.values() if "dataset_key" in table.c and table not in OF_RUN
)
"""Tables with rows of data sets."""

IsDead = Callable[[str], bool]
"""Whether the owner of a lease is known to be gone."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What removing a run takes out of the ledger."""

    run_id: str
    status: str
    run_dir: str
    num_intervals: int
    rows: Mapping[str, int]
    """Rows by table, those of the data sets included; only tables with any."""
    dataset_ids: tuple[str, ...]
    """Data sets, for training or evaluation, that only this run uses."""
    kept_dataset_ids: tuple[str, ...]
    """Those that other runs use as well."""

    @property
    def num_rows(self) -> int:
        return sum(self.rows.values())


class Upkeep(LedgerPart):
    """Verbs that take runs out of the ledger."""

    def removal(self, run_id: str, is_dead: IsDead | None = None) -> Removal:
        """What ``remove_run`` would remove. Raises RunBusyError and NotFoundError as it does."""
        with self._database.reading() as connection:
            run_key = run_row(connection, run_id).run_key
            refuse_owned(self._database, connection, is_dead, run_key)
            return _removal(self._database, connection, run_key)

    def remove_run(self, run_id: str, is_dead: IsDead | None = None) -> Removal:
        """Remove a run and the data sets that no other run uses, in one transaction.

        Its files stay. On Postgres the run's partitions are dropped, which frees their space at
        once; ``db_vacuum`` frees the rest. Raises RunBusyError, naming the owner, while somebody
        holds the run's lease of whom ``is_dead`` does not say that he is gone; NotFoundError; and
        LedgerBusyError while others use the tables.
        """

        def remove(connection: Connection) -> Removal:
            # As who enters runs and data sets does; the run's row keeps its owner out.
            self._database.lock(connection, "runs")
            self._database.lock(connection, "datasets")
            run_key = run_row(connection, run_id).run_key
            connection.execute(
                text("UPDATE runs SET lease_token = lease_token WHERE run_key = :key"),
                {"key": run_key},
            )
            refuse_owned(self._database, connection, is_dead, run_key)
            removal = _removal(self._database, connection, run_key)
            keys = _keys(connection, removal.dataset_ids)
            for table in OF_DATASET:
                connection.execute(delete(table).where(table.c.dataset_key.in_(keys)))
            self._database.remove_partitions(connection, run_key)
            for table in OF_RUN:
                if table not in PARTITIONED_BY_RUN:
                    connection.execute(delete(table).where(table.c.run_key == run_key))
            return removal

        return self._database.patiently(remove)


def db_vacuum(
    url: str,
    *,
    on_progress: OnProgress = lambda done, total: None,
    on_wait: Callable[[str], None] | None = None,
) -> tuple[int, int]:
    """Give back the space that nothing uses any more; bytes on disk before and after.

    A DuckDB file is rewritten while nobody else can get at it; it stays whole at every moment.
    On Postgres the ledger's tables are vacuumed and analysed, which stops nobody.
    Raises InputError where there is no ledger, LedgerBusyError while others hold the file.
    """
    database = Database(url, alone=True, on_wait=on_wait)
    if not database.exists():
        check_revision(database, None)
    with database.reading() as connection:
        check_revision(database, current_revision(connection))
    before = database.num_bytes(TABLES)
    database.compact(TABLES, on_progress)
    return before, database.num_bytes(TABLES)


def refuse_owned(
    database: Database, connection: Connection, is_dead: IsDead | None, run_key: int | None = None
) -> None:
    """Raise RunBusyError for a run (or any) with a lease that lasts, unless its owner is dead."""
    owned = select(runs.c.run_id, runs.c.lease_owner, runs.c.lease_expires_at).where(
        runs.c.lease_owner.is_not(None), runs.c.lease_expires_at > database.utc_now(connection)
    )
    if run_key is not None:
        owned = owned.where(runs.c.run_key == run_key)
    for run in connection.execute(owned.order_by(runs.c.run_key)).all():
        if is_dead is None or not is_dead(run.lease_owner):
            raise RunBusyError(
                f"run {run.run_id} is being worked on by {run.lease_owner}, whose lease lasts "
                f"until {run.lease_expires_at} UTC; nothing was changed. Wait for it, or end that "
                "process"
            )


def _removal(database: Database, connection: Connection, run_key: int) -> Removal:
    run = connection.execute(
        select(runs, datasets.c.dataset_id)
        .join(datasets, datasets.c.dataset_key == runs.c.dataset_key)
        .where(runs.c.run_key == run_key)
    ).one()
    others = connection.execute(
        select(datasets.c.dataset_id, runs.c.eval_dataset_id)
        .join(datasets, datasets.c.dataset_key == runs.c.dataset_key)
        .where(runs.c.run_key != run_key)
    ).all()
    used = {dataset_id for row in others for dataset_id in row}
    own = {run.dataset_id, run.eval_dataset_id} - {None}
    going = sorted(own - used)

    keys = _keys(connection, going)
    counts = {
        table.name: select(func.count())
        .select_from(text(database.part(table, run_key)))
        .where(text("run_key = :key").bindparams(key=run_key))
        for table in PARTITIONED_BY_RUN
    }
    for table in OF_RUN:
        if table.name not in counts:
            counts[table.name] = select(func.count()).where(table.c.run_key == run_key)
    for table in OF_DATASET:
        counts[table.name] = select(func.count()).where(table.c.dataset_key.in_(keys))
    rows = {name: connection.execute(count).scalar_one() for name, count in counts.items()}
    return Removal(
        run_id=run.run_id,
        status=run.status,
        run_dir=run.run_dir,
        num_intervals=rows["interval_stats"],
        rows={name: count for name, count in rows.items() if count},
        dataset_ids=tuple(going),
        kept_dataset_ids=tuple(sorted(own & used)),
    )


def _keys(connection: Connection, dataset_ids: Sequence[str]) -> list[int]:
    found = select(datasets.c.dataset_key).where(datasets.c.dataset_id.in_(dataset_ids))
    return list(connection.execute(found).scalars())
