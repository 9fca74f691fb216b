"""Killed at any point, a run carried on ends exactly as if nothing had happened."""

from __future__ import annotations

import hashlib
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Edco

KILLED = ("-P", str(Path(__file__).with_name("killed.py")))  # -P: tests/storage is not storage

FACTS = {
    "scores": "SELECT interval, sample_id, score, n_tokens, rank, selected, position, reason, "
    "checkpoint_id, scored_at_interval FROM sample_history ORDER BY 1, 2",
    "curriculum": "SELECT interval, position, sample_id, rank, score, probability, change "
    "FROM curriculum ORDER BY 1, 2",
    "steps": "SELECT interval, step, loss, learning_rate, grad_norm, num_tokens, policy_entropy, "
    "kl FROM training_steps ORDER BY 2",
    "slots": "SELECT step, slot, sample_id FROM step_samples ORDER BY 1, 2",
    "evaluations": "SELECT interval, metric, category, value, n FROM evaluations "
    "ORDER BY 1, 2, 3 NULLS FIRST",
    "rollouts": "SELECT interval, draw, step, slot, sample_id, n, n_correct, reward_mean, "
    "reward_std, advantage_abs_mean, n_tokens_mean, truncated_share, n_trained, gradient_correct, "
    "gradient_wrong, gradient_gap FROM rollouts ORDER BY 1, 2",
    "beliefs": "SELECT interval, sample_id, alpha, beta FROM beliefs ORDER BY 1, 2",
    "answers": "SELECT interval, draw, number, answer, reward, is_correct, n_tokens, truncated "
    "FROM rollout_texts ORDER BY 1, 2, 3",
    "turnover": "SELECT interval, n_entered, n_first_time, n_returned, n_stayed, n_left "
    "FROM turnover ORDER BY 1",
}


def everything(edco: Edco, run_id: str) -> dict[str, Any]:
    """What a run left: all that the ledger knows of it, and the hash of its adapter."""
    facts = {name: edco("query", sql, "--format", "csv").stdout for name, sql in FACTS.items()}
    adapter = edco.folder / "runs" / run_id / "final" / "adapter_model.safetensors"
    return facts | {"adapter": hashlib.sha256(adapter.read_bytes()).hexdigest()}


@pytest.mark.slow
def test_a_run_killed_in_every_stage_and_resumed_is_identical_to_one_that_was_not(
    finished: Edco, new_edco: Callable[[], Edco]
) -> None:
    edco = new_edco()
    shutil.copy(finished.folder / "edco.yaml", edco.folder)
    deaths = [
        ("checkpoint", 1),  # of interval 0: the start is saved, its row is not
        ("scoring", 3),  # two shards of the pool are stored
        ("selection", 1),
        ("training", 4),  # step 2 is saved, step 3 is not
        ("saving", 1),  # step 4: weights are on disk, the mark of completeness is not
        ("training-row", 1),  # interval 0 is trained and evaluated
        ("scoring-row", 1),  # of interval 1: all shards are stored
        ("training", 6),  # the first step of interval 2, after five of interval 1
        ("finish", 1),
    ]
    command = ["run", "edco.yaml", "--run-id", "whole"]
    for point, nth in deaths:
        edco(point, str(nth), *command, program=KILLED, expect=-signal.SIGKILL)
        command = ["resume", "whole"]
    edco("resume", "whole")
    assert everything(edco, "whole") == everything(finished, "whole")


@pytest.mark.slow
def test_selective_rescoring_killed_in_its_rounds_and_resumed_is_as_if_it_was_not(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    rescore = {"policy": "selective", "target_recall": 0.6, "audit_share": 0.3}
    config = {**tiny_config, "scoring": {**tiny_config["scoring"], "rescore": rescore}}
    whole, edco = new_edco(), new_edco()
    for each in (whole, edco):
        (each.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    command = ["run", "edco.yaml", "--run-id", "whole"]
    whole(*command)
    # The pool has five shards at interval 0, the audit of the others two each.
    for nth in (7, 2, 1):
        edco("scoring", str(nth), *command, program=KILLED, expect=-signal.SIGKILL)
        command = ["resume", "whole"]
    edco(*command)
    assert everything(edco, "whole") == everything(whole, "whole")

    intervals = edco.json("show", "whole")["intervals"]
    assert intervals[0]["n_rescored"] == 80
    assert all(24 <= row["n_rescored"] < 80 for row in intervals[1:])
    assert all(row["recall_estimate"] >= 0.6 for row in intervals[1:])
    counts = "SELECT interval, count(*) AS n FROM sample_history"
    again = f"{counts} WHERE scored_at_interval = interval GROUP BY 1 ORDER BY 1"
    assert [row["n"] for row in edco.json("query", again)] == [r["n_rescored"] for r in intervals]
    rows = edco.json("replay", "whole")["intervals"]
    assert [row["result"] for row in rows] == ["identical"] * 3
    kept = "SELECT sample_id FROM sample_history WHERE scored_at_interval < interval LIMIT 1"
    (sample,) = edco.json("query", kept)
    why = edco("why", "whole", sample["sample_id"])
    assert "scored at" in why.stdout
    assert "by audit" in edco("show", "whole").stdout
    other = edco.json("replay", "whole", "--strategy", "random")["intervals"]
    assert len(other) == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_a_safe_point_says_how_to_resume_and_loses_nothing(
    finished: Edco, new_edco: Callable[[], Edco], number: signal.Signals
) -> None:
    edco = new_edco()
    shutil.copy(finished.folder / "edco.yaml", edco.folder)
    process = edco.start_and_wait_for("interval 0", "run", "edco.yaml", "--run-id", "whole")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert "To carry on:" in stderr
    assert "resume whole" in stderr
    assert "Traceback" not in stderr
    assert edco.json("runs")[0]["status"] == "interrupted"
    edco("resume", "whole")
    assert everything(edco, "whole") == everything(finished, "whole")


def test_resuming_a_finished_run_says_so_and_changes_nothing(finished: Edco) -> None:
    assert "run whole is finished" in finished("resume", "who").stderr


@pytest.mark.slow
def test_a_second_process_on_a_live_run_is_refused_with_who_holds_it(
    finished: Edco, new_edco: Callable[[], Edco]
) -> None:
    edco = new_edco()
    shutil.copy(finished.folder / "edco.yaml", edco.folder)
    first = edco.start_and_wait_for("run whole", "run", "edco.yaml", "--run-id", "whole")
    first.send_signal(signal.SIGSTOP)  # it lives, and cannot finish meanwhile
    try:
        refused = edco("resume", "whole", expect=2)
    finally:
        first.send_signal(signal.SIGCONT)
    assert f"pid={first.pid}" in refused.stderr
    first.communicate(timeout=300)
    assert first.returncode == 0


@pytest.mark.slow
def test_data_that_changed_since_the_run_began_is_refused(
    finished: Edco, new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    pool = edco.folder / "pool.jsonl"
    shutil.copy(tiny_config["data"]["train"], pool)
    config = {**tiny_config, "data": {**tiny_config["data"], "train": "pool.jsonl"}}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    edco("selection", "1", "run", "edco.yaml", "--run-id", "r", program=KILLED, expect=-9)
    pool.write_text("".join(pool.read_text().splitlines(keepends=True)[:-1]))
    assert "the data is not what run r began with" in edco("resume", "r", expect=2).stderr


@pytest.mark.slow
def test_a_base_model_that_changed_since_the_run_began_is_refused(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    shutil.copytree(tiny_config["model"]["name_or_path"], edco.folder / "model")
    config = {**tiny_config, "model": {**tiny_config["model"], "name_or_path": "model"}}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    edco("checkpoint", "1", "run", "edco.yaml", "--run-id", "r", program=KILLED, expect=-9)
    weights = edco.folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "the base model is not what run r began with" in edco("resume", "r", expect=2).stderr
