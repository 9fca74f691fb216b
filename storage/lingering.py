"""A DuckDB file that stays open for a moment after a write, for the next one.

Opening a file and closing it again cost tens of milliseconds, several times what a small
transaction does, and a run makes many in a row.  Others wait for the file meanwhile, so the moment
is short, and a row of writes without an end is interrupted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

LINGER_S = 0.04
"""Time after a write in which the next one finds the file open."""

LONGEST_S = 0.4
"""Time after which the file is closed, however fast writes follow each other."""


class Lingering:
    """Holds a second connection to the file, which is what keeps it open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Any = None
        self._opened_at = 0.0
        self._timer: threading.Timer | None = None

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
        self._connection = self._timer = None
