"""Alarms and comparisons are kept as they came, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edco_core.errors import LeaseLostError, LedgerError, NotFoundError
from edco_core.records import Lease, TrainingOutcome
from storage import Ledger
from tests.storage.conftest import (
    curriculum,
    make_alarm,
    make_checkpoint,
    make_comparison_row,
    make_outcome,
    make_pool,
    make_selection,
    make_spec,
    pool_scores,
    shard,
)

ALARM = make_alarm(0)
ROW = make_comparison_row()


def before_training(ledger: Ledger) -> tuple[Lease, TrainingOutcome]:
    """A run whose first curriculum is selected, and what training on it did."""
    pool = make_pool()
    ledger.register_pool(pool)
    lease = ledger.create_run(make_spec("guarded", pool), "me")
    scores, chosen = pool_scores(0, len(pool)), curriculum(0, len(pool))
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 0.25)
    ledger.add_scores(lease, 0, shard(scores, 0))
    ledger.finish_scoring(lease, 0, 2.5)
    ledger.finish_selection(lease, 0, make_selection(scores, chosen), 0.5)
    return lease, make_outcome(0, chosen)


def test_alarms_come_with_the_training_they_are_about(ledger: Ledger) -> None:
    lease, outcome = before_training(ledger)
    assert ledger.alarms("guarded") == ()
    other = replace(ALARM, alarm="stuck", action="temper")
    ledger.finish_training(lease, 0, outcome, None, alarms=[other, ALARM])
    assert ledger.alarms("guarded") == (ALARM, other)
    frame = ledger.frame("alarms", run_id="guarded")
    assert frame["threshold"].tolist() == [0.625, 0.625]
    assert frame["message"].tolist() == [ALARM.message] * 2


def test_training_that_is_refused_leaves_no_alarm(ledger: Ledger) -> None:
    lease, outcome = before_training(ledger)
    with pytest.raises(LeaseLostError):
        ledger.finish_training(replace(lease, token=9), 0, outcome, None, alarms=[ALARM])
    with pytest.raises(LedgerError, match="alarm of interval 1"):
        ledger.finish_training(lease, 0, outcome, None, alarms=[replace(ALARM, interval=1)])
    assert ledger.alarms("guarded") == ()
    assert not ledger.stage_done("guarded", 0, "training")


def test_alarms_of_an_unknown_run_are_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="nobody"):
        ledger.alarms("nobody")


def test_removing_a_run_removes_its_alarms(ledger: Ledger) -> None:
    lease, outcome = before_training(ledger)
    ledger.finish_training(lease, 0, outcome, None, alarms=[ALARM])
    ledger.release(lease, "finished")
    ledger.remove_run("guarded")
    assert len(ledger.frame("alarms")) == 0


def test_the_newest_table_of_a_comparison_takes_the_place_of_the_one_before(
    ledger: Ledger,
) -> None:
    ledger.keep_comparison("one", [ROW, replace(ROW, label="random", difference=None)])
    ledger.keep_comparison("two", [ROW])
    ledger.keep_comparison("one", [replace(ROW, mean=0.625)])
    frame = ledger.frame("comparisons").sort_values("experiment")
    assert frame["experiment"].tolist() == ["one", "two"]
    assert frame["mean"].tolist() == [0.625, 0.5]
    assert frame["steps_to_reference"].tolist() == [30, 30]


def test_what_was_measured_first_counts(ledger: Ledger) -> None:
    assert ledger.calibration("one", "step", "abc") is None
    assert ledger.keep_calibration("one", "step", "abc", 0.25) == 0.25
    assert ledger.keep_calibration("one", "step", "abc", 0.5) == 0.25
    assert ledger.calibration("one", "step", "abc") == 0.25
    assert ledger.calibration("one", "scoring", "abc") is None
    assert ledger.calibration("two", "step", "abc") is None
