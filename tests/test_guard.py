"""The guard: alarms from numbers made by hand, who is kept apart, and what alarms do to a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from command_line import Edco
from test_resume import KILLED, everything

from edco_core.config import parse_config
from edco_core.config_guard import GuardSection, check_room
from edco_core.curriculum import KnownEvidence, choose_curriculum, derive_generator
from edco_core.curriculum.evidence import Samples
from edco_core.curriculum.guarded import control_of, rule_after
from edco_core.errors import ConfigError
from edco_core.guard import Measurement, Progress, Watched, alarms_of, progress_of
from edco_core.records import Alarm
from flows.why import why_sample
from storage import open_ledger

# ---------------------------------------------------------------- alarms

QUIET = Watched(
    interval=3,
    metric="exact_match",
    measured=[Measurement(k, 0.5 + 0.1 * k, 100) for k in range(-1, 4)],
    jaccard=0.5,
    n_selected=25,
    n_first_time=10,
    n_ever=60,
    pool_size=100,
    category_shares={"a": (0.6, 0.5), "b": (0.4, 0.5)},
    scorer="prefix_entropy",
    score_means=[1.0, 0.9, 0.8, 0.7],
    progress=Progress(trained=0.4, control=0.3, error=0.05),
)


def raised(watched: Watched, **settings: Any) -> dict[str, Alarm]:
    found = alarms_of(GuardSection(**settings), watched, is_last=False)
    return {alarm.alarm: alarm for alarm in found}


def test_a_run_that_goes_well_raises_nothing() -> None:
    assert raised(QUIET) == {}


def fell_to(value: float, best: float = 0.8, n: int = 100) -> Watched:
    measured = [Measurement(-1, 0.1, n), Measurement(0, best, n), Measurement(3, value, n)]
    return replace(QUIET, measured=measured)


def test_accuracy_may_fall_by_three_standard_errors_of_its_best() -> None:
    # sqrt(0.8 * 0.2 / 100) = 0.04, so that 0.68 is the limit.
    assert raised(fell_to(0.681)) == {}
    alarm = raised(fell_to(0.679))["accuracy"]
    assert alarm.value == 0.679
    assert alarm.threshold == pytest.approx(0.68)
    assert "0.679" in alarm.message
    assert "after interval 0" in alarm.message
    # With a hundredfold of samples the error is a tenth.
    assert "accuracy" in raised(fell_to(0.78, n=10_000))
    assert raised(fell_to(0.679), accuracy_errors=4.0) == {}
    assert raised(fell_to(0.1), accuracy_errors=None) == {}


def test_a_perfect_score_may_lose_one_sample() -> None:
    assert raised(fell_to(0.99, best=1.0)) == {}
    assert "accuracy" in raised(fell_to(0.98, best=1.0))


def test_accuracy_is_looked_at_where_it_was_measured() -> None:
    old = replace(fell_to(0.1), interval=4)  # measured after interval 3, and not since
    assert "accuracy" not in raised(old)


def test_a_curriculum_is_stuck_when_nobody_is_new_and_others_wait() -> None:
    stuck = replace(QUIET, jaccard=0.96, n_first_time=0)
    assert raised(stuck)["stuck"].threshold == 0.95
    assert "40 of the pool were never selected" in raised(stuck)["stuck"].message
    assert raised(replace(stuck, n_first_time=1)) == {}
    assert raised(replace(stuck, n_ever=100)) == {}  # the pool is exhausted
    assert raised(replace(stuck, jaccard=0.94)) == {}
    assert raised(replace(stuck, jaccard=None)) == {}
    assert raised(stuck, stuck_jaccard=None) == {}


def test_coverage_is_held_against_that_of_random_draws() -> None:
    # 1 - 0.75^4 = 0.684: half of it is 0.342.
    assert raised(replace(QUIET, n_ever=35)) == {}
    alarm = raised(replace(QUIET, n_ever=34))["coverage"]
    assert alarm.value == 0.34
    assert alarm.threshold == pytest.approx(0.5 * (1 - 0.75**4))
    assert raised(replace(QUIET, n_ever=34), coverage_after=5) == {}
    assert raised(replace(QUIET, n_ever=34), least_coverage=None) == {}


def test_a_category_takes_over_when_its_share_is_far_above_that_of_the_pool() -> None:
    assert raised(replace(QUIET, category_shares={"a": (0.7, 0.5), "b": (0.3, 0.5)})) == {}
    alarm = raised(replace(QUIET, category_shares={"a": (0.05, 0.5), "b": (0.95, 0.5)}))["category"]
    assert (alarm.value, alarm.threshold) == (0.95, pytest.approx(0.5 + 0.4 * 0.5))
    assert "'b'" in alarm.message
    # Of the others' third it took more than four tenths, though it had most of the pool before.
    large = {"a": (0.85, 0.67), "b": (0.15, 0.33)}
    assert "category" in raised(replace(QUIET, category_shares=large))
    assert raised(replace(QUIET, category_shares={})) == {}


def test_entropy_collapses_below_a_tenth_of_the_first() -> None:
    collapsed = replace(QUIET, score_means=[1.0, 0.5, 0.2, 0.09])
    assert raised(collapsed)["entropy"].threshold == pytest.approx(0.1)
    assert raised(replace(collapsed, scorer="loss")) == {}
    assert raised(replace(collapsed, score_means=[1.0, 0.05, 0.2, 0.11])) == {}  # it came back


def test_the_policys_entropy_has_the_limit_of_the_trainer() -> None:
    collapsed = replace(QUIET, policy_entropies=[None, 2.0, 0.5], policy_entropy_share=0.3)
    assert raised(collapsed)["policy_entropy"].threshold == pytest.approx(0.6)
    assert raised(replace(collapsed, policy_entropies=[2.0, 0.5, None])) == {}
    assert raised(replace(collapsed, policy_entropy_share=0.2)) == {}


def test_the_control_is_behind_only_beyond_its_own_error() -> None:
    behind = replace(QUIET, progress=Progress(trained=0.8, control=0.05, error=0.05))
    alarm = raised(behind)["control"]  # 0.2 - 0.05 > 2 * 0.05
    assert (alarm.value, alarm.threshold) == (0.05, pytest.approx(0.2))
    assert raised(replace(behind, progress=Progress(0.8, 0.05, 0.08))) == {}
    # Where the trained samples' own scores rose, there is nothing to follow.
    assert raised(replace(behind, progress=Progress(-0.8, -2.0, 0.01))) == {}
    assert raised(replace(behind, progress=None)) == {}


def test_after_the_last_interval_an_alarm_is_only_a_warning() -> None:
    settings = GuardSection(on_alarm="stop")
    assert alarms_of(settings, fell_to(0.1), is_last=False)[0].action == "stop"
    assert alarms_of(settings, fell_to(0.1), is_last=True)[0].action == "warn"


def test_an_alarm_that_goes_on_stops_a_run_once() -> None:
    def actions(watched: Watched, *earlier: Alarm) -> list[str]:
        found = alarms_of(
            GuardSection(on_alarm="stop"), replace(watched, earlier=earlier), is_last=False
        )
        return [each.action for each in found]

    def seen(name: str, interval: int) -> Alarm:
        return Alarm(interval, name, 0.0, 0.0, "stop", "")

    stuck = replace(QUIET, jaccard=0.99, n_first_time=0)
    assert actions(stuck) == ["stop"]
    assert actions(stuck, seen("coverage", 2)) == ["stop"]
    assert actions(stuck, seen("stuck", 1)) == ["stop"]  # it was over at interval 2
    assert actions(stuck, seen("stuck", 2)) == ["warn"]
    # The metric was measured after intervals 0 and 3 only.
    assert actions(fell_to(0.1), seen("accuracy", 2)) == ["stop"]
    assert actions(fell_to(0.1), seen("accuracy", 0)) == ["warn"]


def test_a_few_control_samples_that_vary_little_by_chance_do_not_make_sure() -> None:
    # Of 100 samples with scores of 0 or 1 half have fallen, of three in the control none.
    first = np.ones(103)
    now = np.append(np.arange(100) % 2.0, [1.0, 1.0, 1.0])
    is_control = np.arange(103) >= 100
    found = progress_of(first, now, is_control, np.arange(100))
    assert found is not None
    assert (found.trained, found.control) == (0.5, 0.0)
    variance = 100 * 0.25 / 99
    assert found.error == pytest.approx(np.sqrt(variance / 100 + variance / 3))
    assert raised(replace(QUIET, progress=found)) == {}


def test_progress_compares_samples_that_began_alike() -> None:
    # Two quarters: low scores fall by 0.1, high ones by 1 when trained and by 0.5 when not.
    first = np.array([1.0] * 8 + [5.0] * 8)
    now = first.copy()
    is_control = np.zeros(16, bool)
    is_control[[0, 1, 8, 9]] = True
    trained = np.array([2, 10, 11, 12])
    now[[2]] -= 0.1
    now[[0, 1]] -= [0.0, 0.2]
    now[[10, 11, 12]] -= 1.0
    now[[8, 9]] -= [0.4, 0.6]
    found = progress_of(first, now, is_control, trained)
    assert found is not None
    assert found.trained == pytest.approx(0.25 * 0.1 + 0.75 * 1.0)
    assert found.control == pytest.approx(0.25 * 0.1 + 0.75 * 0.5)  # weighed as the trained are
    # Variances of two values d apart are d^2 / 2, of their mean d^2 / 4.
    assert found.error == pytest.approx(np.hypot(0.25 * 0.1, 0.75 * 0.1))


def test_progress_without_a_control_in_the_same_quarter_is_none() -> None:
    first = np.array([1.0, 2.0, 3.0, 4.0])
    is_control = np.array([True, False, False, False])
    assert progress_of(first, first - 1, is_control, np.array([3])) is None


# ---------------------------------------------------------------- the rule


def section(**values: Any) -> Any:
    config = parse_config(
        {
            "model": {"name_or_path": "m"},
            "data": {"train": "t"},
            "curriculum": {"top_n": 10, "guard": {}, **values},
        }
    )
    return config.curriculum


def evidence(num: int = 50, **known: Any) -> KnownEvidence:
    scores = np.random.default_rng(1).permutation(num) + 1.0
    return KnownEvidence(scores=scores, **known)


def choose(rule: Any, known: KnownEvidence, alarms: tuple[Alarm, ...] = (), seed: int = 7) -> Any:
    rng, _ = derive_generator(seed, known.interval, "selection")
    return choose_curriculum(rule, known, 10, rng, seed=seed, alarms=alarms)


def alarm(interval: int, action: str) -> Alarm:
    return Alarm(interval, "stuck", 1.0, 0.9, action, "stuck")


@pytest.mark.parametrize("kind", ["edco", "random", "length"])
def test_the_control_is_never_selected_and_the_same_at_each_interval(kind: str) -> None:
    guard = GuardSection(control_share=0.3)
    control = control_of(guard, 50, 7)
    assert len(control) == 15
    assert len(set(control.tolist())) == 15
    chars = pa.table({name: list(range(50)) for name in ("prompt_chars", "completion_chars")})
    samples = Samples(lambda names: chars.select(list(names)))
    chosen = set()
    for interval in range(12):
        known = evidence(
            samples=samples, interval=interval, earlier_scores=[evidence().scores] * 12
        )
        chosen |= set(choose(section(type=kind, guard=guard.model_dump()), known).ordinals.tolist())
    assert chosen & set(control.tolist()) == set()
    assert len(chosen) >= 25
    assert control_of(guard, 50, 8).tolist() != control.tolist()


def test_ranks_and_scores_are_those_of_the_whole_pool() -> None:
    known = evidence()
    found = choose(
        section(temperature=0.0, order="descending", guard={"control_share": 0.3}), known
    )
    kept = np.setdiff1d(np.arange(50), control_of(GuardSection(control_share=0.3), 50, 7))
    best = kept[np.argsort(-known.scores[kept])][:10]
    assert found.ordinals.tolist() == best.tolist()
    assert found.scores.tolist() == known.scores[best].tolist()
    assert found.ranks.tolist() == (51 - known.scores[best]).astype(int).tolist()
    assert found.facts["num_control"] == 15


def test_what_a_strategy_remembers_of_samples_is_by_their_place_in_the_pool() -> None:
    from edco_core.curriculum.guarded import _WithoutControl

    kept = np.array([1, 3, 4])
    known = evidence(
        5,
        interval=1,
        earlier_selections=[np.array([4, 1])],
        earlier_scores=[np.arange(5.0)],
    )
    seen = _WithoutControl(known, kept)
    assert seen.selected_at(0).tolist() == [2, 0]
    assert seen.scores_at(0).tolist() == [1.0, 3.0, 4.0]


def test_temper_doubles_the_temperature_once_for_each_interval_with_an_alarm() -> None:
    rule = section(temperature=0.5, guard={"on_alarm": "temper"})
    assert rule_after(rule, []).temperature == 0.5
    once = [alarm(0, "temper"), replace(alarm(0, "temper"), alarm="category")]
    assert rule_after(rule, once).temperature == 1.0
    assert rule_after(rule, [*once, alarm(3, "temper")]).temperature == 2.0
    paper = section(preset="paper", guard={"on_alarm": "temper"})
    assert rule_after(paper, once).temperature == 1.0
    moving = section(temperature=0.0, temperature_end=2.0, guard={"on_alarm": "temper"})
    assert rule_after(moving, once).temperature_end == 4.0


def test_a_warning_and_an_acknowledged_stop_change_no_rule() -> None:
    rule = section()
    assert rule_after(rule, [alarm(0, "warn"), alarm(1, "stop")]) is rule


def test_falling_back_begins_with_the_interval_after_the_alarm_and_says_so() -> None:
    rule = section(temperature=0.0, guard={"on_alarm": "fall_back_random"})
    alarms = (alarm(1, "fall_back_random"),)
    past = [evidence().scores] * 3
    at = [choose(rule, evidence(interval=k, earlier_scores=past), alarms) for k in range(3)]
    assert [each.reason for each in at] == ["top_n", "top_n", "guard_random"]
    assert at[2].facts["rule"] == "random"
    assert "interval 1" in at[2].facts["guard"]
    assert at[2].ordinals.tolist() != at[1].ordinals.tolist()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"type": "random", "guard": {"on_alarm": "temper"}}, "temper.*Allowed: stop, warn;"),
        ({"type": "random", "guard": {"on_alarm": "fall_back_random"}}, "would change nothing"),
        ({"guard": {"on_alarm": "panic"}}, "Allowed: fall_back_random, stop, temper, warn"),
        ({"guard": {"control_share": 0.0}}, "control_share"),
        ({"guard": {"controlshare": 0.1}}, "Did you mean 'control_share'"),
        (
            {"type": "stages", "stages": [{"strategy": {"type": "random", "guard": {}}}]},
            "would be ignored",
        ),
    ],
)
def test_a_guard_that_cannot_do_what_it_says_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        section(**{"guard": None, **values})


def test_a_guard_does_not_go_with_selective_rescoring() -> None:
    values = {
        "model": {"name_or_path": "m"},
        "data": {"train": "t"},
        "scoring": {"rescore": {"policy": "selective"}},
        "curriculum": {"guard": {}},
    }
    with pytest.raises(ConfigError, match="would not score the control samples"):
        parse_config(values)


def test_a_control_that_leaves_too_few_samples_is_refused() -> None:
    rule = section(top_n=30, guard={"control_share": 0.5})
    check_room(rule, 60)
    with pytest.raises(ConfigError, match=r"keeps 30 of 59 apart\. Allowed: top_n up to 29"):
        check_room(rule, 59)
    skipping = section(top_n=25, skip_top=0.2, guard={"control_share": 0.5})
    with pytest.raises(ConfigError, match="keeps 30 apart"):
        check_room(skipping, 60)
    check_room(section(top_n=60, guard=None), 60)


# ---------------------------------------------------------------- real runs


def guarded(config: dict[str, Any], **guard: Any) -> dict[str, Any]:
    """With alarms that go off at once: nothing is allowed."""
    strict = {"control_share": 0.1, "category_gain": 1e-9, **guard}
    return {**config, "curriculum": {**config["curriculum"], "guard": strict}}


@pytest.fixture(scope="module")
def warned(new_edco: Callable[[], Edco], tiny_config: dict[str, Any]) -> Edco:
    """A folder with a finished run ``whole`` that fell back to random after its first interval."""
    edco = new_edco()
    config = guarded(tiny_config, on_alarm="fall_back_random")
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    printed = edco("run", "edco.yaml", "--run-id", "whole")
    (edco.folder / "run.stderr").write_text(printed.stderr, encoding="utf-8")
    return edco


@pytest.mark.slow
def test_a_run_names_its_alarms_as_they_come_and_afterwards(warned: Edco, tmp_path: Path) -> None:
    assert "ALARM category, interval 0: category '" in (warned.folder / "run.stderr").read_text()
    assert "ALARM category, interval 0" in warned("show", "whole").stdout
    alarms = warned.json("show", "whole")["alarms"]
    first = next(alarm for alarm in alarms if alarm["alarm"] == "category")
    assert (first["interval"], first["action"]) == (0, "fall_back_random")
    rows = warned.json("query", "SELECT * FROM alarms ORDER BY interval, alarm")
    assert [row["message"] for row in rows] == [a["message"] for a in alarms]
    page = tmp_path / "page.html"
    warned("report", "whole", "-o", str(page))
    assert "ALARM category" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_after_an_alarm_curricula_are_random_and_why_and_replay_agree(warned: Edco) -> None:
    reasons = warned.json("query", "SELECT DISTINCT interval, reason FROM curriculum ORDER BY 1")
    assert [row["reason"] for row in reasons] == ["tempered_draw", "guard_random", "guard_random"]
    rows = warned.json("replay", "whole")["intervals"]
    assert [row["result"] for row in rows] == ["identical"] * 3
    (sample,) = warned.json(
        "query", "SELECT sample_id FROM curriculum WHERE interval = 1 AND position = 0"
    )
    why = warned("why", "whole", sample["sample_id"], "--interval", "1").stdout
    assert "fall_back_random since the alarm 'category' of interval 0" in " ".join(why.split())
    other = warned.json("replay", "whole", "--strategy", "random")["intervals"]
    assert len(other) == 3


@pytest.mark.slow
def test_control_samples_are_scored_and_never_selected_and_why_says_so(warned: Edco) -> None:
    never = warned.json(
        "query",
        "SELECT sample_id FROM samples s WHERE sample_id IN (SELECT sample_id FROM sample_history) "
        "AND ordinal IN (" + ",".join(map(str, control_of(GuardSection(control_share=0.1), 80, 3)))
        + ")",
    )  # fmt: skip
    assert len(never) == 8
    assert warned.json("query", "SELECT count(*) AS n FROM sample_history")[0]["n"] == 240
    chosen = warned.json("query", "SELECT DISTINCT sample_id FROM curriculum", "--limit", "0")
    assert {row["sample_id"] for row in chosen} & {row["sample_id"] for row in never} == set()
    history = warned.json("why", "whole", never[0]["sample_id"])["history"]
    assert {row["probability"] for row in history} == {0.0}
    assert all("kept apart as control" in row["explanation"] for row in history)


@pytest.mark.slow
def test_ranks_in_why_are_among_those_that_could_be_selected(warned: Edco) -> None:
    ledger = open_ledger(f"duckdb:///{warned.folder}/edco.duckdb", read_only=True)
    sql = "SELECT sample_id FROM samples WHERE sample_id IN (SELECT sample_id FROM sample_history)"
    told = [why_sample(ledger, "whole", each, 0).rows[0] for (each,) in ledger.query(sql)[1]]
    places = [re.findall(r"rank (\d+) of (\d+)", row["explanation"]) for row in told]
    assert sorted(int(rank) for ((rank, _),) in filter(None, places)) == list(range(1, 73))
    assert {size for ((_, size),) in filter(None, places)} == {"72"}


@pytest.mark.slow
def test_a_guarded_run_killed_where_alarms_are_kept_and_resumed_is_as_if_it_was_not(
    warned: Edco, new_edco: Callable[[], Edco]
) -> None:
    edco = new_edco()
    (edco.folder / "edco.yaml").write_text((warned.folder / "edco.yaml").read_text())
    command = ["run", "edco.yaml", "--run-id", "whole"]
    # Before and after the transaction with the first alarm, and before the selection it decides.
    for point, nth in [("training-row", 1), ("scoring", 1), ("selection", 1), ("training-row", 1)]:
        edco(point, str(nth), *command, program=KILLED, expect=-9)
        command = ["resume", "whole"]
    edco("resume", "whole")
    assert everything(edco, "whole") == everything(warned, "whole")
    asked = "SELECT * FROM alarms ORDER BY interval, alarm"
    assert edco.json("query", asked) == warned.json("query", asked)


@pytest.mark.slow
def test_a_guard_that_stops_a_run_is_acknowledged_by_resuming_it(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    config = guarded(tiny_config, on_alarm="stop")
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    stopped = edco("run", "edco.yaml", "--run-id", "whole", expect=1)
    assert "stopped by curriculum.guard: category" in stopped.stderr
    assert "resume whole" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    (run,) = edco.json("runs")
    assert run["status"] == "interrupted"
    assert "category" in run["message"]
    # What goes on has been seen, and the last interval's alarm has nothing left to stop.
    edco("resume", "whole")
    assert edco.json("runs")[0]["status"] == "finished"
    actions = edco.json("query", "SELECT interval, action FROM alarms WHERE alarm = 'category'")
    assert {row["action"] for row in actions if row["interval"] == 0} == {"stop"}
    assert {row["action"] for row in actions if row["interval"] > 0} == {"warn"}
