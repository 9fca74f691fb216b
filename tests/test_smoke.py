"""Every strategy on a real tiny model: two intervals of one step, made again, and told why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from strategies import SMOKE
from test_reinforcement import TRAINING

from edco_core.config import Config, parse_config
from edco_core.curriculum import STRATEGIES
from edco_core.errors import ConfigError
from flows import begin, stages
from flows.replay import replay_run
from flows.why import why_sample
from storage import open_ledger, queries


def smoke_config(
    name: str, tiny_config: dict[str, Any], folder: Path, **settings: Any
) -> dict[str, Any]:
    """Two intervals of one step with what the strategy needs beside it."""
    curriculum = {"type": name, "intervals": 2, "top_n": 4, **SMOKE[name], **settings}
    data = {"train": tiny_config["data"]["train"]}
    run = {"name": "smoke", "output_dir": str(folder / "runs")}
    rewarded = {**TRAINING, "keep_rollout_texts": False}
    wishes = [
        (scoring, training)
        for training in (tiny_config["training"], rewarded)
        for scoring in (tiny_config["scoring"], {"type": "loss"})
    ]
    for scoring, training in wishes:
        config = {
            "run": run, "model": tiny_config["model"], "data": data, "scoring": scoring,
            "training": training, "curriculum": curriculum,
        }  # fmt: skip
        try:
            parse_config(config)
        except ConfigError as error:
            refused = error
        else:
            return config
    raise refused


def carry_out(config: Config, url: str) -> None:
    run = begin.start(config, url, "smoke")()
    with run.owned():
        for interval in range(run.plan.num_intervals):
            stages.take_checkpoint(run, interval)
            stages.score_pool(run, interval)
            stages.select_curriculum(run, interval)
            stages.train_interval(run, interval)


def test_there_is_a_smoke_configuration_for_every_strategy() -> None:
    assert list(SMOKE) == sorted(STRATEGIES)


@pytest.mark.parametrize("name", SMOKE)
def test_a_run_of_two_steps_is_replayed_and_explained(
    name: str, tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    url = f"duckdb:///{tmp_path}/edco.duckdb"
    carry_out(parse_config(smoke_config(name, tiny_config, tmp_path)), url)
    ledger = open_ledger(url, read_only=True)

    _, steps = ledger.query("SELECT interval, step FROM training_steps ORDER BY step")
    assert {interval for interval, _ in steps} == {0, 1}
    answer, is_same = replay_run(ledger, "smoke", None, [])
    assert is_same
    assert answer.after == ["all 2 curricula are identical"]
    chosen = ledger.selection("smoke", 1).ordinals
    out = next(i for i in range(80) if i not in chosen)
    for ordinal, begins in ((int(chosen[0]), "in, at position 0: "), (out, "out: ")):
        sample_id = queries.sample_at(ledger, "smoke", ordinal)
        row = why_sample(ledger, "smoke", sample_id, 1).facts["history"][0]
        assert row["explanation"].startswith(begins)
        assert not row["explanation"].endswith("None")


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_what_a_strategy_needs_and_the_run_lacks_is_refused(
    name: str, tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    values = smoke_config(name, tiny_config, tmp_path)
    curriculum = parse_config(values).curriculum
    lacking = []
    if any("rewards" in part.needs() for part in curriculum.parts()):
        lacking.append({"training": tiny_config["training"]})
    allowed = [part.SCORERS for part in curriculum.parts() if part.SCORERS is not None]
    if allowed:
        lacking.append({"scoring": {"type": "pass_rate", "metric": "exact_match"}})
    for sections in lacking:
        with pytest.raises(ConfigError, match=f"curriculum.type: {name}"):
            parse_config(values | sections)
