"""Comparisons: what is refused, how a budget is planned, and real ones on a tiny model."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from command_line import Edco, ask_prefect
from test_resume import KILLED

from edco_core.config import load_config
from edco_core.config_compare import BudgetSection, comparison_of, load_comparison
from edco_core.errors import ConfigError, ModelError
from flows.compare_plan import Cost, PlannedRun, fit, plan_comparison
from storage import open_ledger
from tests.storage.conftest import make_pool, make_spec

# ---------------------------------------------------------------- the configuration

SMALL: dict[str, Any] = {
    "run": {"name": "small", "seed": 3},
    "model": {"name_or_path": "m"},
    "data": {"train": "t", "eval": "e"},
    "curriculum": {"top_n": 0.5},
    "compare": {"strategies": ["random", "edco"], "seeds": 2},
}


def write(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "compare.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_strategies_get_what_all_have_in_common_and_what_is_theirs(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    own = "{type: edco, temperature: 0, label: top, set: {scoring.prefix_tokens: 4}}"
    overrides = [f"compare.strategies=[random, edco, {own}]", "curriculum.guard={}"]
    found = comparison_of(load_comparison(path, overrides))
    assert (found.name, found.reference, found.seeds) == ("small", "random", (3, 4))
    assert [arm.label for arm in found.arms] == ["random", "edco", "top"]
    assert {arm.config.curriculum.top_n for arm in found.arms} == {0.5}
    assert all(arm.config.curriculum.guard is not None for arm in found.arms)
    assert [getattr(arm.config.scoring, "prefix_tokens", None) for arm in found.arms] == [16, 16, 4]
    assert {arm.config.run.experiment for arm in found.arms} == {"small"}


@pytest.mark.parametrize(
    ("change", "scoring"),
    [
        ("{scoring: {prefix_tokens: 4}}", ("prefix_entropy", 4, 999, "auto")),
        ("{scoring.prefix_tokens: 4}", ("prefix_entropy", 4, 999, "auto")),
        ("{scoring: {preset: edco_released}}", ("prefix_entropy", 128, 999, True)),
        # Another kind of scoring has settings of its own.
        ("{scoring: {type: full_entropy}}", ("full_entropy", None, 16384, False)),
    ],
)
def test_a_strategy_changes_what_it_names_and_keeps_the_rest(
    tmp_path: Path, change: str, scoring: tuple[Any, ...]
) -> None:
    own = f"{{type: edco, label: own, set: {change}}}"
    overrides = [f"compare.strategies=[random, {own}]", "scoring.max_batch_tokens=999"]
    found = comparison_of(load_comparison(write(tmp_path, SMALL), overrides)).arms[1].config.scoring
    assert scoring == (
        found.type, getattr(found, "prefix_tokens", None), found.max_batch_tokens,
        found.quick_answer,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("base", "change"),
    [
        ("scoring.rescore.policy=selective", "{scoring.rescore.policy: all}"),
        ("scoring.decoding=sample", "{scoring.decoding: greedy}"),
        ("scoring.vocabulary=top_k", "{scoring.vocabulary: full}"),
        ("scoring.preset=edco_released", "{scoring.preset: null}"),
    ],
)
def test_a_strategy_leaves_a_choice_of_all_and_what_belongs_to_it(
    tmp_path: Path, base: str, change: str
) -> None:
    strategies = f"compare.strategies=[{{type: random, set: {change}}}, edco]"
    found = comparison_of(load_comparison(write(tmp_path, SMALL), [base, strategies]))
    plain = comparison_of(load_comparison(write(tmp_path, SMALL))).arms[0].config.scoring
    assert found.arms[0].config.scoring.model_dump() == plain.model_dump()
    assert found.arms[1].config.scoring.model_dump() != plain.model_dump()


def test_a_strategy_that_changes_training_still_learns_from_rewards(tmp_path: Path) -> None:
    training = "training={type: grpo, rewards: [{type: exact_match}], args: {beta: 0.1}}"
    own = "{type: cures, set: {training: {args: {learning_rate: 0.5}}}}"
    overrides = [f"compare.strategies=[random, {own}]", training]
    found = comparison_of(load_comparison(write(tmp_path, SMALL), overrides))
    assert found.arms[1].config.training.type == "grpo"
    assert found.arms[1].config.training.args == {"beta": 0.1, "learning_rate": 0.5}
    assert found.arms[0].config.training.args == {"beta": 0.1}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("compare.strategies=[random, random]", "two are called 'random'"),
        ("compare.strategies=[edco, length]", "none of them is random"),
        ("compare.strategies=[random]", "at least 2"),
        ("compare.strategies=[random, {type: edko}]", "Did you mean 'edco'"),
        ("compare.strategies=[random, {type: edco, temprature: 1}]", "Did you mean 'temperature'"),
        ("compare.strategies=[random, {type: edco, label: a b}]", "Use up to 30 letters"),
        ("compare.strategies=[random, {temperature: 0.5}]", r"strategies\.1\.type: is missing"),
        ("compare.strategies=[random, {type: edco, set: {data.train: x}}]", "may differ"),
        ("compare.strategies=[random, {type: edco, set: 3}]", "should be 'key.sub: value'"),
        ("compare.strategies=[random, sec]", "has none"),  # needs rewards
        ("compare.seeds=[1, 1]", "named twice"),
        ("compare.seeds=[]", "at least one seed"),
        ("compare.seeds=[-1]", "seeds are from 0"),
        ("compare.seeds=0", "seeds"),
        ("compare.budget={}", "either steps or seconds"),
        ("compare.budget={steps: 4, seconds: 4}", "either steps or seconds"),
        ("compare.paralel=2", "Did you mean 'parallel'"),
        ("curriculum.temperature=0", "would be ignored: strategies have their settings"),
        ("data.eval=null", "needs data.eval"),
    ],
)
def test_what_makes_no_comparison_is_refused(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_comparison(write(tmp_path, SMALL), [override])


def test_intervals_beside_a_budget_are_refused(tmp_path: Path) -> None:
    path, budget = write(tmp_path, SMALL), "compare.budget={steps: 9}"
    with pytest.raises(ConfigError, match=r"curriculum\.intervals would be ignored"):
        load_comparison(path, [budget, "curriculum.intervals=3"])
    with pytest.raises(ConfigError, match="intervals would be ignored"):
        load_comparison(path, [budget, "compare.strategies=[random, {type: edco, intervals: 2}]"])


def test_other_commands_say_which_command_a_comparison_is_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Type: edco compare"):
        load_config(write(tmp_path, SMALL))
    with pytest.raises(ConfigError, match="has no section 'compare'"):
        load_comparison(write(tmp_path, {k: v for k, v in SMALL.items() if k != "compare"}))


# ---------------------------------------------------------------- the budget


def cost(step: float, scoring: float, batch: int = 10) -> Callable[[int, int], float]:
    def spent(intervals: int, samples: int) -> float:
        return intervals * (math.ceil(samples / batch) * step + scoring)

    return spent


def test_a_budget_of_steps_is_used_up_whatever_the_samples_per_interval() -> None:
    for num_samples in (30, 70, 250):
        spent = cost(1.0, 0.0)
        intervals, samples = fit(spent, 100, num_samples, 1000, "any")
        # The last step of each interval is all that may be left over.
        assert 100 - intervals < spent(intervals, samples) <= 100
        assert abs(samples - num_samples) <= num_samples / intervals


@pytest.mark.parametrize(
    ("batch", "num_samples", "limit"),
    [(64, 200, 100), (16, 20, 100), (32, 34, 1000), (64, 70, 500), (10, 95, 7)],
)
def test_whole_steps_of_an_interval_leave_no_budget_over(
    batch: int, num_samples: int, limit: int
) -> None:
    spent = cost(1.0, 0.0, batch)
    assert spent(*fit(spent, limit, num_samples, 1000, "any")) >= 0.97 * limit


def test_scoring_takes_training_away_from_who_pays_for_it() -> None:
    paying, free = cost(1.0, 10.0), cost(1.0, 0.0)
    few, many = (fit(each, 240, 300, 1000, "any") for each in (paying, free))
    assert few == (6, 300)  # 30 steps and 10 seconds of scoring, six times
    assert many == (8, 300)


def test_a_scoring_that_is_paid_once_leaves_the_other_intervals_alone() -> None:
    def spent(intervals: int, samples: int) -> float:
        return 10.0 + cost(1.0, 0.0)(intervals, samples)

    assert fit(spent, 250, 300, 1000, "any") == (8, 300)


def test_a_pool_that_is_trained_on_as_a_whole_gets_more_intervals() -> None:
    intervals, samples = fit(cost(1.0, 0.0), 140, 1000, 1000, "any")  # 100 steps an interval
    assert (intervals, samples) == (2, 700)


def test_what_an_interval_costs_beside_its_steps_does_not_drive_samples_away() -> None:
    """Two intervals are just paid for, and one leaves half of the budget to its samples."""
    intervals, samples = fit(cost(0.05, 2.45), 5, 20, 1000, "any")
    assert (intervals, samples) == (2, 10)


def test_a_budget_too_small_for_one_interval_is_refused() -> None:
    with pytest.raises(ConfigError, match="pays for no interval of dear, which needs at least 11"):
        fit(cost(1.0, 10.0), 10.5, 100, 1000, "dear")


def test_strategies_are_charged_for_the_scores_they_look_at(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    strategies = ["random", "static_entropy", "edco", {"type": "length", "top_n": 40}]
    values = comparison(tiny_config, strategies=strategies, budget={"seconds": 24})
    values["curriculum"] = {"top_n": 20}  # five steps
    values["run"] = {**values["run"], "output_dir": str(tmp_path)}
    path = write(tmp_path, values)
    planned = plan_comparison(
        comparison_of(load_comparison(path)),
        f"duckdb:///{tmp_path / 'none.duckdb'}",
        lambda config, inputs: Cost(step=0.5, interval=0.5, scoring=3.0),
    )
    found = {arm.label: arm for arm in planned.arms}
    # An interval takes 3 s, and 6 s where its scores are paid for.
    assert {label: arm.plan.num_intervals for label, arm in found.items()} == {
        "random": 8, "static_entropy": 7, "edco": 4, "length": 4,
    }  # fmt: skip
    assert {label: arm.planned_seconds for label, arm in found.items()} == {
        "random": 24.0, "static_entropy": 24.0, "edco": 24.0, "length": 24.0,
    }  # fmt: skip
    assert len({run.run_id for run in planned.runs}) == len(planned.runs) == 8


def with_pools(tiny_config: dict[str, Any], folder: Path, sizes: dict[int, int]) -> Path:
    """A comparison in which the pool of a seed is so many lines of the tests' pool."""
    lines = Path(tiny_config["data"]["train"]).read_text(encoding="utf-8").splitlines()
    for seed, size in sizes.items():
        (folder / f"pool-{seed}.jsonl").write_text("\n".join(lines[seed:][:size]))
    values = comparison(tiny_config, seeds=list(sizes))
    values["data"] = {**values["data"], "train": str(folder / "pool-{seed}.jsonl")}
    values["run"] = {**values["run"], "output_dir": str(folder)}
    return write(folder, values)


def test_each_seed_may_have_a_pool_of_its_own(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    path = with_pools(tiny_config, tmp_path, {1: 40, 2: 40})
    no_ledger = f"duckdb:///{tmp_path / 'none.duckdb'}"
    planned = plan_comparison(comparison_of(load_comparison(path)), no_ledger, never)
    assert [(run.seed, Path(run.config.data.train).name) for run in planned.runs] == [
        (1, "pool-1.jsonl"), (1, "pool-1.jsonl"), (2, "pool-2.jsonl"), (2, "pool-2.jsonl"),
    ]  # fmt: skip
    # Another pool of the second seed makes other runs of it, and of no other.
    with_pools(tiny_config, tmp_path, {1: 40, 2: 41})
    (tmp_path / "pool-2.jsonl").write_text(
        "\n".join((tmp_path / "pool-2.jsonl").read_text().splitlines()[1:])
    )
    again = plan_comparison(comparison_of(load_comparison(path)), no_ledger, never)
    same = [a.run_id == b.run_id for a, b in zip(planned.runs, again.runs, strict=True)]
    assert same == [True, True, False, False]


def test_pools_of_unlike_sizes_are_refused(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    path = with_pools(tiny_config, tmp_path, {1: 40, 2: 39})
    with pytest.raises(ConfigError, match=r"seed 1: 40, seed 2: 39"):
        plan_comparison(
            comparison_of(load_comparison(path)), f"duckdb:///{tmp_path / 'none.duckdb'}", never
        )


def never(config: Any, inputs: Any) -> Cost:
    raise AssertionError("a budget of steps needs no measurement")


@pytest.mark.parametrize(
    ("strategy", "top_n", "most"),
    [
        ({"type": "entropy_band"}, 0.45, 36),
        ({"type": "edco", "guard": {"control_share": 0.1}}, 0.9, 72),
    ],
)
def test_a_budget_is_never_used_up_by_more_samples_than_can_be_selected(
    tiny_config: dict[str, Any], tmp_path: Path, strategy: dict[str, Any], top_n: float, most: int
) -> None:
    path = write(tmp_path, {
        **tiny_config,
        "curriculum": {"top_n": top_n},
        "compare": {"strategies": ["random", strategy], "seeds": 1, "budget": {"steps": 19}},
    })  # fmt: skip
    no_ledger = f"duckdb:///{tmp_path / 'none.duckdb'}"
    planned = plan_comparison(comparison_of(load_comparison(path)), no_ledger, never)
    assert planned.arms[1].plan.samples_per_interval <= most


def test_models_and_sampling_are_checked_before_anything_is_run(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    values = comparison(tiny_config)
    values["model"] = {**values["model"], "name_or_path": "no-model"}
    write(edco.folder, values)
    for command in (("validate", "compare.yaml"), ("compare", "compare.yaml")):
        refused = edco(*command, expect=2)
        assert "compare: random: model.name_or_path: no model could be loaded" in refused.stderr
    assert not (edco.folder / "runs").exists()


def unfinished(num_seeds: int, folder: Path, budget: Any = None, steps: Any = (4, 4)) -> Any:
    """A comparison of which nothing has been started."""
    from flows.compare_result import read_result

    arms = [
        SimpleNamespace(label=label, strategy=label, config=None, plan=SimpleNamespace(
            total_steps=num_steps, samples_per_interval=8, num_intervals=2),
            wanted_samples=8, planned_seconds=None)
        for label, num_steps in zip(("random", "edco"), steps, strict=True)
    ]  # fmt: skip
    runs = [
        PlannedRun(f"{arm.label}-{seed}", arm.label, seed, None)  # type: ignore[arg-type]
        for arm in arms
        for seed in range(num_seeds)
    ]
    seeds = tuple(range(num_seeds))
    comparison = SimpleNamespace(name="c", reference="random", seeds=seeds, budget=budget)
    planned: Any = SimpleNamespace(comparison=comparison, arms=arms, runs=runs, metric="m")
    return read_result(open_ledger(f"duckdb:///{folder / 'ledger.duckdb'}"), planned)


@pytest.mark.parametrize(("num_seeds", "advice"), [(2, "raise compare.seeds"), (5, "carries on")])
def test_a_table_of_nothing_finished_says_what_to_do_and_counts_no_seconds(
    num_seeds: int, advice: str, tmp_path: Path
) -> None:
    result = unfinished(num_seeds, tmp_path)
    assert advice in result.remarks[0]
    assert result.remarks[-1].startswith("nothing can be tested yet")
    assert {run.facts()["seconds"] for run in result.runs} == {None}


def test_strategies_that_may_spend_unlike_budgets_are_pointed_out(tmp_path: Path) -> None:
    budget = BudgetSection(steps=100)
    remarks = unfinished(5, tmp_path, budget, (100, 78)).remarks
    assert any("planned with 78 steps (edco) to 100 steps (random)" in each for each in remarks)
    assert not any("planned with" in r for r in unfinished(5, tmp_path, budget, (100, 97)).remarks)


def test_runs_that_began_with_another_base_model_are_no_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edco_core import base_model
    from flows.compare import _refuse_other_base

    url = f"duckdb:///{tmp_path}/ledger.duckdb"
    ledger = open_ledger(url)
    ledger.register_pool(make_pool())
    ledger.create_run(make_spec("random-0", plan={"base_model": "one"}), "me")
    model = SimpleNamespace(name_or_path="m")
    run = SimpleNamespace(run_id="random-0", config=SimpleNamespace(model=model))
    planned: Any = SimpleNamespace(runs=[run])
    monkeypatch.setattr(base_model, "base_fingerprint", lambda settings: "one")
    _refuse_other_base(planned, {"random-0"}, url)
    monkeypatch.setattr(base_model, "base_fingerprint", lambda settings: "two")
    _refuse_other_base(planned, set(), url)
    with pytest.raises(ModelError, match="began with another base model"):
        _refuse_other_base(planned, {"random-0"}, url)


def test_the_page_tells_what_all_share_from_what_one_has_for_itself() -> None:
    from flows.compare_page import _shared, _without

    settings = [
        {"scoring": {"type": "x", "tokens": 8}, "training": {"args": {"lr": 1}}, "model": "m"},
        {"scoring": {"type": "x", "tokens": 16}, "training": {"args": {"lr": 1}}, "model": "m"},
    ]
    shared = _shared(settings)
    assert shared == {"scoring": {"type": "x"}, "training": {"args": {"lr": 1}}, "model": "m"}
    assert [_without(each, shared) for each in settings] == [
        {"scoring": {"tokens": 8}}, {"scoring": {"tokens": 16}},
    ]  # fmt: skip


def test_a_page_that_could_not_be_written_is_refused_before_anything_is_run(
    tiny_config: dict[str, Any], new_edco: Callable[[], Edco]
) -> None:
    edco = new_edco()
    write(edco.folder, comparison(tiny_config))
    refused = edco("compare", "compare.yaml", "-o", "nowhere/page.html", expect=2)
    assert "cannot be written: No such file or directory" in refused.stderr
    assert not (edco.folder / "runs").exists()


# ---------------------------------------------------------------- real comparisons


def comparison(tiny_config: dict[str, Any], **compare: Any) -> dict[str, Any]:
    """Two intervals of two steps."""
    return {
        **tiny_config,
        "curriculum": {"intervals": 2, "top_n": 8},
        "compare": {"strategies": ["random", "edco"], "seeds": 2, **compare},
    }


def runs_of(edco: Edco) -> dict[str, str]:
    """Label and seed to when the run was finished."""
    rows = edco.json("query", "SELECT run_id, finished_at FROM run_summary ORDER BY run_id")
    return {"-".join(row["run_id"].split("-")[1:3]): row["finished_at"] for row in rows}


def asked(edco: Edco, path: str, **values: Any) -> list[dict[str, Any]]:
    """What Prefect's server answers."""
    url = edco.environment["PREFECT_API_URL"] + path
    return ask_prefect(url, values)  # type: ignore[no-any-return]


def flow_runs(edco: Edco, flow: str, **wanted: Any) -> list[dict[str, Any]]:
    flows = {"name": {"any_": [flow]}}
    return asked(edco, "/flow_runs/filter", flows=flows, flow_runs=wanted)


def sub_flows(edco: Edco) -> dict[str, str]:
    """The sub-flows of comparisons that Prefect knows: flow run to label and seed."""
    comparisons = [run["id"] for run in flow_runs(edco, "compare")]
    found = flow_runs(edco, "finetune", parent_flow_run_id={"any_": comparisons})
    names = {run["id"]: run["parameters"]["run_id"].split("-") for run in found}
    return {each: "-".join(words[1:3]) for each, words in names.items()}


@pytest.fixture(scope="module")
def compared(new_edco: Callable[[], Edco], tiny_config: dict[str, Any]) -> Edco:
    """A comparison of four runs, killed in the third, then carried on to its end."""
    edco = new_edco()
    write(edco.folder, comparison(tiny_config))
    earlier = sub_flows(edco)
    edco("training-row", "5", "compare", "compare.yaml", program=KILLED, expect=-signal.SIGKILL)
    before = runs_of(edco)
    assert [name for name, finished_at in before.items() if finished_at] == ["edco-s3", "random-s3"]
    printed = edco("compare", "compare.yaml", "-o", "page.html", "--json")
    (edco.folder / "result.json").write_text(printed.stdout, encoding="utf-8")
    (edco.folder / "stderr").write_text(printed.stderr, encoding="utf-8")
    new = [name for each, name in sub_flows(edco).items() if each not in earlier]
    (edco.folder / "sub_flows").write_text(" ".join(new), encoding="utf-8")
    after = runs_of(edco)
    assert {name: after[name] for name in ("edco-s3", "random-s3")} == {
        name: before[name] for name in ("edco-s3", "random-s3")
    }
    return edco


@pytest.mark.slow
def test_a_comparison_killed_half_way_goes_on_and_skips_what_is_finished(compared: Edco) -> None:
    assert "2 of 4 runs are finished already" in (compared.folder / "stderr").read_text()
    result = json.loads((compared.folder / "result.json").read_text())
    assert [run["status"] for run in result["runs"]] == ["finished"] * 4
    again = compared("compare", "compare.yaml")
    assert "small" not in again.stderr
    assert "4 finished" in again.stderr
    assert "no strategy can be told apart from random" in again.stdout


@pytest.mark.slow
def test_the_table_is_what_the_runs_say(compared: Edco) -> None:
    result = json.loads((compared.folder / "result.json").read_text())
    summaries = {row["run_id"]: row for row in compared.json("runs")}
    finals: dict[str, list[float]] = {"random": [], "edco": []}
    for run in result["runs"]:
        summary = summaries[run["run_id"]]
        finals[run["label"]].append(summary["last_metric"])
        paid = summary["scoring_seconds"] if run["label"] == "edco" else 0.0
        assert run["scoring_seconds"] == pytest.approx(paid)
        trained = summary["selection_seconds"] + summary["training_seconds"]
        assert run["seconds"] == pytest.approx(paid + trained)
        assert summary["experiment"] == "tiny"
    rows = {row["label"]: row for row in result["strategies"]}
    for label, values in finals.items():
        assert rows[label]["mean"] == pytest.approx(sum(values) / 2)
        assert (rows[label]["n_seeds"], rows[label]["n_failed"], rows[label]["steps"]) == (2, 0, 4)
    difference = [a - b for a, b in zip(finals["edco"], finals["random"], strict=True)]
    assert rows["edco"]["difference"] == pytest.approx(sum(difference) / 2)
    assert rows["random"]["difference"] is None
    kept = compared.json("query", "SELECT * FROM comparisons ORDER BY label")
    assert [row["label"] for row in kept] == ["edco", "random"]
    assert [row["mean"] for row in kept] == [rows["edco"]["mean"], rows["random"]["mean"]]
    assert any("say next to nothing" in remark for remark in result["remarks"])


@pytest.mark.slow
def test_runs_are_sub_flows_of_the_comparison(compared: Edco) -> None:
    # The third is there twice: in the flow run that was killed, and in the one that carried it on.
    names = (compared.folder / "sub_flows").read_text(encoding="utf-8").split()
    assert sorted(names) == ["edco-s3", "edco-s4", "random-s3", "random-s4", "random-s4"]


@pytest.mark.slow
def test_the_page_and_csv_name_every_strategy_and_run(compared: Edco) -> None:
    page = (compared.folder / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "src=" not in page
    for run in json.loads((compared.folder / "result.json").read_text())["runs"]:
        assert run["run_id"] in page
    lines = compared("compare", "compare.yaml", "--show", "--csv").stdout.splitlines()
    assert lines[0].startswith("label,strategy,n_seeds")
    assert len(lines) == 3


@pytest.mark.slow
def test_processes_side_by_side_come_to_the_same_and_more_seeds_add_runs(
    compared: Edco, new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    write(edco.folder, comparison(tiny_config))
    earlier = sub_flows(edco)
    first = json.loads(
        edco("compare", "compare.yaml", "--set", "compare.parallel=2", "--json").stdout
    )
    new = [name for each, name in sub_flows(edco).items() if each not in earlier]
    assert sorted(new) == ["edco-s3", "edco-s4", "random-s3", "random-s4"]
    expected = json.loads((compared.folder / "result.json").read_text())
    metrics = [
        {(run["run_id"], run["metric"]) for run in each["runs"]} for each in (first, expected)
    ]
    assert metrics[0] == metrics[1]
    before = runs_of(edco)
    seeds = ("compare", "compare.yaml", "--set", "compare.seeds=[3, 4, 9]", "--json")
    shown = json.loads(edco(*seeds, "--show").stdout)["runs"]
    (new,) = (run["run_id"] for run in shown if (run["label"], run["seed"]) == ("edco", 9))
    # What a process leaves that is killed before its run is in the ledger.
    (edco.folder / "runs" / new / "tokenized").mkdir(parents=True)
    more = edco(*seeds)
    after = runs_of(edco)
    assert set(after) - set(before) == {"edco-s9", "random-s9"}
    assert {name: after[name] for name in before} == before
    assert {row["n_seeds"] for row in json.loads(more.stdout)["strategies"]} == {3}


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_signal_stops_at_a_safe_point_and_typing_it_again_goes_on(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any], parallel: int
) -> None:
    edco = new_edco()
    write(edco.folder, comparison(tiny_config, parallel=parallel, seeds=1))
    heard = "interval 0" if parallel == 1 else "[random s3] interval 0"
    process = edco.start_and_wait_for(heard, "compare", "compare.yaml")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 1, stderr
    assert "To carry on:" in stderr
    assert "compare compare.yaml" in stderr
    assert "Traceback" not in stderr
    assert {run["status"] for run in edco.json("runs")} <= {"interrupted", "finished"}, stderr
    edco("compare", "compare.yaml")
    assert {run["status"] for run in edco.json("runs")} == {"finished"}


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_comparison_cancelled_in_the_ui_takes_its_runs_with_it(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any], parallel: int
) -> None:
    edco = new_edco()
    values = comparison(tiny_config, parallel=parallel, seeds=1)
    values["curriculum"] = {"intervals": 400, "top_n": 8}  # without end, for this test
    write(edco.folder, values)
    earlier = {run["id"] for run in flow_runs(edco, "compare")}
    last = "random" if parallel == 1 else "edco"
    heard = "interval 0" if parallel == 1 else f"[{last} s3] interval 0"
    process = edco.start_and_wait_for(heard, "compare", "compare.yaml")
    (ours,) = [run["id"] for run in flow_runs(edco, "compare") if run["id"] not in earlier]
    cancelling = {"type": "CANCELLING", "name": "Cancelling"}
    asked(edco, f"/flow_runs/{ours}/set_state", state=cancelling, force=True)
    children = psutil.Process(process.pid).children()
    for child in [each for each in children if "flows.compare_child" in each.cmdline()][:1]:
        child.terminate()  # as it would be had the other one noticed first
    try:
        _, stderr = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 1, stderr
    assert "To carry on:" in stderr
    assert "Traceback" not in stderr
    assert [run["status"] for run in edco.json("runs")] == ["interrupted"] * parallel
    ended = flow_runs(edco, "finetune", parent_flow_run_id={"any_": [ours]})
    ended += flow_runs(edco, "compare", id={"any_": [ours]})
    assert [run["state_name"] for run in ended] == ["Cancelled"] * (parallel + 1)


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_stops_no_other(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    broken = {"type": "edco", "label": "broken", "set": {"training.args.learning_rate": 1e30}}
    write(edco.folder, comparison(tiny_config, strategies=["random", broken, "edco"], seeds=1))
    printed = edco("compare", "compare.yaml", "--json", expect=1)
    result = json.loads(printed.stdout)
    rows = {row["label"]: row for row in result["strategies"]}
    assert [rows[each]["n_seeds"] for each in ("random", "broken", "edco")] == [1, 0, 1]
    assert (rows["broken"]["n_failed"], rows["broken"]["mean"]) == (1, None)
    assert result["strategies"][-1]["label"] == "broken"
    assert any("broken, seed 3: failed" in remark for remark in result["remarks"])
    assert "Traceback" not in printed.stderr


@pytest.mark.slow
def test_all_runs_start_from_the_run_that_is_named_and_say_so(compared: Edco) -> None:
    first = "SELECT run_id FROM run_summary WHERE strategy = 'random' ORDER BY run_id LIMIT 1"
    parent = compared.json("query", first)[0]["run_id"]
    values = yaml.safe_load((compared.folder / "compare.yaml").read_text(encoding="utf-8"))
    values["model"]["name_or_path"] = f"run:{parent}"
    values["run"]["experiment"] = "further"
    values["compare"]["seeds"] = 1
    (compared.folder / "further.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    result = json.loads(compared("compare", "further.yaml", "--json").stdout)
    assert [run["status"] for run in result["runs"]] == ["finished"] * 2
    rows = compared.json(
        "query", "SELECT parent_run_id FROM run_summary WHERE experiment = 'further'"
    )
    assert [row["parent_run_id"] for row in rows] == [parent] * 2


@pytest.mark.slow
def test_seeds_that_change_nothing_are_said_to_be_one_observation(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    values = comparison(tiny_config, strategies=["random", "length"])
    values["model"] = {**values["model"], "peft": None}  # which a seed would begin
    write(edco.folder, values)
    result = json.loads(edco("compare", "compare.yaml", "--json").stdout)
    (said,) = [remark for remark in result["remarks"] if "one observation" in remark]
    assert said.startswith("length: ")


@pytest.mark.slow
def test_a_budget_of_seconds_is_planned_by_what_was_measured_once(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    values = comparison(tiny_config, seeds=1, budget={"seconds": 5})
    values["curriculum"] = {"top_n": 8}
    write(edco.folder, values)
    refused = edco("compare", "compare.yaml", "--show", expect=2)
    assert "has not been measured yet" in refused.stderr
    assert edco.json("validate", "compare.yaml")["budget"].startswith("in seconds: ")
    result = json.loads(edco("compare", "compare.yaml", "--json").stdout)
    steps = {row["label"]: row["steps"] for row in result["strategies"]}
    plan = edco.json("validate", "compare.yaml")
    for label in ("random", "edco"):
        planned = float(plan[label].rpartition("about ")[2].split()[0])
        assert planned <= 5
        assert f"{steps[label]} steps" in plan[label]
    assert "measuring" not in edco("compare", "compare.yaml").stderr


@pytest.mark.slow
def test_strategies_of_different_lengths_need_a_budget(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    few = {"type": "edco", "top_n": 4, "label": "few"}
    write(edco.folder, comparison(tiny_config, strategies=["random", few]))
    refused = edco("validate", "compare.yaml", expect=2)
    assert "random 4, few 2" in refused.stderr
    values = comparison(tiny_config, strategies=["random", few], budget={"steps": 4})
    values["curriculum"] = {"top_n": 8}
    write(edco.folder, values)
    plan = edco.json("validate", "compare.yaml")
    assert "2 intervals of 8 samples, 4 steps" in plan["random"]
    assert "4 intervals of 4 samples, 4 steps" in plan["few"]
