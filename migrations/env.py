"""How Alembic runs the migrations: on the connection it is handed, or on ``sqlalchemy.url``.

EDCO itself calls this through ``storage.schema`` (``edco db upgrade``), which hands over a
connection inside a transaction, so tables, revision and views appear together or not at all.
"""

from __future__ import annotations

from alembic import context
from alembic.ddl.impl import DefaultImpl
from sqlalchemy import Connection

from storage.engine import Database
from storage.schema import create_views, drop_views


class DuckDBImpl(DefaultImpl):
    """All Alembic needs to know of DuckDB, whose DDL is transactional."""

    __dialect__ = "duckdb"
    transactional_ddl = True


def migrate(connection: Connection) -> None:
    context.configure(connection=connection)
    with context.begin_transaction():
        drop_views(connection)
        context.run_migrations()
        create_views(connection)


handed_over = context.config.attributes.get("connection")
if context.is_offline_mode():
    raise SystemExit("these migrations run on a database; there is no --sql mode")
if handed_over is not None:
    migrate(handed_over)
else:
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise SystemExit("set sqlalchemy.url, or use: edco db upgrade --store URL")
    with Database(url).writing() as own_connection:
        migrate(own_connection)
