"""The ledger's version: made on first use, checked at every opening, upgraded on request."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import Connection, text

from edco_core.errors import InputError, LedgerError, LedgerVersionError
from storage.connecting import first_value
from storage.engine import Database
from storage.tables import metadata
from storage.views import VIEWS, view_sql

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
"""All revisions, oldest first; kept here so that opening a ledger need not load Alembic."""

HEAD_REVISION = REVISIONS[-1]

EARLIER_TABLES = ("partial_scores", "checkpoints")
"""Tables of earlier revisions only; migrations make them on the way to the newest."""

UNFINISHED = "copying"
"""Stands for the revision in a ledger that is not there as a whole."""


def current_revision(connection: Connection) -> str | None:
    """The revision of this database; None when there is no ledger in it."""
    ask = "SELECT version_num FROM alembic_version"
    revision: str | None
    if connection.dialect.name == "duckdb":
        revision = first_value(connection, ask)
        return revision
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    revision = connection.execute(text(ask)).scalar()
    return revision


def check_revision(database: Database, revision: str | None) -> None:
    """Raise LedgerVersionError unless this software and the ledger fit each other."""
    if revision == HEAD_REVISION:
        return
    if revision is None:
        raise InputError(
            f"there is no ledger at {database.address}; `edco run CONFIG` makes one, "
            "or name another with --store URL"
        )
    if revision in REVISIONS:
        raise LedgerVersionError(
            f"the ledger {database.address} has revision {revision}, this version of EDCO needs "
            f"{HEAD_REVISION}. Type: edco db upgrade --store {database.address}"
        )
    if revision == UNFINISHED:
        raise LedgerVersionError(
            f"{database.address} holds a ledger that was not copied to its end; copy it again with "
            f"`edco db copy SOURCE {database.address}`, or name another with --store URL"
        )
    raise LedgerVersionError(
        f"the ledger {database.address} has revision {revision}, made by a newer version of EDCO; "
        f"this one knows {', '.join(REVISIONS)}. Upgrade EDCO, or name another with --store URL"
    )


def ensure_schema(database: Database) -> None:
    """Make the ledger where there is none; refuse one of another version.

    A database opened read-only is only checked.  Several processes may do this at once.
    """
    if database.exists():
        with database.reading() as connection:
            revision = current_revision(connection)
        if revision is not None or database.read_only:
            check_revision(database, revision)
            return
    elif database.read_only:
        check_revision(database, None)
    _migrate(database, only_if_new=True)


def db_current(url: str) -> str | None:
    """The ledger's revision, None for a database without one.

    Raises InputError where there is no DuckDB file.
    """
    with Database(url, read_only=True).reading() as connection:
        return current_revision(connection)


def db_upgrade(url: str) -> tuple[str | None, str]:
    """Bring a ledger to this software's revision, making it if need be; (before, after).

    Raises LedgerVersionError for a ledger of a newer version.
    """
    return _migrate(Database(url), only_if_new=False), HEAD_REVISION


def db_check(url: str) -> list[str]:
    """What is wrong with the ledger, one sentence each: version, tables, columns, views, counts."""
    database = Database(url, read_only=True)
    with database.reading() as connection:
        revision = current_revision(connection)
        try:
            check_revision(database, revision)
        except LedgerVersionError as error:
            return [str(error)]
        present = _tables(connection)
        problems = [
            f"{name} is missing" for name in (*metadata.tables, *VIEWS) if name not in present
        ]
        for table in metadata.tables.values():
            columns = _columns(connection, table.name)
            problems += [
                f"column {table.name}.{column.name} is missing"
                for column in table.columns
                if table.name in present and column.name not in columns
            ]
        if not problems:
            problems = _wrong_counts(connection)
    return problems


def refuse_foreign(database: Database, connection: Connection) -> None:
    """Raise InputError where there is no ledger but tables of the names it needs."""
    foreign = _tables(connection) & {*metadata.tables, *VIEWS, *EARLIER_TABLES}
    if foreign:
        raise InputError(
            f"{database.address} holds tables of other software that EDCO would need: "
            f"{', '.join(sorted(foreign))}. Name another database with --store URL"
        )


def create_views(connection: Connection) -> None:
    on_duckdb = connection.dialect.name == "duckdb"
    for name, select in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {view_sql(select, on_duckdb=on_duckdb)}")


_DEPENDENTS = """
WITH RECURSIVE dependents AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relname = ANY(:views)
    UNION
    SELECT w.ev_class FROM dependents d
    JOIN pg_depend p ON p.refclassid = 'pg_class'::regclass AND p.refobjid = d.oid
    JOIN pg_rewrite w ON p.classid = 'pg_rewrite'::regclass AND w.oid = p.objid
)
SELECT DISTINCT CAST(CAST(c.oid AS regclass) AS text) AS name
FROM dependents d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (n.nspname = current_schema() AND c.relname = ANY(:views))
ORDER BY name
"""


def drop_views(connection: Connection) -> None:
    """Drop every view of this or an earlier revision.

    Raises LedgerError where a person's own views on a Postgres server are made of them.
    """
    if connection.dialect.name == "postgresql":
        own = connection.execute(text(_DEPENDENTS), {"views": list(VIEWS)}).scalars().all()
        if own:
            raise LedgerError(
                f"views of your own are made of the ledger's: {', '.join(own)}. An upgrade makes "
                "those anew, and nothing was changed. Keep the definitions of yours "
                "(pg_get_viewdef), drop them, type 'edco db upgrade', and make them again."
            )
    names = connection.execute(
        text(
            "SELECT table_name FROM information_schema.views "
            "WHERE table_schema = current_schema() ORDER BY table_name"
        )
    ).scalars()
    for name in list(names):
        if name in VIEWS:
            connection.exec_driver_sql(f"DROP VIEW {name}")


def apply_migrations(connection: Connection) -> None:
    """Run all migrations that the ledger lacks, within the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", _migrations_folder().replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _migrate(database: Database, *, only_if_new: bool) -> str | None:
    """Run the migrations in one transaction; the revision there was before."""
    with database.writing() as connection:
        database.lock(connection, "migration")
        before = current_revision(connection)
        if before == HEAD_REVISION:
            return before
        if only_if_new or before not in (None, *REVISIONS):
            if before is not None:
                check_revision(database, before)
            refuse_foreign(database, connection)
        apply_migrations(connection)
    return before


def _migrations_folder() -> str:
    spec = find_spec("migrations")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent)


def _tables(connection: Connection) -> set[str]:
    return set(
        connection.execute(
            text(
                "SELECT table_name FROM information_schema.tables "
                "WHERE table_schema = current_schema()"
            )
        ).scalars()
    )


def _columns(connection: Connection, table: str) -> set[str]:
    return set(
        connection.execute(
            text(
                "SELECT column_name FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND table_name = :table"
            ),
            {"table": table},
        ).scalars()
    )


def _wrong_counts(connection: Connection) -> list[str]:
    """Stages whose rows are not as many as their statistics say."""
    problems = []
    for table, counted in (("scores", "n_scored"), ("selections", "n_selected")):
        rows = connection.execute(
            text(
                f"SELECT r.run_id, i.interval, i.{counted}, count(t.ordinal) "
                "FROM runs r JOIN interval_stats i ON i.run_key = r.run_key "
                f"LEFT JOIN {table} t ON t.run_key = i.run_key AND t.interval = i.interval "
                f"GROUP BY r.run_id, i.interval, i.{counted} "
                f"HAVING coalesce(i.{counted}, 0) <> count(t.ordinal) "
                "ORDER BY r.run_id, i.interval"
            )
        )
        problems += [
            f"run {run_id}, interval {interval}: {found} rows in {table}, {expected or 0} expected"
            for run_id, interval, expected, found in rows
        ]
    return problems
