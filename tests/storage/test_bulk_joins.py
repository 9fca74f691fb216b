"""Postgres joins whole tables where a whole pool is asked for, however old its statistics are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from storage import open_ledger
from tests.storage.conftest import (
    make_checkpoint,
    make_pool,
    make_selection,
    make_spec,
    pool_scores,
    shard,
)

SIZE = 20_000


def lookups(url: str) -> int:
    """How often an index was gone through for one value, in all tables of runs."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        found = connection.execute(
            text(
                "SELECT sum(idx_scan) FROM pg_stat_user_indexes "
                "WHERE relname LIKE 'selected_samples_%' OR relname LIKE 'scores_%'"
            )
        ).scalar()
    return int(found or 0)


@pytest.mark.postgres
def test_a_selection_looks_no_sample_up_one_by_one(new_ledger_url: Callable[[str], str]) -> None:
    """Statistics are renewed at intervals 0, 1, 3, 7, …: at 2 they know of no interval 2."""
    url = new_ledger_url("postgres")
    ledger = open_ledger(url)
    pool = make_pool(SIZE)
    ledger.register_pool(pool)
    lease = ledger.create_run(make_spec("demo-1", pool, intervals=4, top_n=SIZE // 2), "me")
    for interval in range(3):
        scores = pool_scores(interval, SIZE)
        ledger.finish_checkpoint(lease, make_checkpoint(interval, interval), None, 0.1)
        ledger.add_scores(lease, interval, shard(scores))
        ledger.finish_scoring(lease, interval, 0.1)
        chosen = np.random.default_rng(interval).permutation(SIZE)[: SIZE // 2]
        ledger.finish_selection(lease, interval, make_selection(scores, chosen), 0.1)
    assert ledger.score_history("demo-1", 3) is not None
    assert lookups(url) < 100
