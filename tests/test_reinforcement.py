"""Whole runs of reinforcement learning: killed and resumed, shown, and alarmed about."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from command_line import Edco
from test_resume import KILLED, everything

from edco_core.collapse import collapsed
from edco_core.config import parse_config
from edco_core.errors import ConfigError
from flows.display import interval_columns
from flows.shown import table

TRAINING: dict[str, Any] = {
    "type": "grpo",
    "rewards": [{"type": "contains", "texts": ["a"]}],
    "keep_rollout_texts": True,
    "args": {
        "per_device_train_batch_size": 16,
        "num_generations": 4,
        "max_completion_length": 6,
        "learning_rate": 5e-3,
        "beta": 0.05,
        "save_steps": 2,
    },
}


@pytest.fixture(scope="module")
def reinforced(new_edco: Callable[[], Edco], tiny_config: dict[str, Any]) -> Edco:
    """A folder with a finished run ``whole``, what it printed in ``run.stderr``."""
    edco = new_edco()
    config = {**tiny_config, "training": TRAINING}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    printed = edco("run", "edco.yaml", "--run-id", "whole")
    (edco.folder / "run.stdout").write_text(printed.stdout, encoding="utf-8")
    (edco.folder / "run.stderr").write_text(printed.stderr, encoding="utf-8")
    return edco


@pytest.mark.slow
def test_a_run_killed_in_every_stage_and_resumed_is_identical_to_one_that_was_not(
    reinforced: Edco, new_edco: Callable[[], Edco]
) -> None:
    edco = new_edco()
    (edco.folder / "edco.yaml").write_text((reinforced.folder / "edco.yaml").read_text())
    deaths = [
        ("sampling", 4),  # step 2 is saved, step 3 is not
        ("saving", 1),  # step 4: weights and groups are on disk, the mark of completeness is not
        ("training-row", 1),  # interval 0 is trained and evaluated
        ("sampling", 7),  # the second step of interval 1, after five of interval 0... once more
    ]
    command = ["run", "edco.yaml", "--run-id", "whole"]
    for point, nth in deaths:
        edco(point, str(nth), *command, program=KILLED, expect=-signal.SIGKILL)
        command = ["resume", "whole"]
    edco(*command)
    assert everything(edco, "whole") == everything(reinforced, "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "curriculum",
    [
        {"type": "speed", "screening_answers": 2},
        {
            "type": "cures",
            "cold_start": 2,
            "gradient_terms": True,
            "prior_correct": 0.2,
            "prior_wrong": 0.2,
        },
        {"type": "sec"},
        {"type": "adarft"},
    ],
    ids=["speed", "cures", "sec", "adarft"],
)
def test_a_run_that_samples_by_a_rule_of_its_own_survives_kills_as_well(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any], curriculum: dict[str, Any]
) -> None:
    """Two intervals of three steps; the second knows of the first."""
    curriculum = {"intervals": 2, "top_n": 12, **curriculum}
    config = {**tiny_config, "training": TRAINING, "curriculum": curriculum}
    whole, edco = new_edco(), new_edco()
    for each in (whole, edco):
        (each.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    command = ["run", "edco.yaml", "--run-id", "whole"]
    whole(*command)
    for point, nth in [("sampling", 3), ("sampling", 3)]:  # the last step of one, the second
        edco(point, str(nth), *command, program=KILLED, expect=-signal.SIGKILL)
        command = ["resume", "whole"]
    edco(*command)
    assert everything(edco, "whole") == everything(whole, "whole")
    results = [row["result"] for row in edco.json("replay", "whole")["intervals"]]
    assert results == ["identical"] * 2
    if curriculum["type"] not in ("speed", "cures"):
        return  # the rest is about how answers are shared out
    (counted,) = edco.json(
        "query",
        "SELECT count(DISTINCT n) AS sizes, sum(n) AS answers, sum(n_trained) AS trained, "
        "count(gradient_correct) + count(gradient_wrong) AS measured FROM rollouts",
    )
    assert counted["sizes"] > 1
    assert counted["trained"] == 2 * 3 * 16
    assert (counted["measured"] > 0) == (curriculum["type"] == "cures")
    (kept,) = edco.json("query", "SELECT count(*) AS n FROM beliefs WHERE interval = 1")
    assert kept["n"] == (12 if curriculum["type"] == "cures" else 0)
    (asked,) = edco.json("query", "SELECT min(sample_id) AS id FROM rollouts WHERE interval = 0")
    first, second = edco.json("why", "whole", asked["id"])["history"]
    told = "believed to be answered right" if kept["n"] else "answers right"
    assert told not in first["explanation"]
    assert told in second["explanation"]
    assert first["n_answers"] >= 2


def test_every_group_is_in_the_ledger_where_its_step_says(reinforced: Edco) -> None:
    (row,) = reinforced.json(
        "query",
        "SELECT count(*) AS n, count(DISTINCT r.step) AS steps, sum(r.n) AS answers "
        "FROM rollouts r JOIN step_samples s ON s.run_id = r.run_id AND s.interval = r.interval "
        "AND s.step = r.step AND s.slot = r.slot AND s.sample_id = r.sample_id",
    )
    assert row == {"n": 60, "steps": 15, "answers": 240}
    (texts,) = reinforced.json(
        "query",
        "SELECT count(*) AS n, sum(CAST(is_correct AS INTEGER)) AS correct FROM rollout_texts",
    )
    (total,) = reinforced.json("query", "SELECT sum(n_correct) AS correct FROM rollouts")
    assert texts == {"n": 240, "correct": total["correct"]}
    assert 0 < total["correct"] < 240


def test_show_tells_reward_entropy_and_groups_without_signal(reinforced: Edco) -> None:
    rows = reinforced.json("show", "whole")["intervals"]
    assert [row["n_answers"] for row in rows] == [80] * 3
    assert all(row["policy_entropy"] > 0 for row in rows)
    steps = reinforced.json(
        "query", "SELECT avg(policy_entropy) AS e FROM training_steps GROUP BY interval ORDER BY 1"
    )
    assert sorted(row["policy_entropy"] for row in rows) == pytest.approx([s["e"] for s in steps])
    shown = reinforced("show", "whole").stdout
    for word in ("policy entropy", "reward", "no signal", "rollouts: 240 answers", "exact_match"):
        assert word in shown
    assert "accuracy" not in shown
    printed = (reinforced.folder / "run.stderr").read_text()
    assert "groups without signal, exact_match 0." in printed


def test_supervised_runs_show_nothing_of_it_and_name_their_metric(finished: Edco) -> None:
    shown = finished("show", "whole").stdout
    assert "policy entropy" not in shown
    assert "exact_match" in shown
    assert "accuracy" not in shown


def test_validate_says_how_many_answers_will_be_sampled(reinforced: Edco) -> None:
    plan = reinforced.json("validate", "edco.yaml")
    assert plan["trainer"] == "grpo"
    assert plan["samples_per_step"] == 4
    assert plan["answers_per_prompt"] == 4
    assert plan["answers_sampled"] == 240
    assert plan["kl_reference"] == "start"
    more = ("--set", "training.skip_without_signal=true", "--set", "training.max_redraws=1")
    assert reinforced.json("validate", "edco.yaml", *more)["answers_sampled"] == "240 to 480"
    more = ("--set", "curriculum.type=speed", "--set", "curriculum.screening_answers=2")
    assert reinforced.json("validate", "edco.yaml", *more)["answers_sampled"] == "240 to 600"
    more = ("--set", "curriculum.type=speed", "--set", "curriculum.screening_answers=4")
    refused = reinforced("validate", "edco.yaml", *more, expect=2).stderr
    assert "a prompt has 4 answers" in refused


def test_replay_needs_no_trainer(reinforced: Edco) -> None:
    rows = reinforced.json("replay", "whole")["intervals"]
    assert [row["result"] for row in rows] == ["identical"] * 3


def test_the_finished_model_says_how_it_was_trained(reinforced: Edco) -> None:
    final = reinforced.folder / "runs" / "whole" / "final"
    assert "grpo, trl]" in (final / "README.md").read_text()
    assert not (final / "rollouts.parquet").exists()


def test_the_alarm_is_below_a_share_of_the_first_interval() -> None:
    assert collapsed([2.0, 0.51, 0.49, None], 0.25) == [False, False, True, False]
    assert collapsed([None, 2.0, 0.1], 0.25) == [False, False, True]
    assert collapsed([2.0, 0.0], 0.0) == [False, False]
    assert collapsed([], 0.25) == []


def row_of(interval: int, entropy: float) -> dict[str, Any]:
    names = ("n_scored", "n_rescored", "n_groups", "n_without_signal", "n_answers", "metric")
    return {"interval": interval, "policy_entropy": entropy, **dict.fromkeys(names, 1)}


def test_the_table_in_the_ui_has_the_alarm_and_the_name_of_the_metric(
    tiny_config: dict[str, Any],
) -> None:
    config = parse_config({**tiny_config, "training": TRAINING})
    cells = table([row_of(0, 2.0), row_of(1, 0.1)], config)
    assert [row["collapsed"] for row in cells] == ["no", "ALARM"]
    assert cells[0]["exact_match"] == "1"
    assert "collapsed" not in table([row_of(0, 2.0)], parse_config(tiny_config))[0]
    run = {"scorer": "loss", "metric": "numeric"}
    assert interval_columns([row_of(0, 2.0)], run)["metric"] == "numeric"


def test_a_collapse_is_told_in_show(reinforced: Edco) -> None:
    from flows.reading import _rollout_lines

    rows = reinforced.json("show", "whole")["intervals"]
    assert not any("ALARM" in line for line in _rollout_lines(rows, 0.25))
    rows[2]["policy_entropy"] = 0.1 * rows[0]["policy_entropy"]
    (alarm,) = [line for line in _rollout_lines(rows, 0.25) if "ALARM" in line]
    assert "collapsed in interval 2: below 25%" in alarm


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"max_redraws": 2}, "max_redraws would be ignored without skip_without_signal: true"),
        ({"kl_reference": "moving", "args": {}}, "kl_reference would be ignored without a KL term"),
        (
            {"skip_without_signal": True, "args": {"scale_rewards": "batch"}},
            "does not go with args.scale_rewards: batch",
        ),
        ({"args": {"shuffle_dataset": True}}, "'shuffle_dataset' is decided by curriculum.order"),
        ({"args": {"log_completions": True}}, "decided by training.keep_rollout_texts"),
        ({"args": {"reward_weights": [1.0]}}, "decided by training.rewards"),
        ({"rewards": []}, "training.rewards: "),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(
    tiny_config: dict[str, Any], training: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match="training") as caught:
        parse_config({**tiny_config, "training": {**TRAINING, **training}})
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["cures", "difficulty_filter", "shuffle_r1", "speed"])
@pytest.mark.parametrize("in_a_stage", [False, True], ids=["alone", "in-a-stage"])
def test_a_curriculum_that_samples_answers_goes_with_no_other_way_to_do_it(
    tiny_config: dict[str, Any], kind: str, in_a_stage: bool
) -> None:
    curriculum: dict[str, Any] = {"type": kind, "intervals": 2}
    if in_a_stage:
        first = {"until": 1, "strategy": {"type": "random"}}
        curriculum = {
            "type": "stages", "intervals": 2, "stages": [first, {"strategy": {"type": kind}}]
        }  # fmt: skip
    config = {**tiny_config, "curriculum": curriculum, "training": TRAINING}
    assert parse_config(config).curriculum.at(1).SAMPLES_ANSWERS
    for settings, message in (
        ({"skip_without_signal": True}, f"does not go with curriculum.type: {kind}, which itself"),
        ({"args": {"scale_rewards": "batch"}}, f"does not go with curriculum.type: {kind}: it"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_config({**config, "training": {**TRAINING, **settings}})
        assert message in str(caught.value)


def test_texts_of_answers_are_refused_where_no_texts_are_to_be_kept(
    tiny_config: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError, match=r"keep_rollout_texts does not go with store\.keep_texts"):
        parse_config({**tiny_config, "training": TRAINING, "store": {"keep_texts": False}})


def test_a_reward_that_the_data_cannot_answer_is_refused_before_anything_is_made(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    config = {**tiny_config, "training": {**TRAINING, "rewards": [{"type": "numeric"}]}}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    assert "answer" in edco("run", "edco.yaml", expect=2).stderr
    assert {path.name for path in edco.folder.iterdir()} == {"edco.yaml"}


def test_the_form_in_prefect_offers_both_trainers() -> None:
    from flows.finetune import finetune

    schema = json.loads(json.dumps(finetune.parameters.model_dump()))
    training = schema["definitions"]["Config"]["properties"]["training"]
    names = {each["$ref"].rpartition("/")[2] for each in training["anyOf"]}
    assert names == {"SftSection", "GrpoSection"}
