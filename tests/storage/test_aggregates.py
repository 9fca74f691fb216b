"""What the report draws of a whole pool, on both databases, against plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from storage import Ledger, aggregates
from tests.storage.conftest import curriculum, do_run, make_pool, pool_scores

POOL = make_pool()
SIZE = len(POOL)
IDS: list[str] = POOL.table["sample_id"].to_pylist()
CATEGORIES: list[str | None] = POOL.table["category"].to_pylist()
K = 3


@pytest.fixture
def run(ledger: Ledger) -> Ledger:
    do_run(ledger, "other", intervals=2, run=1)
    do_run(ledger, "demo-1", intervals=K)
    return ledger


@pytest.mark.parametrize("step", [1, 4])
def test_categories_are_counted_in_the_pool_and_in_each_curriculum(
    run: Ledger, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregates, "MOST_SAMPLES", SIZE // step)
    rows = aggregates.composition(run, "demo-1")
    found = {(row["interval"], row["category"]): row["n"] for row in rows}
    ordinals = {None: range(SIZE)} | {k: curriculum(k, SIZE).tolist() for k in range(K)}
    assert found == {
        (interval, category): n
        for interval, chosen in ordinals.items()
        for category, n in Counter(CATEGORIES[i] for i in chosen if i % step == 0).items()
    }
    assert len(rows) == len(found)


@pytest.mark.parametrize("step", [1, 4])
def test_the_data_map_places_each_sample_by_mean_and_spread(
    run: Ledger, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregates, "MOST_SAMPLES", SIZE // step)
    scores = np.array([pool_scores(k, SIZE) for k in range(K)])[:, ::step]
    mean, spread = scores.mean(0), scores.std(0)
    times = np.zeros(SIZE)
    for k in range(K):
        times[curriculum(k, SIZE)] += 1
    x = np.minimum(7, np.floor(8 * (mean - mean.min()) / np.ptp(mean)))
    y = np.minimum(4, np.floor(5 * spread / spread.max()))
    cells = aggregates.data_map(run, "demo-1", 8, 5)
    expected: dict[tuple[float, float], list[float]] = {}
    for place, times_selected in zip(zip(x, y, strict=True), times[::step], strict=True):
        expected.setdefault(place, []).append(times_selected)
    assert {(c["cell_x"], c["cell_y"]): c["n"] for c in cells} == {
        place: len(each) for place, each in expected.items()
    }
    for cell in cells:
        mine = expected[cell["cell_x"], cell["cell_y"]]
        assert cell["times_selected"] == pytest.approx(np.mean(mine))
        assert cell["low_mean"] == pytest.approx(mean.min())
        assert cell["high_mean"] == pytest.approx(mean.max())
        assert cell["high_spread"] == pytest.approx(spread.max())


def test_histories_are_those_of_the_samples_asked_for(run: Ledger) -> None:
    asked = [IDS[30], IDS[2]]
    found = aggregates.histories(run, "demo-1", asked)
    assert set(found) == set(asked)
    for sample_id, history in found.items():
        ordinal = IDS.index(sample_id)
        assert history == [
            {
                "interval": k,
                "score": pool_scores(k, SIZE)[ordinal],
                "selected": ordinal in curriculum(k, SIZE),
            }
            for k in range(K)
        ]
    assert aggregates.histories(run, "demo-1", []) == {}


def test_settings_are_those_the_run_was_made_with(run: Ledger) -> None:
    assert aggregates.settings(run, "demo-1") == {
        "config": {"curriculum": {"type": "edco", "top_n": 0.25}},
        "plan": {"total_steps": 15},
        "versions": {"torch": "2.13.0"},
    }
