"""Reinforcement learning over many intervals: exact, traceable, every group of answers kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training_sft import Loop, make_pool, stop_after

from edco_core.config import GrpoSection, LoraSection, RandomSection
from edco_core.config_curriculum import StagesSection
from edco_core.config_rewarded import (
    CuresSection,
    DifficultyFilterSection,
    ShuffleR1Section,
    SpeedSection,
)
from edco_core.errors import ConfigError, StopRequested
from edco_core.records import Beliefs, GradientTerms, Known, RolloutGroups, TrainingOutcome
from edco_core.training import make_plan
from edco_core.training.answers import StepAnswers
from edco_core.training.gradients import group_gradients
from edco_core.training.rollouts import Gradients

ANSWERS = 4
ARGS: dict[str, Any] = {
    "per_device_train_batch_size": 16,
    "num_generations": ANSWERS,
    "max_completion_length": 6,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "cosine",
    "beta": 0.05,
    "save_steps": 2,
}
KNOWN = Known(
    Beliefs(np.arange(0, 80, 2), np.linspace(0.1, 9.0, 40), np.full(40, 2.0)),
    measured=np.arange(0, 80, 3),
    gradients=GradientTerms(np.linspace(1.0, 9.0, 27), np.full(27, 2.0), np.full(27, np.nan)),
)
REWARDS = [
    {"type": "contains", "texts": ["a"]},
    {"type": "contains", "texts": ["e"], "weight": 0.5},
]


@pytest.fixture
def new_loop(tiny_model: Path, log_files: tuple[Path, Path], tmp_path: Path) -> Callable[..., Loop]:
    """Intervals of 20 prompts, four to a step and four answers to each."""

    def build(
        name: str,
        *,
        peft: bool = True,
        dropout: float = 0.1,
        args: dict[str, Any] | None = None,
        curriculum: Any = None,
        known: Known | None = None,
        **settings: Any,
    ) -> Loop:
        lora = LoraSection(r=4, lora_dropout=dropout) if peft else None
        section = GrpoSection(rewards=REWARDS, args={**ARGS, **(args or {})}, **settings)
        pool, folder = make_pool(log_files[0]), tmp_path / name
        return Loop(tiny_model, pool, folder, section, lora, curriculum=curriculum, known=known)

    return build


def groups(outcomes: list[TrainingOutcome]) -> list[tuple[Any, ...]]:
    """Every group of all intervals, as plain values."""
    found: list[tuple[Any, ...]] = []
    for outcome in outcomes:
        assert outcome.rollouts is not None
        columns = [
            getattr(outcome.rollouts, n) for n in RolloutGroups.__slots__ if n != "gradients"
        ]
        if outcome.rollouts.gradients is not None:
            terms = outcome.rollouts.gradients
            columns += [
                np.nan_to_num(each, nan=-1) for each in (terms.correct, terms.wrong, terms.gap)
            ]
        found += zip(*(column.tolist() for column in columns), strict=True)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"restart_optimizer": True, "args": {"beta": 0.0}},
        {"kl_reference": "moving", "keep_rollout_texts": True},
        {"peft": False},
        {"peft": False, "kl_reference": "moving"},
        {"skip_without_signal": True, "keep_rollout_texts": True},
        {"args": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}},
        {"args": {"num_iterations": 2}},
        {
            "args": {
                "per_device_train_batch_size": 8,
                "gradient_accumulation_steps": 2,
                "steps_per_generation": 1,
            }
        },
        {"curriculum": DifficultyFilterSection(low=0.3, max_redraws=1)},
        {"curriculum": SpeedSection(screening_answers=2), "keep_rollout_texts": True},
        {"curriculum": ShuffleR1Section()},
        {"curriculum": CuresSection(cold_start=2, gradient_terms=True), "known": KNOWN},
    ],
    ids=[
        "lora", "restart", "moving", "full", "full-moving", "skipping", "accumulating",
        "two-iterations", "each-batch", "filter", "speed", "pairs", "cures",
    ],
)  # fmt: skip
def test_a_run_stopped_anywhere_and_continued_in_a_new_process_state_is_identical(
    new_loop: Callable[..., Loop], settings: dict[str, Any]
) -> None:
    whole = new_loop("whole", **settings).run()

    interrupted = new_loop("interrupted", **settings)
    checkpoint = interrupted.start()
    outcomes: list[TrainingOutcome] = []
    for interval, steps in enumerate((3, 1, 4)):
        with pytest.raises(StopRequested):
            interrupted.train(interval, checkpoint, stop_after(steps))
        interrupted = new_loop("interrupted", **settings)  # nothing in memory survives
        outcomes.append(interrupted.train(interval, checkpoint))
        checkpoint = outcomes[-1].checkpoint

    assert [o.checkpoint.weights_sha256 for o in outcomes] == [
        o.checkpoint.weights_sha256 for o in whole
    ]
    assert [o.steps for o in outcomes] == [o.steps for o in whole]
    assert groups(outcomes) == groups(whole)
    for one, other in zip(outcomes, whole, strict=True):
        assert np.array_equal(one.step_ordinals, other.step_ordinals)
        assert (one.answers is None) == (not settings.get("keep_rollout_texts"))
        if one.answers is not None and other.answers is not None:
            assert one.answers.texts == other.answers.texts


def outcomes_of(loop: Loop) -> tuple[list[TrainingOutcome], RolloutGroups]:
    outcomes = loop.run()
    assert outcomes[0].rollouts is not None
    return outcomes, outcomes[0].rollouts


def test_every_prompt_of_the_stored_order_is_asked_in_its_place(
    new_loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import GRPOTrainer

    asked: list[list[str]] = []
    original = GRPOTrainer._generate

    def spy(self: Any, prompts: list[str]) -> Any:
        asked.append(prompts[::ANSWERS])
        assert prompts == [p for p in prompts[::ANSWERS] for _ in range(ANSWERS)]
        return original(self, prompts)

    monkeypatch.setattr(GRPOTrainer, "_generate", spy)
    loop = new_loop("run", epochs_per_interval=1.3)
    outcomes = loop.run()
    prompts = loop.pool.table.column("prompt").to_pylist()
    assert asked == [[prompts[i] for i in step] for o in outcomes for step in o.step_ordinals]
    # 1.3 epochs of 20 samples in steps of 4: 26 rows and two more to fill the seventh step
    assert outcomes[0].step_ordinals.shape == (7, 4)
    order = np.random.default_rng(0).permutation(len(loop.pool))[:20]
    assert np.array_equal(outcomes[0].step_ordinals.ravel(), np.resize(order, 28))
    rollouts = outcomes[0].rollouts
    assert rollouts is not None
    assert np.array_equal(rollouts.ordinals, np.resize(order, 28))
    assert rollouts.steps.tolist() == np.repeat(np.arange(1, 8), 4).tolist()
    assert rollouts.slots.tolist() == [0, 1, 2, 3] * 7


def test_a_group_tells_what_its_answers_were_worth(new_loop: Callable[..., Loop]) -> None:
    (outcome, *_), rollouts = outcomes_of(new_loop("run", keep_rollout_texts=True))
    answers = outcome.answers
    assert answers is not None
    texts = np.array(answers.texts, dtype=object).reshape(-1, ANSWERS)
    first = np.array([["a" in text for text in group] for group in texts])
    second = np.array([["e" in text for text in group] for group in texts])
    rewards = first + 0.5 * second
    assert rollouts.n.tolist() == [ANSWERS] * 20
    assert rollouts.n_correct.tolist() == first.sum(axis=1).tolist()  # the first reward decides
    assert np.allclose(rollouts.reward_mean, rewards.mean(axis=1))
    assert np.allclose(rollouts.reward_std, rewards.std(axis=1))
    advantages = (rewards - rewards.mean(axis=1, keepdims=True)) / (
        rewards.std(axis=1, ddof=1, keepdims=True) + 1e-4
    )
    assert np.allclose(rollouts.advantage_abs_mean, np.abs(advantages).mean(axis=1), atol=1e-5)
    assert (rollouts.reward_std == 0).tolist() == (rollouts.advantage_abs_mean == 0).tolist()
    assert 0 < (rollouts.reward_std == 0).sum() < 20
    lengths = answers.n_tokens.reshape(-1, ANSWERS)
    assert np.allclose(rollouts.n_tokens_mean, lengths.mean(axis=1))
    assert lengths.max() == ARGS["max_completion_length"]
    assert np.allclose(
        rollouts.truncated_share, answers.truncated.reshape(-1, ANSWERS).mean(axis=1)
    )
    assert answers.truncated[answers.n_tokens < 6].sum() == 0


def test_steps_tell_the_entropy_of_the_policy_and_its_distance_from_the_reference(
    new_loop: Callable[..., Loop],
) -> None:
    steps = [step for outcome in new_loop("run").run() for step in outcome.steps]
    assert [step.step for step in steps] == list(range(1, 16))
    assert all(step.policy_entropy is not None and step.policy_entropy > 0 for step in steps)
    assert steps[0].kl == 0  # nothing has been learned yet
    assert all(step.kl is not None and step.kl > 0 for step in steps[3:])
    tokens = [step.num_tokens or 0 for step in steps]
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("peft", [True, False], ids=["lora", "full"])
def test_the_kl_reference_is_the_start_of_the_run_or_where_it_moves_of_the_interval(
    new_loop: Callable[..., Loop], peft: bool
) -> None:
    """The first step of an interval is as far from the reference as training has come since."""
    first_kl: dict[str, list[float]] = {}
    for kind in ("start", "moving"):
        loop = new_loop(kind, peft=peft, dropout=0.0, kl_reference=kind)
        first_kl[kind] = [outcome.steps[0].kl or 0.0 for outcome in loop.run()]
    assert max(first_kl["moving"]) < 1e-6
    assert first_kl["start"][0] < 1e-6
    assert min(first_kl["start"][1:]) > 0.05


def test_the_reference_leaves_no_trace_in_saves_or_in_the_model(
    new_loop: Callable[..., Loop],
) -> None:
    loop = new_loop("run", kl_reference="moving")
    outcome = loop.train(0, loop.start())
    saved = Path(outcome.checkpoint.path)
    assert [path.name for path in saved.iterdir() if path.is_dir()] == []
    assert set(loop.host.model.peft_config) == {"default"}
    assert not any(".ref." in name for name, _ in loop.host.model.named_parameters())


def test_prompts_without_signal_are_passed_over_and_charged(
    new_loop: Callable[..., Loop],
) -> None:
    (outcome, *_), rollouts = outcomes_of(new_loop("run", skip_without_signal=True))
    trained, has_signal = rollouts.slots >= 0, rollouts.reward_std > 0
    assert trained.sum() == 20  # five steps of four prompts, as without it
    assert (~trained).sum() > 0
    assert not has_signal[~trained].any()
    order = np.random.default_rng(0).permutation(80)[:20]
    assert np.array_equal(rollouts.ordinals, np.resize(order, len(rollouts.ordinals)))
    assert np.array_equal(rollouts.ordinals[trained].reshape(5, 4), outcome.step_ordinals)


def test_a_step_asks_no_more_often_than_it_may_and_then_takes_what_there_is(
    new_loop: Callable[..., Loop],
) -> None:
    settings = {"rewards": [{"type": "contains", "texts": ["\x00never"]}]}
    loop = new_loop("run", skip_without_signal=True, max_redraws=2)
    loop.trainer._settings = loop.settings.model_copy(
        update={"rewards": GrpoSection.model_validate(settings).rewards}
    )
    loop.start()
    rollouts = loop.train(0, loop.start()).rollouts
    assert rollouts is not None
    assert len(rollouts.steps) == 5 * 4 * 3
    assert (rollouts.slots >= 0).reshape(5, 3, 4)[:, 0].all()
    assert (rollouts.slots == -1).reshape(5, 3, 4)[:, 1:].all()


def test_gradients_are_those_of_the_answers_and_measuring_leaves_no_trace(
    new_loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0

    def by_hand(trainer: Any, step: StepAnswers) -> list[Gradients]:
        nonlocal checked
        before, model = torch.get_rng_state(), trainer.model
        found = group_gradients(trainer, step)
        assert torch.equal(torch.get_rng_state(), before)
        assert model.training
        assert all(each.grad is None for each in model.parameters())
        model.eval()  # as an answer's probability is without dropout
        trained = [each for each in model.parameters() if each.requires_grad]
        (batch,) = [call.batch for call in step.calls]
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        log_p = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
        each_token = log_p.gather(2, ids[:, 1:, None])[:, :, 0]
        prompt_width = batch["prompt_ids"].shape[1]
        answer = torch.nn.functional.pad(batch["completion_mask"], (prompt_width, 0))
        each_answer = (each_token * answer[:, 1:]).sum(1)
        vectors = [
            torch.cat([g.flatten() for g in torch.autograd.grad(one, trained, retain_graph=True)])
            for one in each_answer
        ]
        model.train()
        for group, gradients in enumerate(found):
            places = step.of(group)
            right = [vectors[i] for i in places if step.is_correct[i]]
            wrong = [vectors[i] for i in places if not step.is_correct[i]]
            for vs, told in ((right, gradients.correct), (wrong, gradients.wrong)):
                norms = [float(v.square().sum()) for v in vs]
                assert told == (pytest.approx(np.mean(norms), rel=1e-3) if norms else None)
            if right and wrong:
                gap = torch.stack(right).mean(0) - torch.stack(wrong).mean(0)
                assert gradients.gap == pytest.approx(float(gap.square().sum()), rel=1e-3)
                checked += 1
            else:
                assert gradients.gap is None
        return found

    monkeypatch.setattr("edco_core.training.grpo.group_gradients", by_hand)
    everybody = Beliefs(np.arange(80), np.ones(80), np.ones(80))
    settings = CuresSection(gradient_terms=True)
    loop = new_loop("run", curriculum=settings, known=Known(everybody))
    outcome = loop.train(0, loop.start())
    assert checked > 0
    assert outcome.rollouts is not None
    assert outcome.rollouts.gradients is not None
    is_mixed = (outcome.rollouts.n_correct > 0) & (outcome.rollouts.n_correct < outcome.rollouts.n)
    assert np.array_equal(~np.isnan(outcome.rollouts.gradients.gap), is_mixed)


def test_answers_are_sampled_by_the_rule_that_is_in_force(new_loop: Callable[..., Loop]) -> None:
    loop = new_loop("run", curriculum=ShuffleR1Section(), known=Known(None, rule=RandomSection()))
    rollouts = loop.train(0, loop.start()).rollouts
    assert rollouts is not None
    assert rollouts.n_trained is not None
    assert set(rollouts.n_trained.tolist()) == {ANSWERS}  # not the pairs of shuffle_r1


def test_a_rule_of_the_curriculum_decides_what_a_step_trains_on(
    new_loop: Callable[..., Loop],
) -> None:
    outcome = (loop := new_loop("run", curriculum=ShuffleR1Section())).train(0, loop.start())
    rollouts = outcome.rollouts
    assert rollouts is not None
    assert rollouts.n_trained is not None
    assert rollouts.n.tolist() == [ANSWERS] * 20
    by_step = rollouts.n_trained.reshape(5, 4)
    assert by_step.sum(axis=1).tolist() == [4 * ANSWERS // 2] * 5  # half of all answers
    assert (rollouts.slots >= 0).tolist() == (rollouts.n_trained > 0).tolist()
    assert 0 < (by_step == 0).sum() < 20  # no pair of some prompts was drawn
    for step, ordinals in enumerate(outcome.step_ordinals):
        trained = rollouts.ordinals.reshape(5, 4)[step][by_step[step] > 0]
        assert ordinals.tolist() == [*trained, *[-1] * (4 - len(trained))]


def test_each_interval_samples_by_the_rule_of_its_stage(new_loop: Callable[..., Loop]) -> None:
    first = {"until": 1, "strategy": {"type": "random"}}
    stages = StagesSection.model_validate(
        {"intervals": 3, "stages": [first, {"strategy": {"type": "shuffle_r1"}}]}
    )
    trained = []
    for outcome in new_loop("run", curriculum=stages).run():
        assert outcome.rollouts is not None
        assert outcome.rollouts.n_trained is not None
        trained.append(int(outcome.rollouts.n_trained.sum()))
    assert trained == [20 * ANSWERS, 10 * ANSWERS, 10 * ANSWERS]


def test_two_optimizer_steps_may_share_answers_and_stops_wait_for_both(
    new_loop: Callable[..., Loop],
) -> None:
    loop = new_loop("run", args={"num_iterations": 2})
    start = loop.start()
    with pytest.raises(StopRequested, match="after step 4"):
        loop.train(0, start, stop_after(2))  # asked at step 2 and, not at 3, at 4
    outcome = loop.train(0, start)
    assert outcome.step_ordinals.shape == (10, 4)
    assert np.array_equal(outcome.step_ordinals[::2], outcome.step_ordinals[1::2])
    assert outcome.rollouts is not None
    assert sorted(set(outcome.rollouts.steps.tolist())) == [1, 3, 5, 7, 9]


def test_an_interval_killed_between_its_last_save_and_its_row_keeps_its_groups(
    new_loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new_loop("run")
    start = first.start()
    outcome = first.train(0, start)
    monkeypatch.setattr("trl.GRPOTrainer.train", lambda *a, **k: pytest.fail("trained again"))
    repeated = new_loop("run").train(0, start)
    assert repeated.checkpoint == outcome.checkpoint
    assert repeated.steps == outcome.steps
    assert groups([repeated]) == groups([outcome])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, (4, 5, 1)),
        ({"gradient_accumulation_steps": 2}, (8, 3, 1)),
        ({"gradient_accumulation_steps": 2, "steps_per_generation": 1}, (8, 3, 1)),
        ({"num_iterations": 2}, (4, 10, 2)),
        ({"gradient_accumulation_steps": 2, "num_iterations": 3}, (8, 9, 3)),
        (
            {"gradient_accumulation_steps": 4, "steps_per_generation": 1, "num_iterations": 2},
            (8, 3, 1),
        ),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}, (2, 10, 1)),
    ],
)
def test_a_step_has_as_many_prompts_as_its_answers_make_groups(
    args: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    section = GrpoSection(rewards=REWARDS, args={**ARGS, "save_steps": 6, **args})
    plan = make_plan(section, num_intervals=3, samples_per_interval=20)
    assert (plan.slots_per_step, plan.steps_per_interval, plan.steps_per_round) == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"num_generations": 5}, r"num_generations: 5 came.*Allowed with these: 2, 4, 8, 16"),
        ({"num_generations": 1}, "not whole groups of at least 2"),
        ({"per_device_train_batch_size": 1}, "Allowed with these: nothing; or use a multiple of 4"),
        ({"steps_per_generation": 2}, "could not be traced back to its prompts"),
        ({"num_iterations": 2, "save_steps": 3}, "answers are used for 2 steps.*multiple of that"),
        ({"betta": 0.1}, "GRPOConfig has no such setting. Did you mean 'beta'"),
        ({"optim": "adamm"}, "training.args: adamm is not a valid"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused_with_what_does(
    args: dict[str, Any], message: str
) -> None:
    section = GrpoSection(rewards=REWARDS, args={**ARGS, **args})
    with pytest.raises(ConfigError, match=message):
        make_plan(section, num_intervals=3, samples_per_interval=20)


@pytest.mark.parametrize(
    ("peft", "args", "message"),
    [
        ({"bias": "all"}, {}, "would have no reference. Use 'bias: none'"),
        ({}, {"use_vllm": True}, "vLLM is not installed here. Type: pip install 'trl"),
        ({}, {"learning_rate": "fast"}, "training.args: "),
    ],
)
def test_what_the_model_cannot_do_is_found_out_before_a_run_exists(
    new_loop: Callable[..., Loop], peft: dict[str, Any], args: dict[str, Any], message: str
) -> None:
    loop = new_loop("run", args=args)
    loop.peft = LoraSection(**peft)
    loop.__post_init__()
    with pytest.raises(ConfigError, match=message):
        loop.trainer.prepare()
