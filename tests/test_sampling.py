"""How a step's answers are sampled: each rule on answers made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edco_core.config import GrpoSection
from edco_core.config_rewarded import (
    CuresSection,
    DifficultyFilterSection,
    ShuffleR1Section,
    SpeedSection,
)
from edco_core.curriculum.cures import answer_weights, split
from edco_core.errors import ConfigError
from edco_core.records import Beliefs, GradientTerms, Known
from edco_core.training.answers import Answers, StepAnswers, advantages
from edco_core.training.sampling import build_sampling

PAD = 9


def grpo(num_answers: int, **settings: Any) -> GrpoSection:
    args = {"num_generations": num_answers, "per_device_train_batch_size": 4 * num_answers}
    rewards = [{"type": "contains", "texts": ["a"]}]
    return GrpoSection(rewards=rewards, **{"args": args, **settings})


class Answering:
    """Answers with rewards told beforehand, by prompt: the first, the second, …, and again."""

    def __init__(self, rewards: dict[int, list[float]]) -> None:
        self.rewards = rewards
        self.asked: list[list[int]] = []
        self.times = dict.fromkeys(rewards, 0)

    def __call__(self, ordinals: Any, group_size: int) -> Answers:
        self.asked.append(ordinals.tolist())
        values = []
        for ordinal in ordinals.tolist():
            given = self.rewards[ordinal]
            values.append(given[self.times[ordinal] % len(given)])
            self.times[ordinal] += 1
        rewards = np.array(values)
        by_group = rewards.reshape(-1, group_size)
        width = 1 + len(self.asked)  # each call's prompts are longer by one
        rows = torch.as_tensor(ordinals)[:, None]
        batch = {
            "prompt_ids": rows.expand(-1, width),
            "prompt_mask": torch.ones(len(rows), width, dtype=torch.long),
            "completion_ids": rows.expand(-1, width),
            "completion_mask": torch.ones(len(rows), width, dtype=torch.long),
            "advantages": torch.tensor(
                np.concatenate([advantages(each, True) for each in by_group]), dtype=torch.float32
            ),
            "num_items_in_batch": torch.tensor(len(rows) * width),
        }
        ones = np.ones(len(rows), np.int64)
        texts = [f"{o}:{r}" for o, r in zip(ordinals, rewards, strict=True)]
        return Answers(batch, rewards, rewards >= 1, ones, ones < 0, texts)


def step_of(
    answering: Answering, num_prompts: int, per_prompt: int, known: Known | None = None
) -> StepAnswers:
    """A step whose next prompts are the ordinals 0, 1, 2, …, round and round."""
    return StepAnswers(
        answering,
        lambda places: places % len(answering.rewards),
        num_prompts=num_prompts,
        per_prompt=per_prompt,
        rng=np.random.default_rng(0),
        known=known,
    )


RIGHT, WRONG, MIXED = [1.0], [0.0], [0.0, 1.0]


def test_plainly_each_prompt_is_asked_in_turn_and_all_is_trained_on() -> None:
    answering = Answering({0: RIGHT, 1: MIXED, 2: WRONG})
    step = step_of(answering, 2, 4)
    assert build_sampling(grpo(4)).sample(step).tolist() == list(range(8))
    assert answering.asked == [[0, 0, 0, 0, 1, 1, 1, 1]]


def test_a_filter_passes_over_pass_rates_outside_its_band_edges_included() -> None:
    answering = Answering({0: [1, 0, 0, 0], 1: MIXED, 2: [1, 1, 1, 0], 3: MIXED})
    rule = build_sampling(grpo(4), DifficultyFilterSection(low=0.25, high=0.75))
    step = step_of(answering, 2, 4)
    places = rule.sample(step)
    assert np.unique(step.ordinals[step.groups[places]]).tolist() == [1, 3]
    assert answering.asked == [[0] * 4 + [1] * 4, [2] * 4, [3] * 4]


def test_a_filter_looks_at_correctness_and_skipping_at_worth() -> None:
    """Answers worth 0.2 and 0.4 are all wrong, and differ."""
    rewards = {0: [0.2, 0.4], 1: MIXED}
    filtering, skipping = Answering(rewards), Answering(rewards)
    step = step_of(filtering, 1, 2)
    build_sampling(grpo(2), DifficultyFilterSection()).sample(step)
    assert filtering.asked == [[0, 0], [1, 1]]
    build_sampling(grpo(2, skip_without_signal=True)).sample(step_of(skipping, 1, 2))
    assert skipping.asked == [[0, 0]]


def test_screening_asks_for_the_rest_only_where_the_first_answers_differ() -> None:
    answering = Answering({0: RIGHT, 1: MIXED, 2: WRONG, 3: MIXED, 4: MIXED})
    step = step_of(answering, 2, 6)
    places = build_sampling(grpo(6), SpeedSection(screening_answers=2)).sample(step)
    assert answering.asked == [[0, 0, 1, 1], [2, 2], [3, 3], [1] * 4 + [3] * 4]
    assert step.ordinals[step.groups[places]].tolist() == [1] * 2 + [3] * 2 + [1] * 4 + [3] * 4
    assert [len(group.rewards) for group in step.as_groups()] == [2, 6, 2, 6]


def test_screening_that_finds_too_few_continues_the_first_it_passed_over() -> None:
    answering = Answering({0: RIGHT, 1: WRONG, 2: WRONG, 3: MIXED, 4: RIGHT})
    step = step_of(answering, 2, 4)
    settings = SpeedSection(screening_answers=2, max_redraws=1)
    places = build_sampling(grpo(4), settings).sample(step)
    assert np.unique(step.ordinals[step.groups[places]]).tolist() == [0, 3]
    assert answering.asked[-1] == [0, 0, 3, 3]
    assert len(places) == 8


def test_a_group_that_was_continued_has_the_advantages_of_all_its_answers() -> None:
    answering = Answering({0: [0.0, 1.0, 1.0, 1.0]})
    step = step_of(answering, 1, 4)
    places = build_sampling(grpo(4), SpeedSection(screening_answers=2)).sample(step)
    expected = advantages(np.array([0.0, 1.0, 1.0, 1.0]), True)
    batch = step.trained_on(places, pad_token_id=PAD)
    assert torch.equal(batch["advantages"], torch.tensor(expected, dtype=torch.float32))
    assert np.array_equal(step.as_groups()[0].advantages, expected)


def test_advantages_are_trls_and_an_answer_alone_has_none() -> None:
    rewards = np.array([0.0, 1.0, 1.0])
    assert np.allclose(advantages(rewards, True), (rewards - 2 / 3) / (rewards.std(ddof=1) + 1e-4))
    assert np.allclose(advantages(rewards, False), rewards - 2 / 3)
    assert advantages(np.array([3.0]), True).tolist() == [0.0]


def test_answers_of_several_calls_are_padded_where_trl_pads() -> None:
    answering = Answering({0: WRONG, 1: MIXED})
    step = step_of(answering, 1, 2)
    build_sampling(grpo(2, skip_without_signal=True)).sample(step)
    batch = step.trained_on(np.array([0, 2, 2]), pad_token_id=PAD)
    assert batch["prompt_ids"].tolist() == [[PAD, 0, 0], [1, 1, 1], [1, 1, 1]]
    assert batch["prompt_mask"].tolist() == [[0, 1, 1], [1, 1, 1], [1, 1, 1]]
    assert batch["completion_ids"].tolist() == [[0, 0, PAD], [1, 1, 1], [1, 1, 1]]
    assert int(batch["num_items_in_batch"]) == 8


def test_the_outer_pairs_of_answers_are_kept() -> None:
    answering = Answering({0: [0.5, 1.0, 0.0, 0.4], 1: [0.3, 0.3, 0.3, 0.3]})
    step = step_of(answering, 2, 4)
    places = build_sampling(grpo(4), ShuffleR1Section()).sample(step)
    assert places.tolist() == [1, 1, 2, 2]  # the other prompt has no advantage to offer


def test_pairs_come_as_often_as_their_advantages_are_large() -> None:
    rule = build_sampling(grpo(4, args={"num_generations": 4}), ShuffleR1Section(keep_share=1.0))
    times = np.zeros(4)
    for seed in range(400):
        step = step_of(Answering({0: [0.0, 0.4, 0.6, 1.0]}), 1, 4)
        step.rng = np.random.default_rng(seed)
        times += np.bincount(rule.sample(step), minlength=4)
    assert times.sum() == 400 * 4
    assert times[[0, 3]].sum() / times.sum() == pytest.approx(1.0 / 1.2, abs=0.03)


def test_pairs_without_any_advantage_stay_as_they_are() -> None:
    step = step_of(Answering({0: RIGHT, 1: WRONG}), 2, 4)
    places = build_sampling(grpo(4), ShuffleR1Section()).sample(step)
    assert np.bincount(step.groups[places]).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("total", "weights", "at_least", "expected"),
    [
        (12, [1, 1, 1], [1, 1, 1], [4, 4, 4]),
        (8, [1, 1, 1], [1, 1, 1], [3, 3, 2]),  # a remainder goes to the first of equals
        (10, [0.5, 0.3, 0.2], [1, 1, 1], [5, 3, 2]),
        (10, [0.47, 0.33, 0.2], [1, 1, 1], [5, 3, 2]),  # 4.7, 3.3, 2
        (8, [1, 0, 0], [1, 1, 1], [6, 1, 1]),
        (8, [0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]),
        (9, [0, 0, 1], [4, 1, 1], [4, 1, 4]),
        (9, [0, 0], [4, 1], [5, 4]),
        (6, [1, 1], [5, 1], [5, 1]),
        (5, [3, 1], [4, 1], [4, 1]),
    ],
)
def test_answers_are_shared_out_in_whole_numbers_that_keep_the_total(
    total: int, weights: list[float], at_least: list[int], expected: list[int]
) -> None:
    counts = split(total, np.array(weights, float), np.array(at_least))
    assert counts.tolist() == expected


def test_sharing_out_keeps_the_total_and_the_least_whatever_the_weights() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        num = int(rng.integers(1, 12))
        weights = rng.choice([0.0, 1e-12, 0.1, 0.5, 1e9], num) * rng.random(num)
        at_least = rng.integers(1, 5, num)
        counts = split(int(at_least.sum() + rng.integers(0, 40)), weights, at_least)
        assert (counts >= at_least).all()
    assert split(64, rng.random(8), np.ones(8, np.int64)).sum() == 64


def test_without_gradients_a_prompt_weighs_as_its_answers_vary() -> None:
    chances = np.array([0.0, 0.1, 0.5, 0.9, 1.0])
    assert np.allclose(answer_weights(chances), [0, 0.3, 0.5, 0.3, 0])


def test_with_gradients_a_prompt_weighs_as_the_papers_formula_says() -> None:
    p, correct, wrong, gap = 0.25, 8.0, 2.0, 3.0
    found = answer_weights(np.array([p, p]), np.array([[correct, wrong, gap], [1.0, 1.0, 1e9]]))
    by_hand = p * 0.75**2 * correct + p**2 * 0.75 * wrong - p**2 * 0.75**2 * gap
    assert found.tolist() == pytest.approx([by_hand**0.5, 0.0])  # a noisy gap counts for no less


def known_of(chances: dict[int, tuple[float, float]], terms: Any = None) -> Known:
    alpha, beta = np.array(list(chances.values())).T
    gradients = None if terms is None else GradientTerms(*np.array(list(terms.values()), float).T)
    return Known(
        Beliefs(np.array(list(chances)), alpha, beta), np.array(list(terms or {})), gradients
    )


def test_answers_go_where_the_belief_says_that_they_vary() -> None:
    answering = Answering({0: RIGHT, 1: WRONG, 2: WRONG})
    known = known_of({0: (50.0, 50.0), 1: (1.0, 1e9), 2: (1.0, 24.0)})
    step = step_of(answering, 3, 5, known)
    places = build_sampling(grpo(5), CuresSection()).sample(step)
    # sigma 0.5, nearly 0 and 0.196 of 15 answers: one is the least, 14 are shared 5 : 1.96
    assert answering.asked == [[0] * 10 + [1] * 1 + [2] * 4]
    assert places.tolist() == list(range(15))


def test_what_nothing_is_known_of_is_asked_a_little_first() -> None:
    answering = Answering({0: WRONG, 1: MIXED})
    step = step_of(answering, 2, 8)
    build_sampling(grpo(8), CuresSection(cold_start=2)).sample(step)
    # beliefs 1/4 and 1/2: sigma 0.433 and 0.5 of 16 answers are 7.4 and 8.6
    assert answering.asked == [[0, 0, 1, 1], [0] * 5 + [1] * 7]
    assert [len(group.rewards) for group in step.as_groups()] == [7, 9]


def test_a_cold_start_never_costs_more_than_the_step_has() -> None:
    answering = Answering({0: WRONG, 1: MIXED})
    places = build_sampling(grpo(2), CuresSection(cold_start=16)).sample(
        step := step_of(answering, 2, 2)
    )
    assert len(places) == len(step.rewards) == 4


def test_measured_gradients_move_answers_and_means_stand_in_for_those_not_measured() -> None:
    beliefs = {0: (5.0, 5.0), 1: (5.0, 5.0), 2: (5.0, 5.0)}
    nan = float("nan")
    known = known_of(beliefs, {0: (16.0, 16.0, nan), 1: (4.0, nan, nan)})
    settings = CuresSection(gradient_terms=True)
    answering = Answering({0: MIXED, 1: MIXED, 2: MIXED})
    build_sampling(grpo(10), settings).sample(step := step_of(answering, 3, 10, known))
    # C, W: (16, 16), (4, 16 of the other), (10, 16 as the means): sigma^2 16/4, 10/4, 13/4
    sigma = np.sqrt([16.0, 10.0, 13.0])
    exact = 30 * sigma / sigma.sum()
    assert np.abs(step.counts()[0] - exact).max() < 1
    without = step_of(Answering({0: MIXED, 1: MIXED, 2: MIXED}), 3, 10, known)
    build_sampling(grpo(10), CuresSection()).sample(without)
    assert without.counts()[0].tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("rule", "least", "most"),
    [
        (DifficultyFilterSection(max_redraws=2), 16, 48),
        (SpeedSection(screening_answers=2, max_redraws=3), 16, 40),
        (ShuffleR1Section(), 16, 16),
        (CuresSection(), 16, 16),
    ],
)
def test_the_budget_of_a_rule_holds(rule: Any, least: int, most: int) -> None:
    """All right for ever: the rules that pass over ask as often as they may."""
    sampling = build_sampling(grpo(4), rule)
    assert sampling.most_answers(4, 4) == most
    sampling.sample(hopeless := step_of(Answering(dict.fromkeys(range(30), RIGHT)), 4, 4))
    assert len(hopeless.rewards) == most
    sampling.sample(easy := step_of(Answering(dict.fromkeys(range(30), MIXED)), 4, 4))
    assert len(easy.rewards) == least


def test_more_screening_answers_than_a_prompt_has_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"screening_answers: 4 came.*Allowed: 2 to 3"):
        build_sampling(grpo(4), SpeedSection(screening_answers=4))


def test_a_band_that_no_share_of_the_answers_can_be_in_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no share is between them.*Take one of 0.25, 0.5, 0.75"):
        build_sampling(grpo(4), DifficultyFilterSection(low=0.3, high=0.45))


@pytest.mark.parametrize(("num", "pairs"), [(2, 1), (3, 1), (7, 3), (8, 4)])
def test_no_answer_is_paired_with_itself(num: int, pairs: int) -> None:
    batch = {"num_generations": num, "per_device_train_batch_size": num}
    rule = build_sampling(grpo(num, args=batch), ShuffleR1Section(keep_share=1.0))
    assert rule.answers_trained(num) == 2 * pairs


def test_a_share_of_answers_that_makes_no_whole_batches_is_refused() -> None:
    training = grpo(6, args={"num_generations": 6, "per_device_train_batch_size": 2})
    build_sampling(training, ShuffleR1Section(keep_share=1.0))
    with pytest.raises(
        ConfigError, match=r"keep_share: 4 of 6 .* a batch of 2. Use a multiple of 6"
    ):
        build_sampling(training, ShuffleR1Section(keep_share=0.7))
