"""A DuckDB file that stays open for a moment after a write, for the next one.

Opening a file and closing it again cost tens of milliseconds, several times what a small
transaction does, and a run makes many in a row.  Others wait for the file meanwhile, so the moment
is short, and a row of writes without an end is interrupted.  Whoever waits says so by a file beside
the ledger, and is let in whenever it is closed: by luck alone that takes a quarter of a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LINGER_S = 0.04
"""Time after a write in which the next one finds the file open."""

LONGEST_S = 0.4
"""Time after which the file is closed, however fast writes follow each other."""

GIVE_WAY_S = 0.3
"""The longest time for which it then stays closed, where somebody waits for it."""

LOOK_EVERY_S = 0.1
"""How often those who wait look at the least; it is less than GIVE_WAY_S."""

_STILL_WAITS_S = 1.0
"""Whoever has not said so for longer does not wait any more: perhaps it was killed."""


class Lingering:
    """Holds a second connection to the file, which is what keeps it open.

    ``path`` is the ledger's file; None where there is none, on a server.
    """

    def __init__(self, path: Path | None) -> None:
        self._sign = None if path is None else path.with_name(f"{path.name}.waiting")
        self._lock = threading.RLock()  # ``end`` is a finalizer, too, which may come at any time
        self._connection: Any = None
        self._opened_at = 0.0
        self._timer: threading.Timer | None = None
        self._gives_way_until = 0.0
        self._waits = False

    def after(self, connect: Callable[[], Any]) -> None:
        """Keep the file open for a moment; it is open now, so that connecting again is cheap."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._connection is None:
                self._connection, self._opened_at = connect(), time.monotonic()
            left_s = self._opened_at + LONGEST_S - time.monotonic()
            if left_s <= 0:
                self._close()
                return
            # No daemon: a process that ends while DuckDB closes a file is aborted.
            self._timer = threading.Timer(min(LINGER_S, left_s), self.end)
            self._timer.start()

    def end(self) -> None:
        """Close the file, unless somebody is using it."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._gives_way_until = time.monotonic() + GIVE_WAY_S
        self._connection = self._timer = None

    def give_way(self) -> None:
        """Before opening the file: let in who waits for it, after a row of writes of ours."""
        while time.monotonic() < self._gives_way_until and self._somebody_waits():
            time.sleep(0.005)
        self._gives_way_until = 0.0

    def _somebody_waits(self) -> bool:
        if self._sign is None:
            return False
        try:
            return time.time() - self._sign.stat().st_mtime < _STILL_WAITS_S
        except OSError:
            return False

    def wait(self) -> None:
        """Say that the file is waited for; again and again, until ``wait_no_more``."""
        if self._sign is not None:
            with suppress(OSError):  # who may not write there has only luck
                self._sign.touch()
                self._waits = True

    def wait_no_more(self) -> None:
        """Take it back; others who wait will say so again."""
        if self._waits and self._sign is not None:
            self._waits = False
            with suppress(OSError):
                self._sign.unlink()
