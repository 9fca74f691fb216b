"""Strategies: one contract for all of them, then what each promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edco_core.config import EdcoSection, RandomSection
from edco_core.curriculum import (
    STRATEGIES,
    KnownEvidence,
    Strategy,
    build_strategy,
    derive_generator,
    generator_from,
)
from edco_core.curriculum.edco import inclusion_probability
from edco_core.errors import InputError
from edco_core.records import Selection

SECTIONS: list[Any] = [
    RandomSection(),
    EdcoSection(),
    EdcoSection(preset="paper"),
    EdcoSection(temperature=0.3, skip_top=0.1, order="descending"),
]


def generator(seed: int = 0, interval: int = 0) -> np.random.Generator:
    return derive_generator(seed, interval, "selection")[0]


def some_scores(num: int = 200, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).gamma(2.0, size=num)


@pytest.fixture(params=SECTIONS, ids=lambda s: f"{s.type}-{getattr(s, 'temperature', '')}")
def strategy(request: pytest.FixtureRequest) -> Strategy[Any]:
    return build_strategy(request.param)


class TestEveryStrategy:
    def test_every_registered_strategy_is_tested_here(self) -> None:
        assert {section.type for section in SECTIONS} == set(STRATEGIES)

    @pytest.mark.parametrize("num", [1, 7, 150])
    def test_selects_as_many_distinct_samples_of_the_pool_as_asked(
        self, strategy: Strategy[Any], num: int
    ) -> None:
        chosen = strategy.select(KnownEvidence(some_scores()), num, generator()).ordinals
        assert len(set(chosen.tolist())) == num
        assert set(chosen.tolist()) <= set(range(200))

    def test_the_same_scores_and_generator_give_the_same_selection(
        self, strategy: Strategy[Any]
    ) -> None:
        first, second = (
            strategy.select(KnownEvidence(some_scores()), 50, generator(3)) for _ in range(2)
        )
        assert first.ordinals.tolist() == second.ordinals.tolist()

    def test_reports_score_and_rank_of_each_sample(self, strategy: Strategy[Any]) -> None:
        scores = some_scores()
        selection = strategy.select(KnownEvidence(scores), 50, generator())
        assert selection.scores.tolist() == scores[selection.ordinals].tolist()
        better = (scores[None, :] > selection.scores[:, None]).sum(axis=1)
        assert selection.ranks.tolist() == (better + 1).tolist()
        assert selection.cutoff == min(selection.scores)

    def test_equal_scores_are_ranked_in_the_order_of_the_pool(
        self, strategy: Strategy[Any]
    ) -> None:
        selection = strategy.select(KnownEvidence(np.ones(30)), 20, generator())
        assert selection.ranks.tolist() == (selection.ordinals + 1).tolist()

    def test_a_pool_of_one_sample_is_selected_whole(self, strategy: Strategy[Any]) -> None:
        assert strategy.select(
            KnownEvidence(np.array([2.0])), 1, generator()
        ).ordinals.tolist() == [0]

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_scores_that_are_not_finite_are_refused(
        self, strategy: Strategy[Any], bad: float
    ) -> None:
        scores = some_scores()
        scores[17] = bad
        with pytest.raises(InputError, match=r"1 of 200 scores are not finite .*ordinal 17"):
            strategy.select(KnownEvidence(scores), 5, generator())

    @pytest.mark.parametrize("num", [0, 201])
    def test_more_than_the_pool_or_nothing_is_refused(
        self, strategy: Strategy[Any], num: int
    ) -> None:
        with pytest.raises(InputError, match="allowed: 1 to 200"):
            strategy.select(KnownEvidence(some_scores()), num, generator())

    def test_the_input_is_left_as_it_was(self, strategy: Strategy[Any]) -> None:
        scores = some_scores()
        strategy.select(KnownEvidence(scores), 50, generator())
        assert scores.tolist() == some_scores().tolist()


def edco(**settings: Any) -> Selection:
    return build_strategy(EdcoSection(**settings)).select(
        KnownEvidence(some_scores()), 50, generator()
    )


def test_the_papers_rule_is_the_n_highest_in_descending_order() -> None:
    by_score = np.argsort(-some_scores(), kind="stable")
    assert edco(preset="paper").ordinals.tolist() == by_score[:50].tolist()


def test_temperature_zero_shuffles_the_n_highest_unless_told_otherwise() -> None:
    ordinals = edco(temperature=0).ordinals.tolist()
    assert set(ordinals) == set(edco(preset="paper").ordinals.tolist())
    assert ordinals != edco(preset="paper").ordinals.tolist()


def test_skip_top_leaves_out_the_highest() -> None:
    assert edco(temperature=0, skip_top=0.1, order="descending").ranks.tolist() == list(
        range(21, 71)
    )


def test_a_higher_temperature_selects_less_by_entropy() -> None:
    means = [edco(temperature=t).scores.mean() for t in (0, 0.5, 1.0, 4.0)]
    assert means == sorted(means, reverse=True)
    nearly_random = edco(temperature=1e6).scores.mean()
    assert abs(nearly_random - some_scores().mean()) < 0.5 * some_scores().std()


def test_probabilities_are_the_frequencies_of_many_draws() -> None:
    scores, num, draws = some_scores(60), 15, 4000
    strategy = build_strategy(EdcoSection(temperature=0.7))
    counts = np.zeros(60)
    for seed in range(draws):
        selection = strategy.select(KnownEvidence(scores), num, generator(seed))
        counts[selection.ordinals] += 1
    told = inclusion_probability(scores, selection.facts)
    # 4 standard errors of a frequency, and 0.02 for the approximation on a pool this small
    assert np.abs(counts / draws - told).max() < 4 * np.sqrt(0.25 / draws) + 0.02
    assert told.sum() == pytest.approx(num, rel=1e-6)


@pytest.mark.parametrize("order", ["shuffled", "descending"])
def test_each_sample_has_the_probability_of_its_own_score(order: str) -> None:
    selection = edco(order=order)
    assert selection.probabilities is not None
    told = inclusion_probability(selection.scores, selection.facts)
    assert selection.probabilities.tolist() == told.tolist()
    by_rank = selection.probabilities[np.argsort(selection.ranks)]
    assert by_rank.tolist() == sorted(by_rank, reverse=True)


def test_a_whole_pool_is_drawn_with_certainty() -> None:
    selection = build_strategy(EdcoSection()).select(KnownEvidence(some_scores()), 200, generator())
    assert selection.probabilities is not None
    assert set(selection.probabilities.tolist()) == {1.0}


def test_intervals_draw_from_generators_of_their_own() -> None:
    draws = {generator(0, interval).random() for interval in range(20)}
    assert len(draws) == 20


def test_a_generator_can_be_made_again_from_its_record() -> None:
    made, record = derive_generator(5, 2, "selection")
    assert made.random() == generator_from(record).random()
