"""Strategies: one contract for all of them, then what EDCO's and the uniform draw promise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from strategies import SMOKE, answered, section_of, some_evidence, some_scores

from edco_core.config import EdcoSection
from edco_core.curriculum import (
    STRATEGIES,
    Candidate,
    KnownEvidence,
    Strategy,
    build_strategy,
    derive_generator,
    generator_from,
)
from edco_core.curriculum.edco import inclusion_probability
from edco_core.curriculum.evidence import Samples
from edco_core.errors import InputError
from edco_core.records import RolloutGroups, Selection

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "edco": [
        {"preset": "paper"},
        {"temperature": 0.3, "skip_top": 0.1, "order": "descending"},
        {"temperature_end": 0.2, "random_share": 0.2, "max_category_share": 0.4},
        {"temperature": 0, "random_share": 0.2, "max_category_share": 0.4},
    ],
    "length": [{"order": "hard_first"}],
    "campus": [{"perspectives": [each]} for each in ("length", "mtld", "loss", "learned")],
    "stages": [
        {
            "stages": [
                {"until": 1, "strategy": {"type": "sec"}},
                {"until": 0.25, "strategy": {"type": "dynamic_ppl"}},
                {"strategy": {"type": "dump"}},
            ]
        }
    ],
    "loss_reweighting": [{"weighting": "quadratic"}, {"weighting": "extremes"}],
}
"""Settings beside those of the smoke configurations, which say what each strategy is tried with."""

SECTIONS = [
    section_of(name, settings)
    for name, smoke in SMOKE.items()
    for settings in (smoke, *VARIANTS.get(name, []))
]


def generator(seed: int = 0, interval: int = 0) -> np.random.Generator:
    return derive_generator(seed, interval, "selection")[0]


@pytest.fixture(params=SECTIONS, ids=lambda s: s.model_dump_json(exclude_defaults=True)[:60])
def strategy(request: pytest.FixtureRequest) -> Strategy[Any]:
    return build_strategy(request.param)


def run_of(
    strategy: Strategy[Any], intervals: int, num: int, through_json: bool
) -> list[Selection]:
    """The selections of a run, each made from those before."""
    made: list[Selection] = []
    known = some_evidence()
    for interval in range(intervals):
        selection = strategy.select(known, num, generator(1, interval))
        made.append(selection)
        state = json.loads(json.dumps(selection.state)) if through_json else selection.state
        known = replace(
            known,
            interval=interval + 1,
            scores=some_scores(seed=interval + 2),
            earlier_scores=[*known.earlier_scores, known.scores],
            earlier_selections=[*known.earlier_selections, selection.ordinals],
            earlier_rollouts=[*known.earlier_rollouts, answered(selection.ordinals, interval)],
            state=state,
        )
    return made


def answers_to(known: KnownEvidence, ordinal: int) -> tuple[tuple[int, int] | None, ...]:
    """What the ledger tells of a sample's answers in the intervals before."""
    found: list[tuple[int, int] | None] = []
    for groups in known.earlier_rollouts:
        own = groups.ordinals == ordinal if groups is not None else np.zeros(0, bool)
        if groups is None or not own.any():
            found.append(None)
        else:
            found.append((int(groups.n[own].sum()), int(groups.n_correct[own].sum())))
    return tuple(found)


def belief_in(selection: Selection, ordinal: int) -> tuple[float, float] | None:
    beliefs = selection.beliefs
    if beliefs is None or ordinal not in beliefs.ordinals:
        return None
    place = int(np.searchsorted(beliefs.ordinals, ordinal))
    return float(beliefs.alpha[place]), float(beliefs.beta[place])


def _turned(groups: RolloutGroups) -> RolloutGroups:
    """The same groups, the last one first."""
    fields = RolloutGroups.__slots__
    found = {name: getattr(groups, name) for name in fields}
    return RolloutGroups(
        **{k: v[::-1] if isinstance(v, np.ndarray) else v for k, v in found.items()}
    )


class TestEveryStrategy:
    def test_every_registered_strategy_is_tested_here(self) -> None:
        assert {section.type for section in SECTIONS} == set(STRATEGIES)

    @pytest.mark.parametrize("num", [1, 7, 80])
    @pytest.mark.parametrize("intervals", [0, 3])
    def test_selects_as_many_distinct_samples_of_the_pool_as_asked(
        self, strategy: Strategy[Any], num: int, intervals: int
    ) -> None:
        chosen = strategy.select(some_evidence(intervals), num, generator()).ordinals
        assert chosen.dtype == np.int64
        assert len(set(chosen.tolist())) == num
        assert set(chosen.tolist()) <= set(range(200))

    def test_the_same_evidence_and_generator_give_the_same_selection(
        self, strategy: Strategy[Any]
    ) -> None:
        first, second = (strategy.select(some_evidence(2), 50, generator(3)) for _ in range(2))
        assert first.ordinals.tolist() == second.ordinals.tolist()
        assert (first.facts, first.state) == (second.facts, second.state)

    def test_reports_score_and_rank_of_each_sample(self, strategy: Strategy[Any]) -> None:
        known = some_evidence(2)
        selection = strategy.select(known, 50, generator())
        assert selection.scores.tolist() == known.scores[selection.ordinals].tolist()
        better = (known.scores[None, :] > selection.scores[:, None]).sum(axis=1)
        assert selection.ranks.tolist() == (better + 1).tolist()
        assert selection.cutoff == min(selection.scores)

    def test_equal_scores_are_ranked_in_the_order_of_the_pool(
        self, strategy: Strategy[Any]
    ) -> None:
        known = replace(some_evidence(1, size=30), scores=np.ones(30))
        selection = strategy.select(known, 12, generator())
        assert selection.ranks.tolist() == (selection.ordinals + 1).tolist()

    def test_where_nothing_is_drawn_samples_alike_are_taken_in_the_order_of_the_pool(
        self, strategy: Strategy[Any]
    ) -> None:
        own = some_evidence(size=30).samples
        alike = Samples(lambda names: own._read(names).take([0] * 30))
        known = replace(some_evidence(size=30), scores=np.ones(30), samples=alike)
        chosen, again = (strategy.select(known, 12, generator(k)).ordinals for k in (0, 1))
        if sorted(chosen) == sorted(again):
            first = 18 if strategy.settings.type == "adarft" else 0  # whose easiest are the last
            assert sorted(chosen.tolist()) == list(range(first, first + 12))

    def test_the_order_of_the_answers_of_a_step_changes_nothing(
        self, strategy: Strategy[Any]
    ) -> None:
        known = some_evidence(2)
        turned = [None if g is None else _turned(g) for g in known.earlier_rollouts]
        first, second = (
            strategy.select(each, 50, generator(3))
            for each in (known, replace(known, earlier_rollouts=turned))
        )
        assert first.ordinals.tolist() == second.ordinals.tolist()

    def test_nothing_can_be_selected_from_an_empty_pool(self, strategy: Strategy[Any]) -> None:
        with pytest.raises(InputError, match="cannot be selected from a pool of 0"):
            strategy.select(replace(some_evidence(), scores=np.zeros(0)), 1, generator())

    @pytest.mark.parametrize("size", [1, 30])
    def test_a_whole_pool_is_selected_whole(self, strategy: Strategy[Any], size: int) -> None:
        if strategy.settings.type == "entropy_band" or getattr(strategy.settings, "skip_top", 0):
            pytest.skip("some of the pool is never selected; refused before a run begins")
        selection = strategy.select(some_evidence(1, size=size), size, generator())
        assert sorted(selection.ordinals.tolist()) == list(range(size))

    def test_probabilities_are_chances_or_absent(self, strategy: Strategy[Any]) -> None:
        chances = strategy.select(some_evidence(2), 50, generator()).probabilities
        if chances is not None:
            assert chances.shape == (50,)
            assert ((chances > 0) & (chances <= 1)).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_scores_that_are_not_finite_are_refused(
        self, strategy: Strategy[Any], bad: float
    ) -> None:
        scores = some_scores()
        scores[17] = bad
        with pytest.raises(InputError, match=r"1 of 200 scores are not finite .*ordinal 17"):
            strategy.select(replace(some_evidence(), scores=scores), 5, generator())

    @pytest.mark.parametrize("num", [0, 201])
    def test_more_than_the_pool_or_nothing_is_refused(
        self, strategy: Strategy[Any], num: int
    ) -> None:
        with pytest.raises(InputError, match="allowed: 1 to 200"):
            strategy.select(some_evidence(), num, generator())

    def test_the_input_is_left_as_it_was(self, strategy: Strategy[Any]) -> None:
        known, before = some_evidence(3), some_evidence(3)
        strategy.select(known, 50, generator())
        assert known.scores.tolist() == before.scores.tolist()
        assert known.state == before.state
        for field in ("earlier_scores", "earlier_selections"):
            ours, theirs = getattr(known, field), getattr(before, field)
            assert [each.tolist() for each in ours] == [each.tolist() for each in theirs]

    def test_a_state_that_went_through_json_gives_the_same_selections(
        self, strategy: Strategy[Any]
    ) -> None:
        kept, read = (run_of(strategy, 4, 30, each) for each in (False, True))
        assert [s.ordinals.tolist() for s in kept] == [s.ordinals.tolist() for s in read]
        assert all(json.loads(json.dumps(s.facts)) == s.facts for s in kept)

    def test_every_sample_can_be_told_why(self, strategy: Strategy[Any]) -> None:
        known = some_evidence(2)
        selection = strategy.select(known, 50, generator())
        facts = json.loads(json.dumps(selection.facts))
        place = {ordinal: i for i, ordinal in enumerate(selection.ordinals.tolist())}
        ranks = np.argsort(np.argsort(-known.scores, kind="stable")) + 1
        ((prompts, completions),) = known.samples.texts()
        categories = known.samples.categories
        for ordinal in range(200):
            at = place.get(ordinal)
            chances = selection.probabilities
            told = type(strategy).explain(
                facts,
                Candidate(
                    is_selected=at is not None,
                    scores=tuple(float(known.scores_at(k)[ordinal]) for k in range(3)),
                    rank=int(ranks[ordinal]),
                    pool_size=200,
                    probability=None if at is None or chances is None else float(chances[at]),
                    reason=None if at is None else selection.reason,
                    category=categories.names[categories.codes[ordinal]],
                    prompt_chars=len(prompts[ordinal]),
                    completion_chars=len(completions[ordinal] or ""),
                    prompt=prompts[ordinal],
                    completion=completions[ordinal],
                    answers=answers_to(known, ordinal),
                    belief=belief_in(selection, ordinal),
                ),
            )
            assert told.how
            if told.probability is not None:
                assert 0 <= told.probability <= 1
                assert told.probability > 0 or at is None
            if told.probability is not None and at is not None and chances is not None:
                assert told.probability == pytest.approx(chances[at])


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
