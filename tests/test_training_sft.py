"""One training over many intervals: exact, stoppable, traceable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from edco_core.checkpoints import mark_complete, weights_sha256
from edco_core.config import GrpoSection, LoraSection, ModelSection, SftSection
from edco_core.errors import ConfigError, DataError, StopRequested, TrainingError
from edco_core.loading import ModelHost
from edco_core.records import Checkpoint, Known, Pool, TrainingOutcome
from edco_core.training import build_trainer, make_plan

INTERVALS, SAMPLES = 3, 20
ARGS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "learning_rate": 5e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "save_steps": 2,
}


def make_pool(path: Path) -> Pool:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    columns = {
        "sample_id": [f"{i:04d}" for i in range(len(rows))],
        "prompt": [row["prompt"] for row in rows],
        "completion": [row["completion"] for row in rows],
        **{name: [None] * len(rows) for name in ("answer", "category", "metadata", "source")},
        "content_hash": [f"{i:016x}" for i in range(len(rows))],
    }
    return Pool("fp", str(path), pa.table(columns), conversational=False)


@dataclass
class Loop:
    """Training intervals of one run, in fixed orders, without scoring or a ledger."""

    model: Path
    pool: Pool
    run_dir: Path
    settings: SftSection | GrpoSection
    peft: LoraSection | None
    four_bit: bool = False
    curriculum: Any = None
    known: Known | None = None

    def __post_init__(self) -> None:
        section = ModelSection(
            name_or_path=str(self.model), peft=self.peft, load_in_4bit=self.four_bit
        )
        self.host = ModelHost(section, seed=1)
        plan = make_plan(self.settings, num_intervals=INTERVALS, samples_per_interval=SAMPLES)
        self.trainer = build_trainer(
            self.settings, self.pool, self.host, plan,
            curriculum=self.curriculum, run_id="t", run_dir=self.run_dir, seed=1,
        )  # fmt: skip

    def start(self) -> Checkpoint:
        folder = self.host.save_start(self.run_dir / "checkpoints" / "start")
        if self.peft is not None:
            mark_complete(folder, run_id="t", step=0, num_tokens=0)
        return Checkpoint(0, 0, str(folder), weights_sha256(folder))

    def train(
        self, interval: int, start: Checkpoint, should_stop: Callable[[], bool] = lambda: False
    ) -> TrainingOutcome:
        order = np.random.default_rng(interval).permutation(len(self.pool))[:SAMPLES]
        begin = self.model if self.peft is None else self.run_dir / "checkpoints" / "start"
        return self.trainer.train_interval(
            interval,
            order,
            start,
            Checkpoint(0, 0, str(begin), weights_sha256(begin)),
            confirm_ownership=lambda: None,
            should_stop=should_stop,
            on_progress=lambda done, total: None,
            known=self.known,
        )

    def run(self) -> list[TrainingOutcome]:
        outcomes: list[TrainingOutcome] = []
        checkpoint = self.start()
        for interval in range(INTERVALS):
            outcomes.append(self.train(interval, checkpoint))
            checkpoint = outcomes[-1].checkpoint
        return outcomes


@pytest.fixture
def new_loop(tiny_model: Path, log_files: tuple[Path, Path], tmp_path: Path) -> Callable[..., Loop]:
    def build(name: str, *, peft: bool = True, four_bit: bool = False, **settings: Any) -> Loop:
        lora = LoraSection(r=4, lora_dropout=0.1) if peft else None
        section = SftSection(**{"args": ARGS, **settings})
        return Loop(tiny_model, make_pool(log_files[0]), tmp_path / name, section, lora, four_bit)

    return build


@pytest.fixture
def quantised_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bitsandbytes quantise here, as it does on CUDA.

    On CPUs with AVX-512 it packs the weights anew after each save and loses bits by that.
    """
    monkeypatch.setattr("edco_core.loading._check_4bit", lambda: None)
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)


def stop_after(num_steps: int) -> Callable[[], bool]:
    calls = iter(range(1, 10_000))
    return lambda: next(calls) >= num_steps


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"restart_optimizer": True},
        {"peft": False},
        {"args": {**ARGS, "bf16": True}},
        {"args": {**ARGS, "bf16": True}, "four_bit": True},
    ],
    ids=["lora", "restart", "full", "autocast", "qlora"],
)
@pytest.mark.usefixtures("quantised_on_the_cpu")
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


def test_full_fine_tuning_of_tied_weights_does_not_warn_that_some_are_missing(
    new_loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(
        "transformers.trainer.logger.warning", lambda told, *_: warnings.append(told)
    )
    loop = new_loop("run", peft=False)
    loop.run()
    assert loop.host.model.all_tied_weights_keys
    assert [told for told in warnings if "missing" in told] == []


def test_steps_run_on_across_intervals_under_one_schedule(new_loop: Callable[..., Loop]) -> None:
    steps = [step for outcome in new_loop("run").run() for step in outcome.steps]
    assert [step.step for step in steps] == list(range(1, 16))
    rates = [step.learning_rate or 0.0 for step in steps]
    assert rates[0] == 0.0
    assert max(rates) == rates[3]
    assert rates[4:] == sorted(rates[4:], reverse=True)  # it never starts again
    tokens = [step.num_tokens or 0 for step in steps]
    assert tokens == sorted(set(tokens))


def test_restart_optimizer_starts_schedule_and_optimizer_afresh_each_interval(
    new_loop: Callable[..., Loop],
) -> None:
    outcomes = new_loop("run", restart_optimizer=True).run()
    assert [[s.learning_rate for s in o.steps] for o in outcomes] == [
        [s.learning_rate for s in outcomes[0].steps]
    ] * INTERVALS
    assert [s.step for o in outcomes for s in o.steps] == list(range(1, 16))


def test_each_step_trains_on_exactly_the_samples_it_is_said_to(
    new_loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTTrainer

    seen: list[list[tuple[int, ...]]] = []
    original = SFTTrainer.compute_loss

    def spy(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        rows = zip(inputs["input_ids"].tolist(), inputs["attention_mask"].tolist(), strict=True)
        seen.append([tuple(t for t, m in zip(*row, strict=True) if m) for row in rows])
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", spy)
    loop = new_loop("run", epochs_per_interval=1.5)
    outcomes = loop.run()
    tokenized = loop.trainer._tokenized["input_ids"]
    told = [[tuple(tokenized[i]) for i in step] for o in outcomes for step in o.step_ordinals]
    assert seen == told
    # 1.5 epochs of 20 samples in steps of 4: 30 rows and two more to fill the eighth step
    assert outcomes[0].step_ordinals.shape == (8, 4)


def test_an_interval_killed_between_its_last_save_and_its_row_is_not_trained_again(
    new_loop: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new_loop("run")
    start = first.start()
    outcome = first.train(0, start)
    again = new_loop("run")
    monkeypatch.setattr("trl.SFTTrainer.train", lambda *a, **k: pytest.fail("trained again"))
    repeated = again.train(0, start)
    assert repeated.checkpoint == outcome.checkpoint
    assert repeated.steps == outcome.steps


def test_the_remains_of_a_killed_save_are_not_resumed_from(new_loop: Callable[..., Loop]) -> None:
    whole = new_loop("whole").run()
    loop = new_loop("run")
    start = loop.start()
    torn = loop.run_dir / "checkpoints" / "interval-000" / "checkpoint-3"
    torn.mkdir(parents=True)
    (torn / "adapter_model.safetensors").write_bytes(b"half a file")
    assert loop.train(0, start).checkpoint.weights_sha256 == whole[0].checkpoint.weights_sha256
    assert not torn.exists()


def test_a_loss_that_is_not_finite_stops_the_run(new_loop: Callable[..., Loop]) -> None:
    loop = new_loop("run", args={**ARGS, "learning_rate": 1e18, "max_grad_norm": 0.0})
    with pytest.raises(TrainingError, match="the loss is nan at step"):
        loop.run()


def test_changed_weights_on_disk_are_refused(new_loop: Callable[..., Loop]) -> None:
    loop = new_loop("run")
    start = loop.start()
    outcome = loop.train(0, start)
    path = Path(outcome.checkpoint.path) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(TrainingError, match="the weights changed since they were saved"):
        new_loop("run").train(1, outcome.checkpoint)


def test_a_prompt_that_leaves_no_room_for_its_completion_is_named(
    new_loop: Callable[..., Loop],
) -> None:
    loop = new_loop("run", args={**ARGS, "max_length": 8})
    with pytest.raises(DataError, match=r"prompt that fills max_length 8.*0000"):
        loop.train(0, loop.start())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"lerning_rate": 1e-4}, "no such setting. Did you mean 'learning_rate'?"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: use a whole number"),
        ({"lr_scheduler_type": "cosin"}, "training.args: cosin is not a valid"),
    ],
)
def test_arguments_trl_does_not_take_are_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        make_plan(SftSection(args=args), num_intervals=1, samples_per_interval=8)


def test_scoring_after_training_uses_the_models_own_forward_pass(
    new_loop: Callable[..., Loop],
) -> None:
    loop = new_loop("run")
    loop.train(0, loop.start())
    assert not any("forward" in vars(module) for module in loop.host.model.modules())
