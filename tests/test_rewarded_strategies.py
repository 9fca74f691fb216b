"""Strategies that learn from rewards: what each selects, by answers made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edco_core.config_curriculum import StagesSection
from edco_core.config_rewarded import (
    AdarftSection,
    CuresSection,
    DifficultyFilterSection,
    MoppsSection,
    PclSection,
    ShuffleR1Section,
    SpeedSection,
    VcrlSection,
)
from edco_core.curriculum import KnownEvidence, build_strategy, derive_generator
from edco_core.curriculum.pass_rates import last_counts
from edco_core.curriculum.pcl import fit
from edco_core.curriculum.vcrl import UNKNOWN, relative_variance
from edco_core.records import RolloutGroups, Selection

P = 60


def groups(answers: dict[int, tuple[int, int]], rewards: dict[int, float] | None = None) -> Any:
    """Groups by ordinal: how many answers, and how many of them were correct."""
    ordinals = np.array(list(answers))
    n, correct = np.array(list(answers.values())).T
    rates = correct / n
    mean = rates if rewards is None else np.array([rewards[i] for i in answers])
    zeros = np.zeros(len(n))
    return RolloutGroups(
        steps=np.ones(len(n), np.int64), ordinals=ordinals, slots=np.arange(len(n)), n=n,
        n_correct=correct, reward_mean=mean, reward_std=np.sqrt(rates * (1 - rates)),
        advantage_abs_mean=zeros, n_tokens_mean=zeros, truncated_share=zeros,
    )  # fmt: skip


def evidence(*rollouts: RolloutGroups | None, size: int = P, **known: Any) -> KnownEvidence:
    """Of the interval after these; the scores fall with the ordinal."""
    scores = np.linspace(3.0, 1.0, size)
    return KnownEvidence(
        scores,
        interval=len(rollouts),
        earlier_scores=[scores] * len(rollouts),
        earlier_rollouts=rollouts,
        **known,
    )


def select(settings: Any, known: KnownEvidence, num: int, seed: int = 0) -> Selection:
    generator, _ = derive_generator(seed, known.interval, "selection")
    return build_strategy(settings).select(known, num, generator)


def times_selected(settings: Any, known: KnownEvidence, num: int, draws: int = 300) -> Any:
    found = [select(settings, known, num, seed).ordinals for seed in range(draws)]
    return np.bincount(np.concatenate(found), minlength=len(known.scores)) / draws


# ------------------------------------------------------------------- what is known


def test_a_sample_has_the_counts_of_the_last_interval_that_asked_it() -> None:
    first, second = groups({0: (4, 1), 1: (4, 4)}), groups({1: (8, 2), 2: (4, 0)})
    n, correct = last_counts(evidence(first, second), memory=2)
    assert n[:4].tolist() == [4, 8, 4, 0]
    assert correct[:4].tolist() == [1, 2, 0, 0]
    n, _ = last_counts(evidence(first, second), memory=1)
    assert n[:4].tolist() == [0, 8, 4, 0]


def test_groups_of_one_prompt_count_together() -> None:
    twice = groups({0: (4, 1)})
    twice = RolloutGroups(*(np.tile(getattr(twice, f), 2) for f in RolloutGroups.__slots__[:10]))
    n, correct = last_counts(evidence(twice), memory=1)
    assert (n[0], correct[0]) == (8, 2)


@pytest.mark.parametrize("settings", [CuresSection(discount=0.5), MoppsSection(discount=0.5)])
def test_beliefs_fade_to_the_prior_and_gain_by_answers(settings: Any) -> None:
    known = evidence(groups({3: (8, 8), 5: (2, 0)}), groups({5: (4, 1), 7: (2, 2)}))
    beliefs = select(settings, known, 10).beliefs
    assert beliefs is not None
    assert beliefs.ordinals.tolist() == [3, 5, 7]
    assert beliefs.alpha.tolist() == [5.0, 1.0 + 1, 1.0 + 2]
    assert beliefs.beta.tolist() == [1.0, 2.0 + 3, 1.0]


@pytest.mark.parametrize("settings", [CuresSection(discount=0.7), MoppsSection(discount=0.7)])
def test_nothing_is_believed_of_what_was_never_asked(settings: Any) -> None:
    beliefs = select(settings, evidence(None, None, None), 10).beliefs
    assert beliefs is not None
    assert len(beliefs.ordinals) == 0


@pytest.mark.parametrize("settings", [CuresSection(), MoppsSection()])
def test_beliefs_are_of_all_intervals_whoever_sampled_them(settings: Any) -> None:
    rollouts = [groups({0: (4, 1), 1: (4, 4)}), groups({1: (8, 2)}), groups({0: (2, 2)})]
    before = {"until": 3, "strategy": {"type": "pcl"}}  # which keeps values of another kind
    now = {"strategy": {"type": settings.type, "discount": 0.9}}
    stages = StagesSection.model_validate({"intervals": 4, "stages": [before, now]})
    kept = select(stages, evidence(*rollouts), 10).beliefs
    assert kept is not None
    expected = 1 + 0.9**2 * 1 + 2  # asked first three intervals ago: one was right, then two
    assert kept.alpha[0] == pytest.approx(expected)


# ------------------------------------------------------------------- cures


def test_cures_draws_what_varies_and_tells_its_chances() -> None:
    settings = CuresSection(temperature=0.1)
    answers = {i: (100, 50 if i < 20 else 0) for i in range(P)}
    known = evidence(groups(answers))
    often = times_selected(settings, known, 15)
    # sqrt(p (1 - p)) is 0.5 and 0.098: the rates of the race are as e^5 and e^0.98
    assert often[:20].mean() > 0.65
    assert often[20:].mean() < 0.05
    selection = select(settings, known, 15)
    assert selection.probabilities is not None
    told = selection.probabilities[selection.ordinals < 20].mean()
    assert told == pytest.approx(often[:20].mean(), abs=0.03)


def test_cures_at_a_high_temperature_draws_evenly() -> None:
    known = evidence(groups({i: (100, 50 if i < 20 else 0) for i in range(P)}))
    often = times_selected(CuresSection(temperature=1e6), known, 15)
    assert abs(often[:20].mean() - often[20:].mean()) < 0.05


# ------------------------------------------------------------------- mopps


def test_mopps_takes_the_chances_nearest_to_its_target() -> None:
    answers = {i: (10_000, 10_000 * i // P) for i in range(P)}  # known well: chance i / P
    chosen = select(MoppsSection(target=0.5), evidence(groups(answers)), 10).ordinals
    assert set(chosen.tolist()) <= set(range(23, 38))
    chosen = select(MoppsSection(target=1.0), evidence(groups(answers)), 10).ordinals
    assert set(chosen.tolist()) <= set(range(47, 60))


def test_mopps_tries_what_it_does_not_know() -> None:
    known = evidence(groups(dict.fromkeys(range(50), (1000, 0))))
    chosen = select(MoppsSection(discount=1.0), known, 10).ordinals
    assert set(chosen.tolist()) == set(range(50, 60))


# ------------------------------------------------------------------- vcrl


def test_variance_is_relative_to_the_highest_that_so_many_answers_can_have() -> None:
    n, correct = np.array([8, 8, 8, 5, 5, 5, 1, 0]), np.array([0, 4, 2, 2, 3, 1, 1, 0])
    by_hand = [0, 1, 12 / 16, 1, 1, 4 / 6, UNKNOWN, UNKNOWN]
    assert relative_variance(n, correct).tolist() == pytest.approx(by_hand)


def test_vcrl_takes_high_variance_then_the_unknown_then_the_rest() -> None:
    answers = dict.fromkeys(range(5), (8, 4)) | dict.fromkeys(range(5, 50), (8, 1))
    known = evidence(groups(answers))
    assert set(select(VcrlSection(), known, 5).ordinals.tolist()) == set(range(5))
    assert set(select(VcrlSection(), known, 15).ordinals.tolist()) == {*range(5), *range(50, 60)}
    often = times_selected(VcrlSection(), known, 10)
    assert often[50:].min() > 0.35  # equal values are drawn, half of the ten each time
    forgotten = evidence(groups(answers), None, None)
    assert times_selected(VcrlSection(memory=2), forgotten, 30)[5:50].min() > 0.35


# ------------------------------------------------------------------- pcl


def test_the_fit_is_the_weighted_line_through_pass_rates() -> None:
    x = np.linspace(0, 1, 5)
    n = np.array([4, 0, 0, 8, 4])
    correct = np.array([4, 0, 0, 4, 0])
    slope, intercept = np.polyfit(x[n > 0], correct[n > 0] / n[n > 0], 1, w=np.sqrt(n[n > 0]))
    assert fit(x, n, correct) == pytest.approx((intercept, slope))
    assert fit(x, np.zeros(5, np.int64), np.zeros(5, np.int64)) == (0.5, 0.0)
    assert fit(x, np.array([0, 4, 0, 0, 0]), np.array([0, 1, 0, 0, 0])) == (0.25, 0.0)


def test_pcl_predicts_the_unknown_from_scores_and_takes_the_nearest_to_a_half() -> None:
    """The higher the score the rarer a right answer; the highest score is ordinal 0."""
    answers = {i: (20, 20 * i // P) for i in range(0, P, 2)}
    settings = PclSection(candidates=100)
    chosen = select(settings, evidence(groups(answers)), 12).ordinals
    assert set(chosen.tolist()) <= set(range(20, 40))
    assert {int(o) % 2 for o in chosen} == {0, 1}


def test_pcl_trusts_a_samples_own_answers_more_than_the_fit() -> None:
    answers = dict.fromkeys(range(30), (20, 10)) | {30: (20, 20)}
    chosen = select(PclSection(candidates=100), evidence(groups(answers)), 59).ordinals
    assert 30 not in chosen


def test_pcl_looks_at_candidates_only() -> None:
    answers = {i: (20, 10 if i < 10 else 0) for i in range(P)}
    often = times_selected(PclSection(candidates=2), evidence(groups(answers)), 10)
    assert often[:10].mean() == pytest.approx(2 * 10 / P, abs=0.05)  # chosen where drawn
    often = times_selected(PclSection(), evidence(), 10)
    assert often.mean() == pytest.approx(10 / P)
    assert often.max() < 2.2 * 10 / P  # nothing known: an even draw


# ------------------------------------------------------------------- adarft


@pytest.mark.parametrize(
    ("start", "reward", "expected"),
    [(0.0, 0.5, 0.0), (40.0, 0.75, 40 + 50 * np.tanh(0.5)), (40.0, 0.0, 1.92), (90.0, 1.0, 100.0)],
)
def test_adarft_moves_its_target_by_the_mean_reward(
    start: float, reward: float, expected: float
) -> None:
    sampled = groups({0: (4, 0), 1: (12, 0)}, {0: 4 * reward, 1: 0.0})  # the mean over answers
    found = select(AdarftSection(), evidence(sampled, state={"target": start}), 10)
    assert found.state["target"] == pytest.approx(expected, abs=0.01)


def test_adarft_begins_with_the_easiest_and_takes_the_nearest_to_its_target() -> None:
    assert set(select(AdarftSection(), evidence(), 10).ordinals.tolist()) == set(range(50, 60))
    chosen = select(AdarftSection(start=50.0), evidence(), 10).ordinals
    assert set(chosen.tolist()) == set(range(25, 35))


def test_adarft_goes_by_the_scores_of_the_first_interval() -> None:
    known = evidence(None)
    known.scores = known.scores[::-1].copy()
    assert set(select(AdarftSection(), known, 10).ordinals.tolist()) == set(range(50, 60))


# ------------------------------------------------------------------- bands


@pytest.mark.parametrize(
    "settings", [DifficultyFilterSection(), SpeedSection(), ShuffleR1Section()]
)
def test_what_was_always_right_or_always_wrong_is_drawn_last(settings: Any) -> None:
    answers = dict.fromkeys(range(20), (8, 8)) | dict.fromkeys(range(20, 40), (8, 0)) | {40: (8, 4)}
    known = evidence(groups(answers))
    assert set(select(settings, known, 20).ordinals.tolist()) == set(range(40, 60))
    more = select(settings, known, 30)
    assert set(range(40, 60)) < set(more.ordinals.tolist())
    assert more.probabilities is not None
    inside = more.ordinals >= 40
    assert set(more.probabilities[inside]) == {1.0}
    assert set(more.probabilities[~inside]) == {10 / 40}
    even = times_selected(settings, known, 10)
    assert even[40:].min() > 0.3


def test_the_edges_of_a_band_are_outside_and_old_answers_are_forgotten() -> None:
    settings = DifficultyFilterSection(low=0.25, high=0.75, memory=1)
    answers = dict.fromkeys(range(30), (8, 2)) | dict.fromkeys(range(30, 60), (8, 3))
    known = evidence(groups(answers))
    assert set(select(settings, known, 30).ordinals.tolist()) == set(range(30, 60))
    forgotten = select(settings, evidence(groups(answers), None), 30)
    assert forgotten.ordinals.min() < 30
