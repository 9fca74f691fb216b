"""The views say what happened, the same on both databases: checked against plain Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from edco_core.errors import InputError, LedgerError, NotFoundError
from storage import Ledger, open_ledger, queries
from storage.views import VIEWS
from tests.storage.conftest import (
    BACKENDS,
    curriculum,
    do_interval,
    do_run,
    make_checkpoint,
    make_comparison_row,
    make_evaluation,
    make_pool,
    make_spec,
    pool_scores,
    ranks_of,
    shard,
)

POOL = make_pool()
IDS: list[str] = POOL.table["sample_id"].to_pylist()
SIZE = len(POOL)
K = 4

COLUMNS = {  # the public contract
    "run_summary": "run_id experiment strategy trainer model dataset_id seed status "
    "intervals_planned intervals_done pool_size top_n metric last_metric best_metric created_at "
    "finished_at scoring_seconds selection_seconds training_seconds evaluation_seconds message "
    "current_interval current_stage lease_expires_at run_dir",
    "interval_summary": "run_id interval status pool_size n_scored n_rescored recall_estimate "
    "n_selected cutoff score_mean score_p50 score_p90 score_max n_entered n_first_time n_returned "
    "n_stayed n_left jaccard train_loss metric checkpoint_id scoring_seconds "
    "selection_seconds training_seconds",
    "sample_history": "run_id interval sample_id score n_tokens rank percentile selected position "
    "probability reason change checkpoint_id scored_at_interval",
    "curriculum": "run_id interval sample_id position rank score probability reason change",
    "turnover": "run_id interval n_selected n_entered n_first_time n_returned n_stayed n_left "
    "jaccard",
    "persistent_samples": "run_id sample_id times_selected longest_streak first_interval "
    "last_interval score_first score_last score_mean",
    "persistent_ordinals": "run_id dataset_id ordinal times_selected longest_streak first_interval "
    "last_interval score_first score_last score_mean",
    "samples": "dataset_id sample_id ordinal category prompt completion metadata answer source",
    "skipped_rows": "dataset_id source problem",
    "evaluations": "run_id interval metric category value n",
    "checkpoints": "run_id interval step checkpoint_id weights_sha256 path metric created_at "
    "removed_at",
    "training_steps": "run_id interval step loss learning_rate grad_norm num_tokens",
    "step_samples": "run_id interval step slot sample_id",
    "rollouts": "run_id interval step sample_id n n_correct reward_mean reward_std "
    "advantage_abs_mean n_tokens_mean truncated_share draw slot n_trained "
    "gradient_correct gradient_wrong gradient_gap",
    "rollout_texts": "run_id interval step draw number sample_id answer reward is_correct n_tokens "
    "truncated",
    "pass_rates": "run_id interval sample_id n n_correct pass_rate",
    "beliefs": "run_id interval sample_id alpha beta mean",
    "alarms": "run_id interval alarm value threshold action message",
    "comparisons": "experiment label strategy n_seeds n_failed metric mean ci_low ci_high "
    "tail_mean difference difference_low difference_high n_pairs p_value p_adjusted p_sign_flip "
    "steps seconds scoring_seconds steps_to_reference seconds_to_reference made_at",
}


TIMES = ("created_at", "finished_at", "made_at")


@pytest.fixture(scope="module", params=BACKENDS)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A ledger with two finished runs and one in the middle of an interval, read-only."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_database")
    else:
        url = f"duckdb:///{tmp_path_factory.mktemp('told') / 'ledger.duckdb'}"
    ledger = open_ledger(url)
    do_run(ledger, "demo-1", K)
    do_run(ledger, "demo-2", K, run=1, experiment="abl", seed=8)
    lease = ledger.create_run(make_spec("demo-3"), "pid=3")
    do_interval(ledger, lease, 0, POOL, run=2)
    ledger.begin_stage(lease, 1, "scoring")
    ledger.finish_checkpoint(lease, make_checkpoint(1, 4), None, 0.1)
    ledger.add_scores(lease, 1, shard(pool_scores(1, SIZE), 0, 9))
    return open_ledger(url, read_only=True)


def rows(ledger: Ledger, view: str, order: str, run_id: str = "demo-1") -> list[dict[str, Any]]:
    columns, found = ledger.query(
        f"SELECT * FROM {view} WHERE run_id = :run_id ORDER BY {order}", {"run_id": run_id}
    )
    return [dict(zip(columns, row, strict=True)) for row in found]


def test_every_view_has_its_documented_columns(ledger: Ledger) -> None:
    assert set(COLUMNS) == set(VIEWS)
    for view, columns in COLUMNS.items():
        assert set(columns.split()) <= set(ledger.frame(view).columns), view


@pytest.mark.parametrize("run", [0, 1])
def test_turnover_is_what_sets_in_python_say(told: Ledger, run: int) -> None:
    chosen = [set(curriculum(k, SIZE, run).tolist()) for k in range(K)]
    returned_somewhere = 0
    for k, row in enumerate(rows(told, "turnover", "interval", f"demo-{run + 1}")):
        before: set[int] = chosen[k - 1] if k else set()
        ever = set().union(*chosen[:k])
        assert row["interval"] == k
        assert row["n_selected"] == len(chosen[k])
        assert row["n_entered"] == len(chosen[k] - before)
        assert row["n_first_time"] == len(chosen[k] - ever)
        assert row["n_returned"] == len((chosen[k] & ever) - before)
        assert row["n_stayed"] == len(chosen[k] & before)
        assert row["n_left"] == len(before - chosen[k])
        union = chosen[k] | before
        assert row["jaccard"] == (len(chosen[k] & before) / len(union) if k else None)
        returned_somewhere += row["n_returned"]
    assert returned_somewhere > 0


def test_curriculum_tells_first_time_returned_and_stayed_apart(told: Ledger) -> None:
    chosen = [curriculum(k, SIZE).tolist() for k in range(K)]
    seen = set()
    found = rows(told, "curriculum", "interval, position")
    assert [row["sample_id"] for row in found] == [IDS[i] for k in range(K) for i in chosen[k]]
    for row in found:
        k, ordinal = row["interval"], IDS.index(row["sample_id"])
        streak = 0
        while streak <= k and ordinal in chosen[k - streak]:
            streak += 1
        times = sum(ordinal in chosen[j] for j in range(k + 1))
        change = "stayed" if streak > 1 else "returned" if times > 1 else "first_time"
        scores = pool_scores(k, SIZE)
        assert row["position"] == chosen[k].index(ordinal)
        assert (row["change"], row["streak"], row["times_selected"]) == (change, streak, times)
        assert row["score"] == scores[ordinal]
        assert row["rank"] == ranks_of(scores)[ordinal]
        assert row["probability"] == scores[ordinal] / scores.sum()
        assert row["reason"] == "tempered_draw"
        seen.add(change)
    assert seen == {"first_time", "returned", "stayed"}


def test_persistent_samples_count_times_and_longest_streak(told: Ledger) -> None:
    chosen = [curriculum(k, SIZE).tolist() for k in range(K)]
    expected = {}
    for ordinal in set().union(*chosen):
        at = [k for k in range(K) if ordinal in chosen[k]]
        runs = "".join("x" if k in at else " " for k in range(K)).split()
        scores = [float(pool_scores(k, SIZE)[ordinal]) for k in at]
        expected[IDS[ordinal]] = (
            len(at), max(map(len, runs)), at[0], at[-1], scores[0], scores[-1],
            pytest.approx(mean(scores)),
        )  # fmt: skip
    found = {row.pop("sample_id"): row for row in rows(told, "persistent_samples", "sample_id")}
    # the first two columns are run_id and dataset_id
    assert {i: tuple(row.values())[2:] for i, row in found.items()} == expected
    assert max(row["longest_streak"] for row in found.values()) > 1


def test_sample_history_holds_every_sample_at_every_interval(told: Ledger) -> None:
    found = rows(told, "sample_history", "interval, sample_id")
    assert len(found) == K * SIZE
    for row in found:
        k, ordinal = row["interval"], IDS.index(row["sample_id"])
        scores = pool_scores(k, SIZE)
        chosen = curriculum(k, SIZE).tolist()
        picked = ordinal in chosen
        rank = ranks_of(scores)[ordinal]
        assert row["score"] == scores[ordinal]
        assert row["n_tokens"] == ordinal % 7 + 1
        assert row["rank"] == rank
        assert row["percentile"] == pytest.approx(100 * (SIZE - rank + 1) / SIZE)
        assert row["selected"] is picked
        assert row["position"] == (chosen.index(ordinal) if picked else None)
        assert row["reason"] == ("tempered_draw" if picked else None)
        assert row["checkpoint_id"] == make_checkpoint(k, 0).checkpoint_id
        assert row["scored_at_interval"] == k


def test_interval_summary_sums_an_interval_up(told: Ledger) -> None:
    for k, row in enumerate(rows(told, "interval_summary", "interval")):
        scores = pool_scores(k, SIZE)
        assert (row["interval"], row["status"], row["pool_size"]) == (k, "done", SIZE)
        assert (row["n_scored"], row["n_selected"]) == (SIZE, 10)
        assert (row["n_rescored"], row["recall_estimate"]) == (SIZE, None)
        assert row["score_mean"] == pytest.approx(scores.mean())
        assert row["score_p50"] == pytest.approx(np.quantile(scores, 0.5))
        assert row["score_p90"] == pytest.approx(np.quantile(scores, 0.9))
        assert row["score_max"] == scores.max()
        assert row["cutoff"] == scores[curriculum(k, SIZE)].min()
        assert row["train_loss"] == pytest.approx(1.85)
        assert row["metric"] == (0.375 if k == 1 else 0.25)
        assert row["checkpoint_id"] == make_checkpoint(k, 0).checkpoint_id
        seconds = ("scoring_seconds", "selection_seconds", "training_seconds")
        assert [row[name] for name in seconds] == [2.5, 0.5, 4.5]
        assert json.loads(row["selection_facts"]) == {"temperature": 1.0, "top_n": 10}


def test_an_interval_is_listed_as_soon_as_one_of_its_stages_is_finished(told: Ledger) -> None:
    found = rows(told, "interval_summary", "interval", "demo-3")
    assert [(row["interval"], row["status"]) for row in found] == [(0, "done"), (1, "running")]
    assert found[1]["n_scored"] is None
    assert found[1]["checkpoint_id"] == make_checkpoint(1, 4).checkpoint_id
    assert len(rows(told, "turnover", "interval", "demo-3")) == 1


def test_a_checkpoint_is_shown_with_the_metric_of_its_weights(told: Ledger) -> None:
    found = queries.checkpoints(told, "demo-1")
    assert [row["interval"] for row in found] == list(range(K + 1))
    assert [row["metric"] for row in found] == [make_evaluation(k - 1).value for k in range(K + 1)]
    last = make_checkpoint(K, K * 4)
    assert (found[K]["path"], found[K]["step"]) == (last.path, last.step)
    assert found[K]["checkpoint_id"] == last.checkpoint_id
    assert found[K]["weights_sha256"] == last.weights_sha256
    assert found[K]["removed_at"] is None


def test_run_summary_sums_a_run_up(told: Ledger) -> None:
    done = queries.run(told, "demo-1")
    assert (done["status"], done["intervals_done"], done["intervals_planned"]) == ("finished", K, K)
    assert (done["best_metric"], done["last_metric"], done["baseline_metric"]) == (
        0.375, 0.25, 0.125,
    )  # fmt: skip
    assert (done["scoring_seconds"], done["selection_seconds"]) == (K * 2.5, K * 0.5)
    assert (done["training_seconds"], done["evaluation_seconds"]) == (K * 4.5, (K + 1) * 1.5)
    assert done["created_at"].endswith("Z")
    going = queries.run(told, "demo-3")
    assert (going["status"], going["intervals_done"]) == ("running", 1)
    assert (going["current_interval"], going["current_stage"]) == (1, "scoring")
    assert [run["run_id"] for run in queries.runs(told)] == ["demo-3", "demo-2", "demo-1"]


def test_training_steps_and_evaluations_are_listed(told: Ledger) -> None:
    steps = rows(told, "training_steps", "step")
    assert [row["step"] for row in steps] == list(range(1, 4 * K + 1))
    assert [row["grad_norm"] for row in steps[:2]] == [0.5, None]
    found = rows(told, "evaluations", "interval, category")
    assert [row["interval"] for row in found] == [i for i in range(-1, K) for _ in range(3)]
    assert [row["category"] for row in found[:3]] == ["a", "b", None]


def test_the_same_sql_gives_the_same_answers_on_both_databases(
    new_ledger_url: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("postgres_url")
    asked = [f"SELECT * FROM {view} ORDER BY {', '.join(_KEYS[view])}" for view in VIEWS]
    asked += [
        "SELECT interval, n_left / n_selected AS whole, 1.0 * n_left / n_selected AS part, "
        "jaccard FROM turnover ORDER BY jaccard DESC, run_id, interval",
        "SELECT sample_id, category FROM samples ORDER BY category DESC, sample_id",
        "SELECT run_id, avg(score) AS mean, count(*) AS n FROM curriculum WHERE change <> 'stayed' "
        "GROUP BY run_id ORDER BY run_id",
        "SELECT count(*) AS n FROM sample_history WHERE percentile > 90 AND NOT selected",
    ]
    answers = []
    for backend in ("duckdb", "postgres"):
        url = new_ledger_url(backend)
        ledger = open_ledger(url)
        do_run(ledger, "demo-1", K)
        do_run(ledger, "Demo-2", K, run=1)
        ledger.keep_comparison("demo", [make_comparison_row()])
        reader = open_ledger(url, read_only=True)
        answers.append([reader.query(sql) for sql in asked])
    for sql, ours, theirs in zip(asked, *answers, strict=True):
        times = [i for i, name in enumerate(ours[0]) if name in TIMES]
        assert ours[0] == theirs[0], sql
        assert len(ours[1]) == len(theirs[1]) > 0, sql
        for mine, other in zip(ours[1], theirs[1], strict=True):
            for i, (a, b) in enumerate(zip(mine, other, strict=True)):
                if i in times:
                    assert type(a) is type(b), sql
                    continue
                plain = queries.jsonable(a), queries.jsonable(b)
                if any(isinstance(value, float) for value in plain):
                    assert plain[0] == pytest.approx(plain[1], rel=1e-12), (sql, ours[0][i])
                else:
                    assert plain[0] == plain[1], (sql, ours[0][i])
                    assert type(plain[0]) is type(plain[1]), (sql, ours[0][i])


_KEYS = {
    "run_summary": ("run_id",),
    "interval_summary": ("run_id", "interval"),
    "sample_history": ("run_id", "interval", "sample_id"),
    "curriculum": ("run_id", "interval", "position"),
    "turnover": ("run_id", "interval"),
    "persistent_samples": ("run_id", "sample_id"),
    "persistent_ordinals": ("run_id", "ordinal"),
    "samples": ("dataset_id", "sample_id"),
    "skipped_rows": ("dataset_id", "source"),
    "evaluations": ("run_id", "interval", "metric", "category"),
    "checkpoints": ("run_id", "interval"),
    "training_steps": ("run_id", "step"),
    "step_samples": ("run_id", "step", "slot"),
    "rollouts": ("run_id", "interval", "draw"),
    "rollout_texts": ("run_id", "interval", "draw", "number"),
    "pass_rates": ("run_id", "interval", "sample_id"),
    "beliefs": ("run_id", "interval", "sample_id"),
    "alarms": ("run_id", "interval", "alarm"),
    "comparisons": ("experiment", "label"),
}


# ---------------------------------------------------------------- questions


def test_why_tells_a_samples_text_and_whole_history(told: Ledger) -> None:
    ordinal = int(curriculum(1, SIZE)[0])
    answer = queries.why(told, "demo-1", IDS[ordinal][:12])
    assert json.loads(json.dumps(answer)) == answer
    assert answer["sample"]["sample_id"] == IDS[ordinal]
    assert answer["sample"]["prompt"] == POOL.table["prompt"][ordinal].as_py()
    assert [row["interval"] for row in answer["history"]] == list(range(K))
    at_one = answer["history"][1]
    assert at_one["selected"] is True
    assert at_one["position"] == 0
    assert at_one["change"] in ("first_time", "returned", "stayed")
    assert at_one["selection_facts"] == {"temperature": 1.0, "top_n": 10}
    assert at_one["cutoff"] == pool_scores(1, SIZE)[curriculum(1, SIZE)].min()
    assert queries.why(told, "demo-1", IDS[ordinal], interval=1)["history"] == [at_one]
    out = next(i for i in range(SIZE) if i not in curriculum(1, SIZE))
    missed = queries.why(told, "demo-1", IDS[out], interval=1)["history"][0]
    assert (missed["selected"], missed["probability"], missed["reason"]) == (False, None, None)
    assert missed["selection_facts"] is not None


def test_why_refuses_unknown_and_ambiguous_samples_and_intervals(told: Ledger) -> None:
    with pytest.raises(NotFoundError, match="no sample 'zz'"):
        queries.why(told, "demo-1", "zz")
    with pytest.raises(NotFoundError, match="fits several samples"):
        queries.why(told, "demo-1", "")
    with pytest.raises(NotFoundError, match=r"no sample '%'"):
        queries.why(told, "demo-1", "%")
    with pytest.raises(NotFoundError, match=r"intervals \[0, 1, 2, 3\]"):
        queries.why(told, "demo-1", IDS[0], interval=9)


def test_difficult_lists_the_most_often_selected_first(told: Ledger) -> None:
    found = queries.difficult(told, "demo-1", limit=5)
    assert len(found) == 5
    counts = [row["times_selected"] for row in found]
    assert counts == sorted(counts, reverse=True)
    assert found[0]["prompt"].startswith("Wie groß")
    assert all(
        row["longest_streak"] >= 2
        for row in queries.difficult(told, "demo-1", limit=99, min_streak=2)
    )


def test_every_answer_can_be_written_as_json(told: Ledger) -> None:
    for answer in (
        queries.runs(told),
        queries.run(told, "demo-3"),
        queries.intervals(told, "demo-3"),
        queries.turnover(told, "demo-1"),
        queries.difficult(told, "demo-1"),
        queries.evaluations(told, "demo-1"),
    ):
        assert answer
        json.dumps(answer, allow_nan=False)
    with pytest.raises(NotFoundError, match="edco runs"):
        queries.run(told, "nope")


# ---------------------------------------------------------------- the query door


def test_a_frame_is_a_view_filtered_by_equality(told: Ledger) -> None:
    frame = told.frame("curriculum", run_id="demo-2", interval=2)
    assert len(frame) == 10
    assert set(frame["run_id"]) == {"demo-2"}
    assert len(told.frame("evaluations", run_id="demo-1", category=None)) == K + 1
    with pytest.raises(InputError, match="did you mean 'turnover'"):
        told.frame("turnovers")
    with pytest.raises(InputError, match="did you mean 'run_id'"):
        told.frame("turnover", runid="demo-1")


def test_query_takes_parameters_and_a_limit(told: Ledger) -> None:
    sql = "SELECT run_id, seed FROM run_summary WHERE seed >= :least ORDER BY run_id"
    assert told.query(sql, {"least": 8}) == (["run_id", "seed"], [("demo-2", 8)])
    assert len(told.query("SELECT * FROM samples", limit=3)[1]) == 3
    with pytest.raises(InputError, match="-p least=VALUE"):
        told.query(sql)
    with pytest.raises(InputError, match="has no :leest; it has least"):
        told.query(sql, {"least": 1, "leest": 2})


def test_colons_and_percents_in_a_query_mean_what_they_say(told: Ledger) -> None:
    sql = (
        "SELECT ' :x 5%', CAST(run_id AS text), run_id::text, 7 % 4, \"run_id\" -- :y\n"
        "/* :z */ FROM run_summary WHERE run_id LIKE 'demo%' AND name = :name ORDER BY 2 LIMIT 1"
    )
    found = told.query(sql, {"name": "demo"})[1]
    assert found == [(" :x 5%", "demo-1", "demo-1", 3, "demo-1")]
    assert told.query("SELECT ' :x 5%', 7 % 4 AS r")[1] == [(" :x 5%", 3)]
    sliced = "SELECT (string_to_array('a b c', ' '))[:2] AS r"
    assert [list(row[0]) for row in told.query(sliced)[1]] == [["a", "b"]]


def test_the_database_refuses_to_write_for_a_reader(told: Ledger) -> None:
    before = told.query("SELECT count(*) FROM run_summary")
    for sql in (
        "DELETE FROM runs",
        "UPDATE runs SET name = 'x' RETURNING name",
        "CREATE TABLE mine (x INTEGER)",
        "DROP VIEW turnover",
        "COMMIT; DELETE FROM runs; SELECT 1",
        "WITH gone AS (DELETE FROM runs RETURNING run_id) SELECT * FROM gone",
    ):
        with pytest.raises((InputError, LedgerError)):
            told.query(sql)
    assert told.query("SELECT count(*) FROM run_summary") == before
    with pytest.raises(LedgerError, match="opened read-only"):
        told.create_run(make_spec("demo-9"), "me")


def test_a_query_the_database_cannot_run_is_the_users_mistake(told: Ledger) -> None:
    with pytest.raises(InputError, match=r"cannot run this query.*no_such_view"):
        told.query("SELECT * FROM no_such_view")


def test_a_query_stops_at_its_time_limit(told: Ledger) -> None:
    slow = "SELECT count(*) FROM samples a, samples b, samples c, samples d, samples e, samples f"
    with pytest.raises(LedgerError, match=r"longer than 0\.2 s"):
        told.query(slow, timeout_s=0.2)
    assert told.query("SELECT 1", timeout_s=5)[1] == [(1,)]


def test_a_parameter_given_as_text_is_compared_as_what_it_is_compared_with(told: Ledger) -> None:
    # An id of digits only is text, an interval is a number: the command line cannot know.
    asked = "SELECT count(*) FROM sample_history WHERE interval = :k AND sample_id <> :digits"
    assert told.query(asked, {"k": "1", "digits": "7"})[1] == [(2 * SIZE,)]
    assert told.query("SELECT 1 AS one WHERE 1 <= :limit", {"limit": "5"})[1] == [(1,)]


def test_a_query_reaches_nothing_but_the_ledger(told: Ledger, tmp_path: Path) -> None:
    target = tmp_path / "copied.csv"
    with pytest.raises(InputError):
        told.query(f"COPY (SELECT 1 AS a) TO '{target}'")
    assert not target.exists()
    with pytest.raises(InputError):
        told.query(f"SELECT * FROM read_csv('{__file__}')")


# ---------------------------------------------------------------- scale


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("view", "table"),
    [
        ("sample_history", "scores"),
        ("curriculum", "selections"),
        ("persistent_samples", "selected_samples"),
        ("step_samples", "step_slots"),
        ("rollouts", "rollout_groups"),
        ("rollout_texts", "rollout_answers"),
        ("pass_rates", "rollout_groups"),
        ("beliefs", "sample_beliefs"),
    ],
)
def test_a_filter_on_the_run_leaves_one_partition_in_the_plan(
    new_ledger_url: Callable[[str], str], view: str, table: str
) -> None:
    url = new_ledger_url("postgres")
    ledger = open_ledger(url)
    for run_id in ("it's 100 %", "other", "third"):
        do_run(ledger, run_id, 1)
    with ledger._database.reading() as connection:
        plan = "\n".join(
            connection.execute(
                text(f"EXPLAIN SELECT * FROM {view} WHERE run_id = :run"), {"run": "it's 100 %"}
            ).scalars()
        )
        assert ledger.frame(view, run_id="it's 100 %")["run_id"].nunique() <= 1
    assert f"{table}_1" in plan
    assert f"{table}_2" not in plan
    assert f"{table}_3" not in plan
