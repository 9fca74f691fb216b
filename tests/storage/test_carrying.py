"""Pools of which only a part is scored anew: the rest keep the newest score they have."""

from __future__ import annotations

import numpy as np
import pytest

from edco_core.errors import LedgerError, NotFoundError
from edco_core.records import Lease, ScoreShard
from storage import Ledger, queries
from storage import scoring as storage_scoring
from tests.storage.conftest import (
    make_checkpoint,
    make_pool,
    make_spec,
    pool_scores,
    ranks_of,
    shard,
)

POOL = make_pool()
SIZE = len(POOL)


def rescore(ledger: Ledger, lease: Lease, interval: int, some: np.ndarray) -> np.ndarray:
    """Score some samples at an interval, the others being carried forward; what they scored."""
    scores = pool_scores(interval, SIZE)[some]
    ledger.finish_checkpoint(lease, make_checkpoint(interval, 4 * interval), None, 0.1)
    ledger.add_scores(lease, interval, ScoreShard(some, scores, some * 0 + 10 * interval))
    ledger.finish_scoring(lease, interval, 1.0, carry_forward=True, recall_estimate=0.75)
    return scores


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    """A run whose pool was scored at interval 0 as a whole."""
    ledger.register_pool(POOL)
    lease = ledger.create_run(make_spec(pool=POOL), "me")
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 0.1)
    ledger.add_scores(lease, 0, shard(pool_scores(0, SIZE)))
    ledger.finish_scoring(lease, 0, 1.0)
    return lease


def test_samples_that_are_not_scored_keep_their_newest_score_and_its_date(
    ledger: Ledger, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_scoring, "_CARRIED_SAMPLES", 7)
    scores, made_at = pool_scores(0, SIZE), np.zeros(SIZE, np.int64)
    n_tokens = np.arange(SIZE) % 7 + 1
    for interval, some in ((1, np.arange(5, 20)), (2, np.array([3, 8, 31]))):
        scores[some] = rescore(ledger, lease, interval, some)
        made_at[some], n_tokens[some] = interval, 10 * interval
        kept = ledger.scores("demo-1", interval)
        assert kept.ordinals.tolist() == list(range(SIZE))
        assert kept.scores.tobytes() == scores.tobytes()
        assert kept.n_tokens.tolist() == n_tokens.tolist()
        assert kept.scored_at_interval is not None
        assert kept.scored_at_interval.tolist() == made_at.tolist()
        row = queries.intervals(ledger, "demo-1")[interval]
        assert (row["n_scored"], row["n_rescored"]) == (SIZE, len(some))
        assert row["recall_estimate"] == 0.75
        assert row["score_mean"] == pytest.approx(scores.mean())

    shown = ledger.frame("sample_history", run_id="demo-1", interval=2)
    shown = shown.set_index("sample_id").loc[POOL.table["sample_id"].to_pylist()]
    assert shown["rank"].tolist() == ranks_of(scores).tolist()
    assert shown["scored_at_interval"].tolist() == made_at.tolist()
    weights = [make_checkpoint(int(interval), 0).checkpoint_id for interval in made_at]
    assert shown["checkpoint_id"].tolist() == weights


def test_nothing_has_to_be_scored_anew(ledger: Ledger, lease: Lease) -> None:
    ledger.finish_scoring(lease, 1, 1.0, carry_forward=True)
    assert ledger.scores("demo-1", 1).scores.tolist() == pool_scores(0, SIZE).tolist()
    assert queries.intervals(ledger, "demo-1")[1]["n_rescored"] == 0


def test_without_an_earlier_score_a_sample_must_be_scored(ledger: Ledger, lease: Lease) -> None:
    ledger.add_scores(lease, 2, shard(pool_scores(2, SIZE), 0, 5))
    with pytest.raises(LedgerError, match="5 of 40 samples are scored"):
        ledger.finish_scoring(lease, 2, 1.0, carry_forward=True)
    with pytest.raises(LedgerError, match="0 of 40 samples are scored"):
        ledger.finish_scoring(lease, 1, 1.0)
    with pytest.raises(LedgerError, match=r"recall is 1\.5"):
        ledger.finish_scoring(lease, 1, 1.0, carry_forward=True, recall_estimate=1.5)


def test_a_history_has_the_newest_score_and_the_one_before(ledger: Ledger, lease: Lease) -> None:
    assert ledger.score_history("demo-1", 0) is None
    rescore(ledger, lease, 1, np.array([1, 2]))
    rescore(ledger, lease, 2, np.array([2, 3]))
    history = ledger.score_history("demo-1", 3)
    assert history is not None
    first, second, third = (pool_scores(interval, SIZE) for interval in range(3))
    assert history.scores[:4].tolist() == [first[0], second[1], third[2], third[3]]
    assert history.scored_at_interval[:4].tolist() == [0, 1, 2, 2]
    assert history.earlier_scores[1:4].tolist() == [first[1], second[2], first[3]]
    assert np.isnan(history.earlier_scores[0])
    assert history.earlier_scored_at_interval[:4].tolist() == [-1, 0, 1, 0]
    assert len(history.scores) == SIZE
    with pytest.raises(NotFoundError, match="no scores at interval 3"):
        ledger.score_history("demo-1", 4)
