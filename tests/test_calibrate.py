"""What a budget in seconds reckons with, of training that takes as long as it is told to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edco_core.training
from edco_core.config import parse_config
from edco_core.training import make_plan
from flows import calibrate

START_S, STEP_S, SAVE_S = 5.0, 1.0, 2.0


class Trainer:
    """Takes a second for each step, and more where answers are sampled; ``clock`` goes by it."""

    def __init__(self, clock: list[float], plan: Any, sampling_s: float) -> None:
        self._clock, self._plan, self._sampling_s = clock, plan, sampling_s

    def prepare(self) -> None:
        pass

    def train_interval(self, *_: Any, on_progress: Any, **__: Any) -> Any:
        num_steps, began = self._plan.steps_per_interval, self._clock[0]
        self._clock[0] += START_S
        for step in range(num_steps):
            is_first = step % self._plan.steps_per_round == 0
            self._clock[0] += STEP_S + (self._sampling_s if is_first else 0.0)
            on_progress(step + 1, num_steps)
        self._clock[0] += SAVE_S
        return SimpleNamespace(seconds=self._clock[0] - began, steps=[None] * num_steps)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Seconds of a step and an interval of these sections, by the sampling's seconds per type."""
    clock = [0.0]
    monkeypatch.setattr(calibrate, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(calibrate, "weights_sha256", lambda path: "")

    def measure(config: Any, sampling_s: dict[str | None, float]) -> dict[str, float]:
        def build(settings: Any, pool: Any, host: Any, plan: Any, **given: Any) -> Trainer:
            rule = given["curriculum"]
            return Trainer(clock, plan, sampling_s[None if rule is None else rule.type])

        monkeypatch.setattr(edco_core.training, "build_trainer", build)
        host: Any = SimpleNamespace(save_start=lambda path: path)
        inputs: Any = SimpleNamespace(pool=range(12_000))
        return calibrate._training_seconds(config, inputs, host, tmp_path)

    return measure


def grpo(curriculum: dict[str, Any], **args: int) -> Any:
    return parse_config(
        {
            "model": {"name_or_path": "m", "peft": None},
            "data": {"train": "t"},
            "curriculum": curriculum,
            "training": {
                "type": "grpo",
                "rewards": [{"type": "exact_match"}],
                "args": {"num_generations": 8, "per_device_train_batch_size": 8, **args},
            },
        }
    )


@pytest.mark.parametrize("num_iterations", [1, 2, 4])
def test_steps_that_sample_answers_and_steps_that_do_not_are_both_in_the_mean(
    measured: Any, num_iterations: int
) -> None:
    config = grpo({"type": "random"}, gradient_accumulation_steps=8, num_iterations=num_iterations)
    found = measured(config, {None: 20.0})
    plan = make_plan(config.training, num_intervals=1, samples_per_interval=800)
    assert plan.steps_per_round == num_iterations
    assert found["step"] == pytest.approx(STEP_S + 20.0 / num_iterations)
    assert found["interval"] == pytest.approx(START_S + SAVE_S)


def test_each_way_to_sample_answers_counts_as_often_as_it_has_its_turn(measured: Any) -> None:
    parts = [
        {"until": 1, "strategy": {"type": "random"}},
        {"until": 3, "strategy": {"type": "cures"}},
        {"until": 4, "strategy": {"type": "length"}},
        {"until": 6, "strategy": {"type": "cures"}},
        {"strategy": {"type": "difficulty_filter"}},
    ]
    config = grpo({"type": "stages", "intervals": 8, "stages": parts})
    found = measured(config, {None: 8.0, "cures": 16.0, "difficulty_filter": 80.0})
    assert found["step"] == pytest.approx(STEP_S + (2 * 8 + 4 * 16 + 2 * 80) / 8)
