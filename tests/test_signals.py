"""Signals that come where they may not interrupt, and handlers that stay where they were."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from flows.signals import NUMBERS, handled, signals_later


@pytest.fixture
def heard() -> Iterator[list[int]]:
    numbers: list[int] = []
    with handled(lambda number, _: numbers.append(number)):
        yield numbers


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_waits_for_the_end_of_the_block(heard: list[int], number: signal.Signals) -> None:
    with signals_later():
        signal.raise_signal(number)
        assert heard == []
    assert heard == [number]


def test_a_block_that_fails_loses_no_signal_and_gives_the_handlers_back(heard: list[int]) -> None:
    def fail() -> None:
        with signals_later():
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert heard == [signal.SIGTERM]
    signal.raise_signal(signal.SIGINT)
    assert heard == [signal.SIGTERM, signal.SIGINT]
