"""A DuckDB file stays open between quick writes, for no longer, and not for others to starve."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

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
    lingering = Lingering(None)
    for _ in range(5):
        lingering.after(connections)
    assert connections.made == 1
    assert connections.all_closed.wait(timeout=10)


class Clock:
    """Time that passes while somebody sleeps; ``moments`` has what happens at which sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.num_sleeps = 0
        monkeypatch.setattr("storage.lingering.time.monotonic", lambda: self.now)
        monkeypatch.setattr("storage.lingering.time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.num_sleeps += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_writes_without_an_end_let_others_in(clock: Clock) -> None:
    connections = Connections()
    lingering = Lingering(None)
    for clock.now in (0.0, 0.3, 0.5):
        lingering.after(connections)
    assert connections.all_closed.is_set()
    lingering.after(connections)
    assert connections.made == 2
    lingering.end()


def closed_after_writes(path: Path) -> Lingering:
    lingering = Lingering(path)
    lingering.after(Connections())
    lingering.end()
    return lingering


def test_a_file_that_was_closed_stays_so_until_who_waits_for_it_got_in(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, other = closed_after_writes(tmp_path / "ledger"), Lingering(tmp_path / "ledger")
    other.wait()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.num_sleeps == 3:
            other.wait_no_more()

    monkeypatch.setattr("storage.lingering.time.sleep", sleep)
    writer.give_way()
    assert clock.num_sleeps == 3
    assert not list(tmp_path.iterdir())
    writer.give_way()
    assert clock.num_sleeps == 3


def test_who_waits_and_never_comes_is_not_waited_for(tmp_path: Path, clock: Clock) -> None:
    writer, other = closed_after_writes(tmp_path / "ledger"), Lingering(tmp_path / "ledger")
    other.wait()
    writer.give_way()
    assert clock.now == pytest.approx(1000.3, abs=0.01)


@pytest.mark.parametrize("who", ["nobody", "one killed long ago"])
def test_nobody_is_given_way_who_does_not_wait(tmp_path: Path, clock: Clock, who: str) -> None:
    writer = closed_after_writes(tmp_path / "ledger")
    if who == "one killed long ago":
        sign = tmp_path / "ledger.waiting"
        sign.touch()
        os.utime(sign, (0, 0))
    writer.give_way()
    assert clock.num_sleeps == 0
