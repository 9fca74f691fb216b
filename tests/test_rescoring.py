"""Selective rescoring: who is scored again, and whether what it says of itself is true."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from edco_core.config import EdcoSection
from edco_core.curriculum import KnownEvidence, Ranking, build_strategy
from edco_core.records import ScoreHistory
from edco_core.scoring.rescoring import Forecast, Rescored, estimate_recall, rescore

SIZE, NUM_SELECTED = 4000, 1000


@dataclass
class World:
    """A pool whose scores changed since the last interval, and a scorer that is watched."""

    true: np.ndarray
    history: ScoreHistory
    is_trained: np.ndarray
    temperature: float = 0.0
    asked: list[np.ndarray] = field(default_factory=list)

    def score(self, wanted: np.ndarray) -> np.ndarray:
        self.asked.append(wanted)
        return self.true[wanted]

    def ranking_of(self, scores: np.ndarray) -> Ranking:
        strategy = build_strategy(EdcoSection(temperature=self.temperature))
        ranking = strategy.ranking(scores, np.random.default_rng(5))
        assert ranking is not None
        return ranking

    def rescore(self, seed: int = 0, target: float = 0.95, audit: float = 0.1) -> Rescored:
        return rescore(
            self.score, self.history, self.is_trained, self.ranking_of, NUM_SELECTED,
            audit_share=audit, target_recall=target, rng=np.random.default_rng(seed),
        )  # fmt: skip

    def selected(self, scores: np.ndarray) -> set[int]:
        keys = self.ranking_of(scores).keys(scores)
        return set(np.argsort(-keys, kind="stable")[:NUM_SELECTED].tolist())

    @property
    def mixed(self) -> np.ndarray:
        scores = self.history.scores.copy()
        for wanted in self.asked:
            scores[wanted] = self.true[wanted]
        return scores

    @property
    def true_recall(self) -> float:
        return len(self.selected(self.true) & self.selected(self.mixed)) / NUM_SELECTED


def world(change: float, temperature: float = 0.0, seed: int = 0) -> World:
    """Scores that move by ``change`` of their own; those of samples trained on shrink."""
    rng = np.random.default_rng(seed)
    last = rng.gamma(1.0, size=SIZE)
    strategy = build_strategy(EdcoSection(temperature=temperature))
    is_trained = np.zeros(SIZE, dtype=bool)
    is_trained[strategy.select(KnownEvidence(last), NUM_SELECTED, rng).ordinals] = True
    true = np.maximum(0, last * np.where(is_trained, 0.9, 1.0) + change * rng.normal(size=SIZE))
    zeros = np.zeros(SIZE, dtype=np.int64)
    history = ScoreHistory(last, zeros, np.full(SIZE, np.nan), zeros - 1)
    return World(true, history, is_trained, temperature)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_part_of_the_pool_is_scored_and_the_target_recall_is_found(temperature: float) -> None:
    told, true = [], []
    for seed in range(5):
        calm = world(0.05, temperature, seed)
        told.append(calm.rescore(seed).recall_estimate)
        true.append(calm.true_recall)
        assert sum(map(len, calm.asked)) < 0.5 * SIZE
    assert min(true) >= 0.95
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.015)


def test_no_sample_is_scored_twice_and_the_same_facts_give_the_same_rounds() -> None:
    one, other = world(0.3), world(0.3)
    assert one.rescore() == other.rescore()
    assert len(one.asked) > 1
    everybody = np.concatenate(one.asked)
    assert len(np.unique(everybody)) == len(everybody)
    for mine, its in zip(one.asked, other.asked, strict=True):
        assert np.array_equal(mine, its)
        assert np.array_equal(mine, np.sort(mine))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_audit_tells_the_recall_without_bias_however_bad_the_candidates_are(
    temperature: float,
) -> None:
    wild = world(0.5, temperature)
    rng = np.random.default_rng(1)
    is_candidate = wild.history.scores > 1.0  # a policy that would miss many
    estimates, truths = [], []
    for _ in range(200):
        is_audited = np.zeros(SIZE, dtype=bool)
        is_audited[rng.permutation(SIZE)[:300]] = True
        wild.asked = [np.flatnonzero(is_candidate | is_audited)]
        estimates.append(
            estimate_recall(
                wild.history.scores, wild.history.scores, wild.mixed, is_candidate | is_audited,
                np.flatnonzero(is_audited & ~is_candidate), wild.ranking_of, NUM_SELECTED,
            ).recall
        )  # fmt: skip
        truths.append(wild.true_recall)
    assert np.mean(truths) < 0.95
    assert np.std(estimates) > 0.005  # one audit alone is not exact
    assert np.mean(estimates) == pytest.approx(np.mean(truths), abs=0.005)


def test_where_scores_cannot_be_foreseen_nearly_everything_is_scored() -> None:
    storm = world(0.1)
    storm.true = np.random.default_rng(2).permutation(storm.true)
    storm.rescore()
    assert sum(map(len, storm.asked)) > 0.9 * SIZE
    assert storm.true_recall >= 0.95


def test_where_the_forecast_is_wrong_the_audit_finds_out_and_everything_is_scored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A forecast that is sure of the last scores, in a pool where nothing stayed as it was."""
    monkeypatch.setattr(
        "edco_core.scoring.rescoring.forecast_scores",
        lambda history, *_: Forecast(history.scores, np.full(SIZE, 1e-6)),
    )
    storm = world(0.1)
    storm.true = np.random.default_rng(2).permutation(storm.true)
    rescored = storm.rescore()
    assert sum(map(len, storm.asked)) == SIZE
    assert len(storm.asked) > 2
    assert rescored.recall_estimate == 1.0


def test_an_audit_too_small_to_prove_anything_is_not_believed() -> None:
    calm = world(0.01)
    calm.rescore(audit=0.005)
    assert sum(map(len, calm.asked)) == SIZE


def test_the_wanted_recall_decides_how_much_is_scored() -> None:
    shares = []
    for target in (0.8, 0.9, 0.97):
        some = world(0.2)
        some.rescore(target=target)
        shares.append(sum(map(len, some.asked)))
    assert shares == sorted(set(shares))


def test_a_sample_trained_on_is_not_selected_again_for_the_same_score() -> None:
    calm = world(0.05)
    calm.rescore()
    stale = np.setdiff1d(np.flatnonzero(calm.is_trained), np.concatenate(calm.asked))
    again = [i for i in stale if i in calm.selected(calm.mixed)]
    assert len(again) < 0.01 * NUM_SELECTED


def test_a_ranking_gives_the_very_selection_its_strategy_makes() -> None:
    scores = np.random.default_rng(3).gamma(1.0, size=500)
    for temperature in (0.0, 0.7):
        strategy = build_strategy(EdcoSection(temperature=temperature))
        ranking = strategy.ranking(scores, np.random.default_rng(4))
        assert ranking is not None
        best = np.argsort(-ranking.keys(scores), kind="stable")[:100]
        chosen = strategy.select(KnownEvidence(scores), 100, np.random.default_rng(4)).ordinals
        assert set(best.tolist()) == set(chosen.tolist())
