"""A DuckDB file stays open between quick writes, and for no longer."""

from __future__ import annotations

import threading
from typing import Any

from storage.lingering import Lingering


class Connections:
    """Counts the connections that are open."""

    def __init__(self) -> None:
        self.made = 0
        self.all_closed = threading.Event()

    def __call__(self) -> Connections:
        self.made += 1
        self.all_closed.clear()
        return self

    def close(self) -> None:
        self.all_closed.set()


def test_writes_in_a_row_share_one_opening_and_the_file_is_closed_after_the_last() -> None:
    connections = Connections()
    lingering = Lingering()
    for _ in range(5):
        lingering.after(connections)
    assert connections.made == 1
    assert connections.all_closed.wait(timeout=10)


def test_writes_without_an_end_let_others_in(monkeypatch: Any) -> None:
    connections = Connections()
    lingering = Lingering()
    now = iter([0.0, 0.0, 0.3, 0.5, 0.6, 0.6])
    monkeypatch.setattr("storage.lingering.time.monotonic", lambda: next(now))
    for _ in range(3):
        lingering.after(connections)
    assert connections.all_closed.is_set()
    lingering.after(connections)
    assert connections.made == 2
    lingering.end()
