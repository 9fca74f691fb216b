"""Ledgers of every past revision, as files, upgraded and then used.

``ledgers/REVISION.*`` were made by the software of that revision: a finished run of three intervals
on the standard pool, and a run whose pool is scored in part.  A new revision adds a file of each
kind, made before its migration is written.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from edco_core.errors import LedgerError, LedgerVersionError
from storage import HEAD_REVISION, Ledger, db_check, db_current, db_upgrade, open_ledger
from storage.schema import REVISIONS
from storage.views import VIEWS
from tests.storage.conftest import (
    BACKENDS,
    curriculum,
    do_run,
    make_checkpoint,
    make_evaluation,
    make_outcome,
    make_pool,
    make_selection,
    make_spec,
    pool_scores,
    shard,
)

LEDGERS = Path(__file__).parent / "ledgers"
HALF_SCORED = [(10, 20), (25, 40)]
NOT_KEPT_THEN = {("0001", "samples"): {"content_hash"}}
"""Columns that a ledger of that revision cannot know."""


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[revision for revision in REVISIONS if revision != HEAD_REVISION])
def old(request: pytest.FixtureRequest, backend: str, new_url: Callable[[str], str]) -> str:
    """The address of a ledger of that revision."""
    url = new_url(backend)
    if backend == "duckdb":
        packed = (LEDGERS / f"{request.param}.duckdb.gz").read_bytes()
        Path(url.removeprefix("duckdb:///")).write_bytes(gzip.decompress(packed))
    else:
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql((LEDGERS / f"{request.param}.postgres.sql").read_text())
    assert db_current(url) == request.param
    return url


@pytest.fixture
def new(backend: str, new_ledger_url: Callable[[str], str]) -> Ledger:
    """A ledger of today with the same runs."""
    ledger = open_ledger(new_ledger_url(backend))
    do_run(ledger, "finished-1", intervals=3, eval_dataset_id="eval-a")
    pool = make_pool()
    lease = ledger.create_run(make_spec("half-scored-1", pool), "gone", ttl_s=0.001)
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), make_evaluation(-1), 0.25)
    for start, stop in HALF_SCORED:
        ledger.add_scores(lease, 0, shard(pool_scores(0, len(pool), 1), start, stop))
    return ledger


def rows(ledger: Ledger, view: str, leave_out: set[str]) -> list[tuple[Any, ...]]:
    """All rows of a view in an order of their own, without the times.

    Means are rounded: earlier revisions let the database sum them, in an order of its own.
    """
    with ledger._database.reading() as connection:
        found = connection.execute(text(f"SELECT * FROM {view}")).mappings().all()
    leave_out = leave_out | {"created_at", "finished_at", "lease_expires_at"}

    def rounded(value: Any) -> Any:
        return round(value, 12) if isinstance(value, float) else value

    return sorted(
        (tuple(rounded(row[name]) for name in row if name not in leave_out) for row in found),
        key=repr,
    )


def finish_half_scored(ledger: Ledger) -> None:
    """Carry the half-scored run on: the rest of its scores, a selection, training."""
    pool = make_pool()
    scores = pool_scores(0, len(pool), 1)
    chosen = curriculum(0, len(pool), 1)
    lease = ledger.acquire("half-scored-1", "me")
    missing = np.setdiff1d(np.arange(len(pool)), ledger.scored_ordinals("half-scored-1", 0))
    assert len(missing) == len(pool) - sum(stop - start for start, stop in HALF_SCORED)
    for ordinal in missing:
        ledger.add_scores(lease, 0, shard(scores, ordinal, ordinal + 1))
    ledger.finish_scoring(lease, 0, 2.5)
    ledger.finish_selection(lease, 0, make_selection(scores, chosen), 0.5)
    ledger.finish_training(lease, 0, make_outcome(0, chosen), make_evaluation(0))
    ledger.release(lease, "finished")


def test_an_older_ledger_is_refused_with_what_to_type(old: str) -> None:
    for read_only in (True, False):
        with pytest.raises(LedgerVersionError, match=r"edco db upgrade --store \S+"):
            open_ledger(old, read_only=read_only)


def test_views_of_ones_own_on_postgres_are_named_before_an_upgrade(
    new_url: Callable[[str], str],
) -> None:
    url = new_url("postgres")
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql((LEDGERS / "0005.postgres.sql").read_text())
    with engine.begin() as connection:  # another one: the file changes where this one looks
        connection.exec_driver_sql("CREATE VIEW hard AS SELECT * FROM curriculum")
        connection.exec_driver_sql("CREATE VIEW harder AS SELECT * FROM hard")
    with pytest.raises(LedgerError, match=r"made of the ledger's: hard, harder\. An upgrade"):
        db_upgrade(url)
    assert db_current(url) == "0005"
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW harder, hard")
    assert db_upgrade(url) == ("0005", HEAD_REVISION)


def test_an_upgraded_ledger_answers_like_one_made_today(old: str, new: Ledger) -> None:
    before, after = db_upgrade(old)
    assert (before, after) == (before, HEAD_REVISION)
    assert db_check(old) == []
    upgraded = open_ledger(old)
    for view in VIEWS:
        leave_out = NOT_KEPT_THEN.get((str(before), view), set())
        assert rows(upgraded, view, leave_out) == rows(new, view, leave_out), view


def test_a_run_of_an_upgraded_ledger_goes_on_and_new_runs_start(old: str, new: Ledger) -> None:
    before, _ = db_upgrade(old)
    upgraded = open_ledger(old)
    for ledger in (upgraded, new):
        finish_half_scored(ledger)
        do_run(ledger, "begun-after", run=2)
    assert db_check(old) == []
    for view in VIEWS:
        leave_out = NOT_KEPT_THEN.get((str(before), view), set())
        assert rows(upgraded, view, leave_out) == rows(new, view, leave_out), view
