"""Runs whose process is gone are told from those that live, on both databases."""

from __future__ import annotations

import pytest

from edco_core.errors import LeaseLostError
from storage import Ledger, LostRun, queries
from tests.storage.conftest import do_run, make_pool, make_spec


def test_only_runs_whose_owner_is_gone_are_marked_and_only_once(ledger: Ledger) -> None:
    do_run(ledger, "done", intervals=1)
    for run_id, owner, ttl_s in (
        ("alive", "pid=1", 600),
        ("late", "pid=2", -1),  # not long enough: it may have been asleep
        ("silent", "pid=3", -61),
        ("dead", "pid=4", 600),
    ):
        ledger.create_run(make_spec(run_id), owner, ttl_s=ttl_s)
    lost = ledger.interrupt_lost(lambda owner: owner == "pid=4")
    assert lost == [LostRun("silent", "pid=3", None, None), LostRun("dead", "pid=4", None, None)]
    assert ledger.interrupt_lost(lambda owner: owner == "pid=4") == []
    assert {run["run_id"]: (run["status"], run["message"]) for run in queries.runs(ledger)} == {
        "done": ("finished", None),
        "alive": ("running", None),
        "late": ("running", None),
        "silent": ("interrupted", "its process ended without a word (pid=3)"),
        "dead": ("interrupted", "its process ended without a word (pid=4)"),
    }


def test_a_run_that_was_copied_behind_its_owner_is_lost_too(ledger: Ledger) -> None:
    ledger.register_pool(make_pool())
    ledger.create_run(make_spec("copied"), "pid=1", ttl_s=600)
    with ledger._database.writing() as connection:  # as a copy has it
        connection.exec_driver_sql("UPDATE runs SET lease_owner = NULL, lease_expires_at = NULL")
    assert ledger.interrupt_lost(lambda owner: False) == [LostRun("copied", None, None, None)]
    assert queries.run(ledger, "copied")["message"] == "its process ended without a word"
    assert ledger.interrupt_lost(lambda owner: False) == []


def test_an_owner_held_for_gone_can_write_nothing_more_and_anybody_may_go_on(
    ledger: Ledger,
) -> None:
    ledger.register_pool(make_pool())
    lease = ledger.create_run(make_spec(), "pid=1", ttl_s=-61)
    ledger.begin_stage(lease, 0, "checkpoint")
    ledger.renew(lease, -61)
    assert ledger.interrupt_lost(lambda owner: True) == [
        LostRun("demo-1", "pid=1", 0, "checkpoint")
    ]
    for write in (
        lambda: ledger.renew(lease),
        lambda: ledger.release(lease, "finished"),
        lambda: ledger.begin_stage(lease, 0, "scoring"),
    ):
        with pytest.raises(LeaseLostError):
            write()
    taken = ledger.acquire("demo-1", "pid=2")
    assert ledger.begin_stage(taken, 0, "checkpoint")
    assert queries.run(ledger, "demo-1")["status"] == "running"
