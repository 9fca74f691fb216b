"""What each strategy promises beside the contract of all (test_curriculum.py)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from strategies import answered, section_of, some_evidence, some_scores

from edco_core.config import parse_config
from edco_core.config_curriculum import check_categories
from edco_core.config_guard import check_room
from edco_core.curriculum import KnownEvidence, build_strategy, derive_generator
from edco_core.curriculum.bandit import draw_slots
from edco_core.curriculum.base import highest, rank_descending, ranks_of
from edco_core.curriculum.campus import CampusStrategy, learned_weights
from edco_core.curriculum.category_limit import highest_within
from edco_core.curriculum.evidence import Samples
from edco_core.curriculum.race import chances_to_win, race_time
from edco_core.curriculum.text_statistics import mtld, statistics, words
from edco_core.errors import ConfigError
from edco_core.records import Selection


def select(name: str, known: KnownEvidence, num: int, seed: int = 0, **settings: Any) -> Selection:
    rng, _ = derive_generator(seed, known.interval, "selection")
    return build_strategy(section_of(name, settings)).select(known, num, rng)


def samples_with(**columns: list[Any]) -> Samples:
    return Samples(lambda names: pa.table(columns).select(list(names)))


def frequencies(name: str, known: KnownEvidence, num: int, draws: int, **settings: Any) -> Any:
    found = [select(name, known, num, seed, **settings).ordinals for seed in range(draws)]
    return np.bincount(np.concatenate(found), minlength=len(known.scores)) / draws


# ------------------------------------------------------------------- what many share


def test_the_highest_are_those_of_a_stable_sort() -> None:
    keys = np.random.default_rng(0).integers(0, 9, 300).astype(float)
    for num in (0, 1, 70, 299, 300):
        assert highest(keys, num).tolist() == np.argsort(-keys, kind="stable")[:num].tolist()


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_ranks_of_some_are_those_among_all(step: float) -> None:
    scores = some_scores(300)
    if step:
        scores = np.round(scores / step) * step  # with equal ones
    some = np.random.default_rng(1).permutation(300)[:40]
    assert ranks_of(scores, some).tolist() == rank_descending(scores)[1][some].tolist()


@pytest.mark.parametrize("num", [0, 1, 17, 59, 60])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_the_chances_in_a_race_sum_to_how_many_are_drawn(num: int, spread: float) -> None:
    logits = spread * np.random.default_rng(2).normal(size=60)
    assert chances_to_win(logits, race_time(logits, num)).sum() == pytest.approx(num, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.05, 1e-6])
@pytest.mark.parametrize("kind", ["outlier", "heavy tail"])
def test_they_do_with_scores_far_from_the_others(kind: str, temperature: float) -> None:
    rng = np.random.default_rng(3)
    scores = np.append(rng.random(20_000), 1000.0)
    if kind == "heavy tail":
        scores = rng.lognormal(size=20_001)
    logits = (scores - scores.mean()) / scores.std() / temperature
    chances = chances_to_win(logits, race_time(logits, 5000))
    assert chances.sum() == pytest.approx(5000, rel=1e-8)


# ------------------------------------------------------------------- edco


def test_the_temperature_moves_in_equal_steps_to_that_of_the_last_interval() -> None:
    known = some_evidence()
    told = [
        select("edco", replace(known, interval=k), 20, temperature_end=0.0).facts["temperature"]
        for k in range(8)
    ]
    assert told == pytest.approx(np.linspace(1.0, 0.0, 8))


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_no_category_gets_more_than_its_share_while_others_have_samples(temperature: float) -> None:
    known = some_evidence()
    selection = select(
        "edco", known, 50, temperature=temperature, max_category_share=0.4, order="descending"
    )
    codes = known.samples.categories.codes
    counts = np.bincount(codes[selection.ordinals], minlength=3)
    assert counts.max() == 20
    if temperature == 0:
        for code in np.flatnonzero(counts == 20):  # the best of a category that is full
            own = np.flatnonzero(codes == code)
            best = own[highest(known.scores[own], 20)]
            assert set(best) <= set(selection.ordinals)


def test_places_that_limits_leave_over_go_to_the_highest() -> None:
    keys, codes = np.array([9.0, 8, 7, 6, 5, 4]), np.array([0, 0, 0, 0, 0, 1])
    assert highest_within(keys, 4, codes, 2).tolist() == [0, 1, 5, 2]
    assert highest_within(keys, 3, codes, 2).tolist() == [0, 1, 5]


def test_a_limit_that_does_not_divide_n_is_exceeded_by_one_and_no_more() -> None:
    keys, codes = np.arange(500, 0, -1.0), np.arange(500) % 10
    counts = np.bincount(codes[highest_within(keys, 15, codes, 1)], minlength=10)
    assert sorted(counts.tolist()) == [1] * 5 + [2] * 5


def test_a_share_of_n_is_what_it_is_in_decimals() -> None:
    selection = select("edco", some_evidence(), 100, random_share=0.29)  # 28.999… in binary
    assert selection.facts["num_random"] == 29


@pytest.mark.parametrize(("start", "pacing"), [(1.0, 2.0), (0.9, 1.1)])
def test_campus_refuses_a_start_beyond_what_is_open_next(start: float, pacing: float) -> None:
    with pytest.raises(ConfigError, match="Give a smaller start"):
        parse_config(
            {
                "model": {"name_or_path": "m"}, "data": {"train": "t"},
                "scoring": {"type": "loss"},
                "curriculum": {"type": "campus", "start": start, "pacing": pacing},
            }
        )  # fmt: skip


def test_a_random_share_is_drawn_from_those_not_selected_by_score() -> None:
    known = some_evidence()
    selection = select("edco", known, 40, temperature=0, random_share=0.25)
    assert selection.probabilities is not None
    by_score = set(selection.ordinals[selection.probabilities == 1].tolist())
    assert by_score == set(highest(known.scores, 30).tolist())
    assert set(selection.probabilities.tolist()) == {1.0, 10 / 170}


@pytest.mark.parametrize(
    "settings",
    [{"random_share": 0.3}, {"max_category_share": 0.4}, {"temperature": 0, "random_share": 0.3}],
)
def test_probabilities_with_these_are_the_frequencies_of_many_draws(
    settings: dict[str, Any],
) -> None:
    known, draws = some_evidence(size=80), 600
    counts, told = np.zeros(80), np.zeros(80)
    for seed in range(draws):
        selection = select("edco", known, 20, seed, **settings)
        assert selection.probabilities is not None
        counts[selection.ordinals] += 1
        told[selection.ordinals] += selection.probabilities
    told /= np.maximum(counts, 1)
    # 4 standard errors of a frequency, and 0.03 for the approximation on a pool this small
    limit = 4 * np.sqrt(0.25 / draws) + 0.03
    assert np.abs(counts / draws - told)[counts > 0].max() < limit


@pytest.mark.parametrize(
    ("name", "settings", "categories", "problem"),
    [
        ("sec", {}, ["a", None, "b"], "sec needs a category for every sample, and 1 of 3 have"),
        ("edco", {"max_category_share": 0.5}, ["a", None, "b"], "edco needs a category"),
        ("edco", {"max_category_share": 0.3}, ["a", "b", "a"], r"Allowed: 0\.5 to 1"),
    ],
)
def test_a_pool_without_the_categories_that_are_needed_is_refused(
    name: str, settings: dict[str, Any], categories: list[str | None], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        check_categories(section_of(name, settings), samples_with(category=categories))
    check_categories(section_of("edco", {}), samples_with(category=categories))


# ------------------------------------------------------------------- static orders


def test_intervals_go_through_the_order_and_begin_again_at_its_end() -> None:
    known = replace(some_evidence(), samples=samples_with(prompt_chars=[30, 10, 20, 50, 40]))
    known = replace(known, scores=np.ones(5))
    told = [select("length", replace(known, interval=k), 2).ordinals.tolist() for k in range(3)]
    assert told == [[1, 2], [0, 4], [3, 1]]
    hard = select("length", known, 3, order="hard_first")
    assert hard.ordinals.tolist() == [3, 4, 0]


def test_complex_answers_have_many_different_words() -> None:
    answers = ["a a a a a a", "one, two", None, "one two three four"]
    texts = samples_with(prompt=["p"] * 4, completion=answers)
    known = replace(some_evidence(), samples=texts, scores=np.ones(4))
    assert select("answer_complexity", known, 4).ordinals.tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("name", ["perplexity", "static_entropy"])
def test_the_order_is_that_of_the_first_scores_whatever_came_later(name: str) -> None:
    known = some_evidence(2)
    selection = select(name, known, 10)
    order = np.argsort(known.scores_at(0), kind="stable")
    assert selection.ordinals.tolist() == order[20:30].tolist()


# ------------------------------------------------------------------- by score


def test_dynamic_ppl_takes_the_highest_losses_in_descending_order() -> None:
    known = some_evidence()
    assert select("dynamic_ppl", known, 30).ranks.tolist() == list(range(1, 31))


def test_an_entropy_band_is_drawn_evenly_and_nothing_outside_it() -> None:
    known = some_evidence(size=40)
    told = frequencies("entropy_band", known, 5, 400, low=0.25, high=0.75)
    is_inside = np.isin(rank_descending(known.scores)[1], range(11, 31))
    assert set(told[~is_inside]) == {0.0}
    assert np.abs(told[is_inside] - 5 / 20).max() < 4 * np.sqrt(0.25 * 0.75 / 400)


def test_a_band_that_is_too_narrow_for_n_is_refused() -> None:
    section = section_of("entropy_band", {"top_n": 0.5, "low": 0.5, "high": 0.75})
    with pytest.raises(ConfigError, match=r"leave 50 of 200\. Allowed: top_n up to 50"):
        section.count(200)


@pytest.mark.parametrize(
    ("weighting", "weights"),
    [
        ("linupper", [np.exp(0), np.exp(1), np.exp(1)]),
        ("quadratic", [np.exp(0), np.exp(1), np.exp(0)]),
        ("extremes", [np.exp(1), np.exp(0), np.exp(1)]),
    ],
)
def test_losses_are_weighted_as_the_paper_does(weighting: str, weights: list[float]) -> None:
    known = replace(some_evidence(), scores=np.array([1.0, 2.0, 3.0]))
    told = frequencies("loss_reweighting", known, 1, 2000, weighting=weighting)
    assert told == pytest.approx(np.array(weights) / sum(weights), abs=0.045)


def test_what_is_learned_late_is_drawn_more_often() -> None:
    early, late, never = [1.0, 9, 9], [9.0, 9, 1], [9.0, 9, 9]  # once learned is learned
    history = np.array([early, late, never]).T
    known = KnownEvidence(history[2], interval=2, earlier_scores=[history[0], history[1]])
    told = frequencies("late_learned", known, 1, 2500, upsampling=4.0, learned_quantile=0.3)
    # learned at intervals 0 and 2, and not yet after 3: weights 1, 1 + 3 * 2/3 and 4
    assert told == pytest.approx(np.array([1, 3, 4]) / 8, abs=0.045)


# ------------------------------------------------------------------- campus


def test_competence_doubles_to_the_whole_pool() -> None:
    strategy = CampusStrategy(section_of("campus", {}))
    told = [strategy.settings.competence(t, 5) for t in range(6)]
    assert told == pytest.approx([0, 0.01, 0.135, 0.26, 0.51, 1.0])


def test_a_slice_shorter_than_n_grows_towards_the_easy_end() -> None:
    strategy = CampusStrategy(section_of("campus", {}))
    known = replace(some_evidence(), num_intervals=5)  # of 200: places 2, 27, 52, 102, 200
    told = [strategy.slice_at(replace(known, interval=k), 40) for k in range(5)]
    assert told == [(0, 40), (0, 40), (12, 52), (52, 102), (102, 200)]


def test_the_perspective_whose_slice_has_the_lowest_mean_loss_is_taken() -> None:
    losses = np.array([5.0, 1, 2, 9])
    texts = samples_with(prompt_chars=[1, 20, 30, 40], completion_chars=[0, 0, 0, 0])
    known = replace(some_evidence(), samples=texts, scores=losses)
    selection = select("campus", known, 2, perspectives=["length", "loss"])
    assert selection.facts["means"] == {"length": 3.0, "loss": 1.5}
    assert selection.ordinals.tolist() == [1, 2]
    assert select("campus", known, 2, perspectives=["length"]).ordinals.tolist() == [0, 1]


def test_the_learned_perspective_finds_what_makes_texts_hard() -> None:
    known = some_evidence()
    columns = known.samples.statistics
    weights = learned_weights(columns, columns[:, 1])  # losses that are the answers' lengths
    predicted = columns @ weights
    assert np.corrcoef(predicted, columns[:, 1])[0, 1] > 0.95


def test_mtld_is_words_per_factor_forwards_and_backwards() -> None:
    assert mtld(list("abcdefgh")) == 8  # nothing comes again
    # a a: half of them different, below 0.72, is a factor; so every two words are one
    assert mtld(["a"] * 8) == 2
    assert mtld([]) == 0
    # forwards a b a: 2 / 3 is a factor, then c d e f: none; backwards the same after f e d c a b a
    # with 6 of 7 different: a part of (1 - 6/7) / (1 - 0.72) of a factor
    assert mtld(list("abacdef")) == pytest.approx((7 + 7 / ((1 / 7) / 0.28)) / 2)


def test_words_are_split_in_any_script_and_statistics_are_of_both_texts() -> None:
    assert words("GPU显存eth0接口") == ["gpu", "显", "存", "eth0", "接", "口"]
    assert words("Port Gi0/1 日本 down!") == ["port", "gi0", "/", "1", "日", "本", "down", "!"]
    # the tokens of both are ab, 1, !, x2; "AB 1! X2" has eight characters
    mtld_of_four = np.log1p(4)
    logs = np.log1p([5, 2, 3, 1])
    ascii_only = [*logs, 6 / 4, 1, mtld_of_four, 2 / 8, 1 / 8, 3 / 8]
    assert statistics(["AB 1!"], ["X2"])[0].tolist() == ascii_only
    assert statistics(["ÉB ٣¿"], ["X2"])[0].tolist() == ascii_only
    assert statistics(["ab 1"], [None]).shape == (1, 10)
    assert statistics([], []).shape == (0, 10)


def test_texts_read_in_parts_are_read_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = some_evidence().samples
    in_two = [len(at_once.statistics) - 30, 30]
    weights = learned_weights(at_once.statistics, some_evidence().scores)
    monkeypatch.setattr("edco_core.curriculum.evidence._TEXTS_AT_ONCE", in_two[0])
    monkeypatch.setattr("edco_core.curriculum.campus._ROWS_AT_ONCE", in_two[0])
    in_parts = some_evidence().samples
    assert [len(prompts) for prompts, _ in in_parts.texts()] == in_two
    assert in_parts.statistics.tolist() == at_once.statistics.tolist()
    assert in_parts.num_different_words.tolist() == at_once.num_different_words.tolist()
    assert learned_weights(at_once.statistics, some_evidence().scores) == weights


# ------------------------------------------------------------------- bandits


def test_slots_an_arm_is_too_small_for_go_to_the_others() -> None:
    slots = draw_slots(np.array([0.98, 0.02, 0.0]), np.array([3, 50, 50]), 40, generator())
    assert slots[0] == 3
    assert slots.sum() == 40


def generator() -> np.random.Generator:
    return derive_generator(0, 0, "selection")[0]


@pytest.mark.parametrize("name", ["sec", "dump"])
def test_more_slots_go_where_there_was_more_to_learn(name: str) -> None:
    known = some_evidence(1)
    codes = known.samples.categories.codes
    groups = answered(np.arange(200))
    groups = replace(groups, advantage_abs_mean=np.where(codes == 1, 0.9, 0.1))
    selection = select(name, replace(known, earlier_rollouts=[groups]), 30, temperature=0.1)
    arms = selection.facts["arms"]
    assert arms["b"]["share"] > 0.8
    assert arms["b"]["num_slots"] > 20


def test_sec_averages_and_lets_arms_without_answers_decay() -> None:
    known = some_evidence(1)
    codes = known.samples.categories.codes
    groups = answered(np.flatnonzero(codes == 0)[:4])
    groups = replace(groups, advantage_abs_mean=np.array([0.2, 0.4, 0.6, 0.8]))
    known = replace(known, earlier_rollouts=[groups], state={"q": {"a": 0.1, "b": 0.8}})
    told = select("sec", known, 30, learning_rate=0.25).state["q"]
    assert told == pytest.approx({"a": 0.75 * 0.1 + 0.25 * 0.5, "b": 0.6, "c": 0.0})


def test_dump_adds_a_bonus_for_arms_that_were_rarely_tried() -> None:
    known = some_evidence(1)
    codes = known.samples.categories.codes
    ordinals = [*np.flatnonzero(codes == 0)[:6], *np.flatnonzero(codes == 1)[:2]]
    groups = replace(answered(ordinals), advantage_abs_mean=np.linspace(0.1, 0.8, 8))
    selection = select("dump", replace(known, earlier_rollouts=[groups]), 30, window=8)
    told = {name: arm["value"] for name, arm in selection.facts["arms"].items()}
    assert told == pytest.approx(
        {
            "a": 0.55 + np.sqrt(2 * np.log(9) / 7),  # the newest two groups of four answers
            "b": 0.75 + np.sqrt(2 * np.log(9) / 3),
            "c": np.sqrt(2 * np.log(9)),
        }
    )


def test_an_arm_goes_through_all_its_samples_before_one_comes_again() -> None:
    known = some_evidence()
    seen: list[int] = []
    for interval in range(8):
        chosen = select("sec", replace(known, interval=interval), 20, seed=interval).ordinals
        known = replace(
            known,
            earlier_selections=[*known.earlier_selections, chosen],
            earlier_rollouts=[*known.earlier_rollouts, None],
        )
        seen += chosen.tolist()
    times = np.bincount(seen, minlength=200)
    for code in range(3):
        own = times[known.samples.categories.codes == code]
        assert own.max() - own.min() <= 1


# ------------------------------------------------------------------- stages

SMALLEST = {"model": {"name_or_path": "m"}, "data": {"train": "d"}}
STAGES = {
    "type": "stages",
    "intervals": 4,
    "top_n": 10,
    "stages": [
        {"until": 0.5, "strategy": {"type": "random"}},
        {"strategy": {"type": "edco", "preset": "paper"}},
    ],
}


def stages(**changed: Any) -> dict[str, Any]:
    return {**SMALLEST, "curriculum": {**STAGES, **changed}}


def test_each_interval_is_selected_by_its_stage() -> None:
    settings = {key: value for key, value in STAGES.items() if key != "type"}
    rules = [
        select("stages", some_evidence(interval), 10, **settings).facts["rule"]
        for interval in range(4)
    ]
    assert rules == ["random", "random", "edco", "edco"]


@pytest.mark.parametrize(
    ("types", "looked_at"),
    [
        (["random", "random"], set()),
        (["edco", "random"], {0, 1}),
        (["random", "edco"], {2, 3}),
        (["random", "static_entropy"], {0}),
        (["random", "late_learned"], {0, 1, 2, 3}),
    ],
)
def test_of_scores_stages_look_at_what_their_strategies_do(
    types: list[str], looked_at: set[int]
) -> None:
    first, second = ({"type": each} for each in types)
    parts = [{"until": 0.5, "strategy": first}, {"strategy": second}]
    assert parse_config(stages(stages=parts)).curriculum.looks_at(range(4)) == looked_at


def test_stages_of_another_number_of_samples_refuse_what_any_of_them_cannot_do() -> None:
    band = {"type": "entropy_band", "low": 0.2, "high": 0.65}
    parts = [{"until": 0.5, "strategy": {"type": "random"}}, {"strategy": band}]
    curriculum = parse_config(stages(stages=parts, guard={"control_share": 0.2})).curriculum
    with pytest.raises(ConfigError, match=r"keeps 200 apart"):
        check_room(curriculum.with_count(440), 1000)
    check_room(curriculum.with_count(360), 1000)


def test_what_a_stage_remembers_is_its_own_and_kept_by_the_others() -> None:
    settings = {
        "intervals": 3,
        "stages": [
            {"until": 1, "strategy": {"type": "sec"}},
            {"until": 2, "strategy": {"type": "random"}},
            {"strategy": {"type": "sec"}},
        ],
    }
    state: dict[str, Any] = {}
    told = []
    for interval in range(3):
        known = replace(some_evidence(interval), state=state)
        state = select("stages", known, 10, **settings).state
        told.append(state)
    assert set(told[0]["0"]["q"].values()) == {0.0}
    assert told[1] == {**told[0], "1": {}}
    assert told[2]["0"] == told[0]["0"]
    assert max(told[2]["2"]["q"].values()) > 0


def test_stages_read_from_a_ledger_are_those_that_were_written() -> None:
    config = parse_config(stages())
    assert parse_config(config.for_ledger()).curriculum == config.curriculum
    assert config.curriculum.looks_at(range(4)) == {2, 3}
    assert config.curriculum.ends() == [2, 4]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"intervals": 1}, "makes it end before interval 0"),
        ({"stages": [{"until": 2, "strategy": {"type": "random"}}]}, "Leave out its 'until'"),
        (
            {"stages": [{"strategy": {"type": "random", "top_n": 3}}]},
            "stages.0.strategy.top_n would be ignored",
        ),
        (
            {"stages": [{"strategy": {"type": "stages", "stages": []}}]},
            "curriculum.stages.0.strategy.type",
        ),
        ({"stages": [{"strategy": {"type": "sec"}}]}, "curriculum.type: sec learns from rewarded"),
        ({"stages": []}, "curriculum.stages"),
        (
            {"stages": [{"until": math.inf, "strategy": {"type": "random"}}]},
            "curriculum.stages.0.until",
        ),
    ],
)
def test_stages_that_make_no_sense_are_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("'", ".")):
        parse_config(stages(**changed))
