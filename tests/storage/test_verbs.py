"""The contract of the ledger's verbs, on both databases."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import Connection, text

from edco_core.errors import (
    LeaseLostError,
    LedgerError,
    NotFoundError,
    RunBusyError,
    RunExistsError,
)
from edco_core.records import Checkpoint, Evaluation, Lease, Measured, ScoreShard, SkippedRow
from storage import Ledger, open_ledger, queries
from tests.storage.conftest import (
    curriculum,
    do_interval,
    do_run,
    make_checkpoint,
    make_evaluation,
    make_outcome,
    make_pool,
    make_selection,
    make_spec,
    pool_scores,
    ranks_of,
    shard,
)

POOL = make_pool()
SIZE = len(POOL)


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    ledger.register_pool(POOL)
    return ledger.create_run(make_spec(pool=POOL), "pid=1")


def count(ledger: Ledger, table: str) -> int:
    with ledger._database.reading() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


# ---------------------------------------------------------------- pools


def test_a_pool_is_kept_word_for_word(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    assert ledger.pool_size("pool-a") == SIZE
    kept = ledger.pool_texts("pool-a", [3, 0])
    rows = POOL.table.to_pylist()
    assert kept == [rows[3], rows[0]]


def test_a_pool_registered_twice_is_kept_once(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    ledger.register_pool(POOL)
    assert count(ledger, "pool_samples") == SIZE
    assert count(ledger, "datasets") == 1
    assert count(ledger, "bad_rows") == 1


def test_skipped_rows_of_another_file_with_the_same_samples_are_kept_too(ledger: Ledger) -> None:
    pool = make_pool()
    other = dataclasses.replace(
        pool, skipped=(*pool.skipped, SkippedRow("other.jsonl:3", "no prompt"))
    )
    for each in (pool, other, pool):
        ledger.register_pool(each)
    frame = ledger.frame("skipped_rows")
    assert sorted(frame["source"]) == ["other.jsonl:3", "pool.jsonl:99"]


def test_a_pool_is_kept_in_batches_in_order(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.pools._BATCH_ROWS", 7)
    ledger.register_pool(POOL)
    ids = [row["sample_id"] for row in ledger.pool_texts("pool-a", range(SIZE))]
    assert ids == POOL.table["sample_id"].to_pylist()


def test_the_same_fingerprint_with_another_size_is_refused(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    with pytest.raises(LedgerError, match="40 samples in the ledger, 41 came"):
        ledger.register_pool(make_pool(41))


def test_unknown_data_sets_and_samples_are_not_found(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="no data set 'nope'"):
        ledger.pool_size("nope")
    ledger.register_pool(POOL)
    with pytest.raises(NotFoundError, match="no samples"):
        ledger.pool_texts("pool-a", [0, SIZE])


# ---------------------------------------------------------------- runs and leases


def test_a_new_run_is_running_and_knows_its_configuration(ledger: Ledger, lease: Lease) -> None:
    state = ledger.run_state("demo-1")
    assert (state.status, state.finished_at, state.message) == ("running", None, None)
    assert state.config == make_spec().config
    assert state.plan == {"total_steps": 15}
    assert state.dataset_id == "pool-a"
    assert state.created_at.tzinfo is not None
    assert abs(state.created_at.timestamp() - time.time()) < 60


def test_a_run_id_can_be_used_once(ledger: Ledger, lease: Lease) -> None:
    with pytest.raises(RunExistsError, match="edco resume demo-1"):
        ledger.create_run(make_spec(), "pid=2")


def test_a_run_needs_a_registered_pool(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="register its pool"):
        ledger.create_run(make_spec(), "pid=1")


def test_a_live_lease_keeps_others_out_and_says_who_has_it(ledger: Ledger, lease: Lease) -> None:
    with pytest.raises(RunBusyError, match=r"pid=1.*until \d{4}-"):
        ledger.acquire("demo-1", "pid=2")
    with pytest.raises(RunBusyError):
        ledger.acquire("demo-1", "pid=2", steal_if=lambda owner: owner != "pid=1")


def test_a_dead_owners_lease_can_be_stolen_and_the_old_owner_writes_nothing(
    ledger: Ledger, lease: Lease
) -> None:
    thief = ledger.acquire("demo-1", "pid=2", steal_if=lambda owner: owner == "pid=1")
    assert thief.token == lease.token + 1
    scores = pool_scores(0, SIZE)
    selection = make_selection(scores, curriculum(0, SIZE))
    for write in (
        lambda: ledger.renew(lease),
        lambda: ledger.begin_stage(lease, 0, "scoring"),
        lambda: ledger.add_scores(lease, 0, shard(scores)),
        lambda: ledger.finish_scoring(lease, 0, 1.0),
        lambda: ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 1.0),
        lambda: ledger.finish_selection(lease, 0, selection, 1.0),
        lambda: ledger.finish_training(lease, 0, make_outcome(0, curriculum(0, SIZE)), None),
        lambda: ledger.mark_checkpoint_removed("demo-1", 0, lease),
        lambda: ledger.release(lease, "failed"),
    ):
        with pytest.raises(LeaseLostError, match="nothing was written"):
            write()
    for table in ("score_shards", "stages", "saved_checkpoints", "selections", "interval_stats"):
        assert count(ledger, table) == 0
    assert ledger.run_state("demo-1").status == "running"
    ledger.add_scores(thief, 0, shard(scores))


def test_an_expired_lease_can_be_taken_and_a_renewed_one_cannot(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec(), "pid=1", ttl_s=-1)
    ledger.renew(lease, 60)
    with pytest.raises(RunBusyError):
        ledger.acquire("demo-1", "pid=2")
    other = ledger.create_run(make_spec("demo-2"), "pid=1", ttl_s=-1)
    assert ledger.acquire("demo-2", "pid=2").token == other.token + 1


def test_a_write_renews_the_lease_so_that_a_long_one_does_not_lose_it(ledger: Ledger) -> None:
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec(), "pid=1")
    with ledger._database.writing() as connection:
        connection.execute(
            text("UPDATE runs SET lease_expires_at = lease_expires_at - INTERVAL '1 hour'")
        )
    ledger.begin_stage(lease, 0, "scoring")
    with pytest.raises(RunBusyError):
        ledger.acquire("demo-1", "pid=2")


def test_a_released_run_can_be_taken_by_anybody_and_its_old_lease_is_void(
    ledger: Ledger, lease: Lease
) -> None:
    ledger.begin_stage(lease, 1, "training")
    assert queries.run(ledger, "demo-1")["current_stage"] == "training"
    assert queries.run(ledger, "demo-1")["alive"] is True
    ledger.release(lease, "interrupted", "stopped by SIGINT")
    state = ledger.run_state("demo-1")
    assert (state.status, state.message) == ("interrupted", "stopped by SIGINT")
    assert state.finished_at is None
    assert queries.run(ledger, "demo-1")["alive"] is False
    with pytest.raises(LeaseLostError):
        ledger.begin_stage(lease, 1, "training")
    again = ledger.acquire("demo-1", "pid=2")
    assert ledger.run_state("demo-1").status == "running"
    ledger.release(again, "finished")
    assert ledger.run_state("demo-1").finished_at is not None


def test_two_who_want_one_expired_lease_do_not_both_get_it(ledger: Ledger, url: str) -> None:
    ledger.register_pool(POOL)
    ledger.create_run(make_spec(), "pid=1", ttl_s=-1)
    got: list[Lease] = []
    start = threading.Barrier(4)

    def grab(owner: str) -> None:
        mine = open_ledger(url)
        start.wait()
        with contextlib.suppress(RunBusyError):
            got.append(mine.acquire("demo-1", owner))

    threads = [threading.Thread(target=grab, args=(f"pid={i}",)) for i in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


@pytest.mark.postgres
def test_who_saw_an_expired_lease_too_late_does_not_get_it(
    new_ledger_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only on Postgres can another process come between reading the lease and taking it.
    url = new_ledger_url("postgres")
    slow, fast = open_ledger(url), open_ledger(url)
    slow.register_pool(POOL)
    slow.create_run(make_spec(), "pid=1", ttl_s=-1)
    clock = slow._database.utc_now
    got: list[Lease] = []

    def overtaken(connection: Connection) -> datetime:
        got.append(fast.acquire("demo-1", "pid=3"))
        return clock(connection)

    monkeypatch.setattr(slow._database, "utc_now", overtaken)
    with pytest.raises(RunBusyError):
        slow.acquire("demo-1", "pid=2")
    monkeypatch.undo()
    slow.renew(got[0])


def test_a_heartbeat_thread_and_the_writer_do_not_hinder_each_other(
    ledger: Ledger, lease: Lease
) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def beat() -> None:
        while not stop.is_set():
            try:
                ledger.renew(lease)
            except BaseException as error:
                errors.append(error)

    thread = threading.Thread(target=beat)
    thread.start()
    for interval in range(2):
        do_interval(ledger, lease, interval, POOL)
    stop.set()
    thread.join()
    assert errors == []
    assert len(ledger.scores("demo-1", 1).ordinals) == SIZE


def test_a_run_is_found_by_any_unambiguous_prefix(ledger: Ledger) -> None:
    with pytest.raises(NotFoundError, match="empty"):
        ledger.find_run("a")
    ledger.register_pool(POOL)
    for run_id in ("data-1", "data-12", "other_%"):
        ledger.create_run(make_spec(run_id), "pid=1")
    assert ledger.find_run("data-1") == "data-1"
    assert ledger.find_run("oth") == "other_%"
    assert ledger.find_run("data-12") == "data-12"
    with pytest.raises(NotFoundError, match="data-12, data-1;"):
        ledger.find_run("dat")
    with pytest.raises(NotFoundError, match="there is data-1"):
        ledger.find_run("dtaa-1")
    with pytest.raises(NotFoundError):
        ledger.find_run("")
    with pytest.raises(NotFoundError):
        ledger.run_state("data")


# ---------------------------------------------------------------- stages


def test_a_stage_is_finished_exactly_when_its_row_exists(ledger: Ledger, lease: Lease) -> None:
    scores = pool_scores(0, SIZE)
    ledger.add_scores(lease, 0, shard(scores))
    assert not ledger.stage_done("demo-1", 0, "scoring")
    assert ledger.stage_facts("demo-1", 0, "scoring") is None
    ledger.finish_scoring(lease, 0, 2.5, {"batch": 8})
    assert ledger.stage_done("demo-1", 0, "scoring")
    assert ledger.stage_facts("demo-1", 0, "scoring") == {"batch": 8, "seconds": 2.5}
    assert not ledger.stage_done("demo-1", 0, "selection")
    assert not ledger.stage_done("demo-1", 1, "scoring")


def test_a_finished_stage_is_never_written_again(ledger: Ledger, lease: Lease) -> None:
    do_interval(ledger, lease, 0, POOL)
    scores = pool_scores(0, SIZE)
    chosen = curriculum(0, SIZE)
    for write in (
        lambda: ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 1.0),
        lambda: ledger.add_scores(lease, 0, shard(scores)),
        lambda: ledger.finish_scoring(lease, 0, 1.0),
        lambda: ledger.finish_selection(lease, 0, make_selection(scores, chosen), 1.0),
        lambda: ledger.finish_training(lease, 0, make_outcome(0, chosen), None),
    ):
        with pytest.raises(LedgerError, match="finished already"):
            write()


@pytest.mark.parametrize("stage", ["checkpoint", "scoring", "selection", "training"])
def test_a_stage_that_fails_at_its_last_row_leaves_nothing(
    ledger: Ledger, lease: Lease, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = pool_scores(0, SIZE)
    chosen = curriculum(0, SIZE)
    ledger.add_scores(lease, 0, shard(scores))
    written = ("stages", "scores", "selections", "selection_rules", "saved_checkpoints")
    written += ("optimizer_steps", "step_slots", "evaluation_results", "interval_stats")

    def fail(*_: object) -> None:
        raise RuntimeError("killed here")

    monkeypatch.setattr(type(ledger), "_finish", fail)
    with pytest.raises(RuntimeError, match="killed here"):
        {
            "checkpoint": lambda: ledger.finish_checkpoint(
                lease, make_checkpoint(0, 0), make_evaluation(-1), 1.0
            ),
            "scoring": lambda: ledger.finish_scoring(lease, 0, 1.0),
            "selection": lambda: ledger.finish_selection(
                lease, 0, make_selection(scores, chosen), 1.0
            ),
            "training": lambda: ledger.finish_training(
                lease, 0, make_outcome(0, chosen), make_evaluation(0)
            ),
        }[stage]()
    assert {table: count(ledger, table) for table in written} == dict.fromkeys(written, 0)
    assert len(ledger.scored_ordinals("demo-1", 0)) == SIZE
    monkeypatch.undo()
    do = ledger.finish_scoring
    do(lease, 0, 1.0)
    assert count(ledger, "scores") == SIZE


def test_scores_come_back_bit_for_bit_by_ordinal_with_ranks_ties_by_ordinal(
    ledger: Ledger, lease: Lease
) -> None:
    scores = pool_scores(0, SIZE) * np.pi
    order = np.random.default_rng(1).permutation(SIZE)
    for part in np.array_split(order, 3):
        ledger.add_scores(lease, 0, ScoreShard(part, scores[part], part + 1))
    ledger.finish_scoring(lease, 0, 1.0)
    kept = ledger.scores("demo-1", 0)
    assert kept.ordinals.tolist() == list(range(SIZE))
    assert kept.scores.tobytes() == scores.tobytes()
    assert kept.n_tokens.tolist() == list(range(1, SIZE + 1))
    frame = ledger.frame("sample_history", run_id="demo-1", interval=0)
    by_id = dict(zip(frame["sample_id"], frame["rank"], strict=True))
    ids = POOL.table["sample_id"].to_pylist()
    assert [by_id[sample_id] for sample_id in ids] == ranks_of(scores).tolist()
    assert count(ledger, "score_shards") == 0
    with pytest.raises(NotFoundError, match="no scores at interval 1"):
        ledger.scores("demo-1", 1)


def test_a_half_scored_pool_is_completed_not_scored_again(
    ledger: Ledger, lease: Lease, url: str
) -> None:
    scores = pool_scores(0, SIZE)
    ledger.add_scores(lease, 0, shard(scores, 30))
    ledger.add_scores(lease, 0, shard(scores, 0, 5))
    later = open_ledger(url).acquire("demo-1", "pid=2", steal_if=lambda _: True)
    done = ledger.scored_ordinals("demo-1", 0)
    assert done.dtype == np.int64
    assert done.tolist() == [*range(5), *range(30, SIZE)]
    so_far = ledger.scores_so_far("demo-1", 0)
    assert so_far.ordinals.tolist() == done.tolist()
    assert so_far.scores.tolist() == scores[done].tolist()
    with pytest.raises(LedgerError, match="15 of 40 samples are scored"):
        ledger.finish_scoring(later, 0, 1.0)
    ledger.add_scores(later, 0, shard(scores, 5, 30))
    ledger.finish_scoring(later, 0, 1.0)
    assert ledger.scores("demo-1", 0).scores.tolist() == scores.tolist()
    assert ledger.scored_ordinals("demo-1", 0).tolist() == []
    assert ledger.scores_so_far("demo-1", 0).scores.tolist() == []


def test_a_sample_scored_twice_is_refused_and_the_first_score_stays(
    ledger: Ledger, lease: Lease
) -> None:
    scores = pool_scores(0, SIZE)
    ledger.add_scores(lease, 0, shard(scores, 0, 5))
    with pytest.raises(LedgerError, match="scored already"):
        ledger.add_scores(lease, 0, shard(scores + 1, 4, 9))
    assert ledger.scored_ordinals("demo-1", 0).tolist() == list(range(5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused_by_ordinal_and_nothing_is_kept(
    ledger: Ledger, lease: Lease, bad: float
) -> None:
    scores = pool_scores(0, SIZE)
    scores[[3, 17]] = bad
    with pytest.raises(LedgerError, match=r"2 of 40 scores are NaN or infinite.*ordinals 3, 17"):
        ledger.add_scores(lease, 0, shard(scores))
    assert count(ledger, "score_shards") == 0


def test_ordinals_outside_the_pool_or_given_twice_are_refused(ledger: Ledger, lease: Lease) -> None:
    for ordinals, problem in (([0, SIZE], "0 to 39"), ([-1], "0 to 39"), ([2, 2], "twice")):
        values = np.ones(len(ordinals))
        with pytest.raises(LedgerError, match=problem):
            ledger.add_scores(lease, 0, ScoreShard(np.array(ordinals), values, values.astype(int)))
        with pytest.raises(LedgerError, match=problem):
            ledger.finish_selection(
                lease, 0, make_selection(np.ones(SIZE + 1), np.array(ordinals)), 1.0
            )


@pytest.mark.parametrize("drawn", [True, False])
def test_a_selection_comes_back_as_it_was_in_training_order(
    ledger: Ledger, lease: Lease, drawn: bool
) -> None:
    selection = make_selection(pool_scores(0, SIZE), curriculum(0, SIZE), drawn=drawn)
    ledger.finish_selection(lease, 0, selection, 1.0)
    kept = ledger.selection("demo-1", 0)
    for name in ("ordinals", "scores", "ranks"):
        assert getattr(kept, name).tobytes() == getattr(selection, name).tobytes()
    if drawn:
        assert kept.probabilities.tobytes() == selection.probabilities.tobytes()
    else:
        assert kept.probabilities is None
    assert kept.reason == selection.reason
    assert kept.cutoff == selection.cutoff
    assert kept.facts == selection.facts
    assert kept.generator == selection.generator
    with pytest.raises(NotFoundError, match="no selection at interval 1"):
        ledger.selection("demo-1", 1)


def test_training_leaves_the_next_intervals_checkpoint_and_other_weights_are_refused(
    ledger: Ledger, lease: Lease
) -> None:
    assert ledger.checkpoint("demo-1", 0) is None
    do_interval(ledger, lease, 0, POOL)
    assert ledger.checkpoint("demo-1", 0) == make_checkpoint(0, 0)
    assert ledger.checkpoint("demo-1", 1) == make_checkpoint(1, 4)
    other = Checkpoint(1, 4, "runs/demo-1/checkpoint-4", "f" * 64)
    with pytest.raises(LedgerError, match="but training left"):
        ledger.finish_checkpoint(lease, other, None, 1.0)
    ledger.finish_checkpoint(lease, make_checkpoint(1, 4), None, 1.0)
    with pytest.raises(LedgerError, match="checkpoint of interval 2"):
        ledger.finish_training(lease, 1, make_outcome(5, curriculum(0, SIZE)), None)


def test_empty_slots_of_a_last_short_step_are_left_out(ledger: Ledger, lease: Lease) -> None:
    do_interval(ledger, lease, 0, POOL)
    chosen = curriculum(0, SIZE)
    assert count(ledger, "step_slots") == len(chosen)
    frame = ledger.frame("step_samples", run_id="demo-1").sort_values(["step", "slot"])
    ids = POOL.table["sample_id"].to_pylist()
    assert frame["sample_id"].tolist() == [ids[ordinal] for ordinal in chosen]
    assert sorted(set(frame["step"])) == [1, 2, 3, 4]


def test_an_evaluation_before_training_is_interval_minus_one(ledger: Ledger, lease: Lease) -> None:
    baseline = Evaluation(-1, "exact_match", 0.5, 4, {}, 1.0)
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), baseline, 1.0)
    rows = queries.evaluations(ledger, "demo-1")
    assert [(row["interval"], row["category"], row["value"]) for row in rows] == [(-1, None, 0.5)]
    summary = queries.run(ledger, "demo-1")
    assert summary["baseline_metric"] == 0.5
    assert summary["best_metric"] is None


def test_further_metrics_are_beside_the_run_s_own_and_do_not_stand_for_it(
    ledger: Ledger, lease: Lease
) -> None:
    further = (
        Measured("pass@1", 0.75, 4, {"a": (0.75, 4)}),
        Measured("pass@4", 1.0, 4, {}),
    )
    baseline = Evaluation(-1, "exact_match", 0.5, 4, {}, 2.0, further)
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), baseline, 1.0)
    rows = queries.evaluations(ledger, "demo-1")
    assert [(r["metric"], r["category"], r["value"], r["n"], r["seconds"]) for r in rows] == [
        ("exact_match", None, 0.5, 4, 2.0),
        ("pass@1", None, 0.75, 4, None),
        ("pass@1", "a", 0.75, 4, None),
        ("pass@4", None, 1.0, 4, None),
    ]
    summary = queries.run(ledger, "demo-1")
    assert (summary["baseline_metric"], summary["evaluation_seconds"]) == (0.5, 2.0)


def test_runs_do_not_see_each_others_rows(ledger: Ledger) -> None:
    do_run(ledger, "demo-1", run=0)
    do_run(ledger, "demo-2", run=1)
    for interval in range(3):
        for run, run_id in enumerate(("demo-1", "demo-2")):
            expected = pool_scores(interval, SIZE, run)
            assert ledger.scores(run_id, interval).scores.tolist() == expected.tolist()
            chosen = curriculum(interval, SIZE, run)
            assert ledger.selection(run_id, interval).ordinals.tolist() == chosen.tolist()


def test_a_finished_stage_does_not_begin_again(ledger: Ledger, lease: Lease) -> None:
    assert ledger.begin_stage(lease, 0, "checkpoint")
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, seconds=1.0)
    assert ledger.begin_stage(lease, 0, "scoring")
    assert not ledger.begin_stage(lease, 0, "checkpoint")
    assert queries.run(ledger, lease.run_id)["current_stage"] == "scoring"


def test_a_removed_checkpoint_is_kept_as_removed_once(ledger: Ledger, lease: Lease) -> None:
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), make_evaluation(-1), 0.25)
    with pytest.raises(NotFoundError, match="no checkpoint of interval 1"):
        ledger.mark_checkpoint_removed("demo-1", 1, lease)
    with pytest.raises(RunBusyError, match="being worked on"):
        ledger.mark_checkpoint_removed("demo-1", 0)
    assert queries.checkpoints(ledger, "demo-1")[0]["removed_at"] is None
    ledger.mark_checkpoint_removed("demo-1", 0, lease)
    (before,) = queries.checkpoints(ledger, "demo-1")
    assert before["removed_at"] >= before["created_at"]
    ledger.release(lease, "finished")
    ledger.mark_checkpoint_removed("demo-1", 0)
    assert queries.checkpoints(ledger, "demo-1") == [before]


@pytest.mark.parametrize("keep_texts", [True, False])
def test_categories_that_were_corrected_are_so_in_the_ledger(
    ledger: Ledger, keep_texts: bool
) -> None:
    pool = make_pool()
    ledger.register_pool(pool, keep_texts)
    place = pool.table.schema.get_field_index("category")
    corrected = pool.table.set_column(place, "category", pa.array(["right"] * len(pool)))
    for _ in range(2):
        ledger.register_pool(dataclasses.replace(pool, table=corrected, skipped=()), keep_texts)
        with ledger._database.reading() as connection:
            asked = text("SELECT category, count(*) FROM samples GROUP BY category")
            assert connection.execute(asked).all() == [("right", len(pool))]
        assert count(ledger, "bad_rows") == 1
