"""A DuckDB file: opened and closed by one process at a time, and rewritten when it is too large.

DuckDB reuses freed space but never makes a file smaller.  The new file is made beside the old one
while nobody else can get at that, is compared with it, and takes its name in one step: at every
moment there is one whole ledger under that name.  Processes that wait for the file open it by its
name, and so get the new one (``Database`` makes sure of that).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edco_core.errors import LedgerError

_FRESH = "edco_rewritten"
_LOOK_EVERY_S = 0.2

OnProgress = Callable[[int, int], None]


@contextmanager
def undisturbed(path: Path) -> Iterator[None]:
    """Open, close or replace a DuckDB file while no other process does so to one in its folder.

    DuckDB 2.0 reads a file's header before it locks the file. Where another process closes it in
    between, and so writes a new header, the old one leads to blocks of before: what the other wrote
    last is lost, or the file damaged. Each takes the folder's lock for that long; there is no file
    for it that could be left behind. Where a file system has no such locks it is left to luck.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def rewrite(driver: Any, path: Path, on_progress: OnProgress) -> None:
    """Put a compact copy of a database in its place; ``on_progress`` takes percent and 100.

    ``driver`` is the only connection to it, in no transaction, and must be closed next.
    Raises LedgerError, and changes nothing, when the copy is not what it should be.
    """
    path = path.resolve()  # a link stays a link
    fresh = path.with_name(f".{path.name}.vacuum")
    log = path.with_name(f"{path.name}.wal")
    _remove(fresh)  # of a process that was killed: this one alone has the ledger now
    (name,) = driver.execute("SELECT current_database()").fetchone()
    old = f'"{name}"'
    place = str(fresh).replace("'", "''")
    try:
        # What is still in the log belongs to the old file, and would be taken for the new one's.
        driver.execute(f"CHECKPOINT {old}")
        if log.exists():
            raise LedgerError(f"{log} is still in use; nothing was changed")
        driver.execute(f"ATTACH '{place}' AS {_FRESH}")
        with _watched(driver, on_progress):
            driver.execute(f"COPY FROM DATABASE {old} TO {_FRESH}")
        driver.execute(f"CHECKPOINT {_FRESH}")  # to the disk
        driver.execute(f"DETACH {_FRESH}")
        driver.execute(f"ATTACH '{place}' AS {_FRESH} (READ_ONLY)")
        before, after = _contents(driver, name), _contents(driver, _FRESH)
        driver.execute(f"DETACH {_FRESH}")
        if before != after:
            differ = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
            raise LedgerError(
                f"the rewritten ledger differs from the old one in {', '.join(differ)}; "
                "nothing was changed"
            )
        _same_rights(path, fresh)
        with undisturbed(path):
            os.replace(fresh, path)
        _sync_folder(path.parent)
    finally:
        _remove(fresh)


@contextmanager
def _watched(driver: Any, on_progress: OnProgress) -> Iterator[None]:
    driver.execute("SET enable_progress_bar = true")  # else DuckDB does not count
    driver.execute("SET enable_progress_bar_print = false")
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_EVERY_S):
            on_progress(max(0, int(driver.query_progress())), 100)

    thread = threading.Thread(target=look, name="edco-vacuum", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _contents(driver: Any, database: str) -> dict[str, tuple[Any, ...]]:
    """Every table with its definition, number of rows and the sum of their hashes; every view."""
    found: dict[str, tuple[Any, ...]] = {}
    tables = driver.execute(
        "SELECT table_name, sql FROM duckdb_tables() WHERE database_name = ?", [database]
    ).fetchall()
    for table, definition in tables:
        sums = driver.execute(
            f'SELECT count(*), sum(CAST(hash(t) AS HUGEINT)) FROM "{database}".main."{table}" t'
        ).fetchone()
        found[table] = (definition, *sums)
    views = driver.execute(
        "SELECT view_name, sql FROM duckdb_views() WHERE database_name = ? AND NOT internal",
        [database],
    ).fetchall()
    return found | {view: (definition,) for view, definition in views}


def _same_rights(old: Path, new: Path) -> None:
    shutil.copymode(old, new)
    owner = old.stat()
    if (owner.st_uid, owner.st_gid) != (new.stat().st_uid, new.stat().st_gid):
        os.chown(new, owner.st_uid, owner.st_gid)


def _sync_folder(folder: Path) -> None:
    """Make a change of names last through a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(database: Path) -> None:
    for path in (database, database.with_name(f"{database.name}.wal")):
        path.unlink(missing_ok=True)
