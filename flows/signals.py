"""SIGINT and SIGTERM where they may not come at any moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let ``handler`` take both during this block; they come to the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, handler) for each in NUMBERS}
    try:
        yield
    finally:
        for each, theirs in before.items():
            signal.signal(each, theirs)


@contextmanager
def signals_later() -> Iterator[None]:
    """Let both wait for the end of this block, or what it starts would be lost.

    Between the start of a process and the moment when we know its number there is time enough for
    a signal: nobody would end that process.
    """
    came: list[int] = []
    try:
        with handled(lambda number, _: came.append(number)):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)
