"""The command line as its users' scripts lean on it: what it prints, where, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from command_line import Edco

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "prefect", "matplotlib"}

RUN_KEYS = {
    "run_id", "experiment", "strategy", "trainer", "model", "dataset_id", "seed", "status",
    "intervals_planned", "intervals_done", "pool_size", "top_n", "metric", "last_metric",
    "best_metric", "created_at", "finished_at", "scoring_seconds", "selection_seconds",
    "training_seconds", "evaluation_seconds", "alive", "run_dir", "current_interval",
    "current_stage", "message",
}  # fmt: skip
INTERVAL_KEYS = {
    "run_id", "interval", "status", "pool_size", "n_scored", "n_selected", "cutoff", "score_mean",
    "score_p50", "score_p90", "score_max", "n_entered", "n_first_time", "n_returned", "n_stayed",
    "n_left", "jaccard", "train_loss", "metric", "checkpoint_id", "scoring_seconds",
    "selection_seconds", "training_seconds",
}  # fmt: skip


@pytest.fixture
def say(
    finished: Edco, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a reading command in this process, in the folder of the finished run; its output."""
    from flows.cli import main

    monkeypatch.chdir(finished.folder)
    monkeypatch.delenv("EDCO_STORE", raising=False)

    def say(*words: str, expect: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["edco", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        assert (end.value.code or 0) == expect, printed.err
        assert "Traceback" not in printed.err
        if expect:
            assert printed.out == ""
            return printed.err
        return printed.out

    return say


@pytest.fixture
def facts(say: Callable[..., str]) -> Callable[..., Any]:
    return lambda *words: json.loads(say(*words, "--json"))


@pytest.fixture
def samples(facts: Callable[..., Any]) -> list[dict[str, Any]]:
    """One sample of each kind at interval 1: rows of ``sample_history``."""
    sql = "SELECT * FROM sample_history WHERE interval = 1 ORDER BY selected DESC, sample_id"
    found: list[dict[str, Any]] = facts("query", sql)
    return found


class TestRun:
    @pytest.fixture
    def printed(self, finished: Edco) -> tuple[str, str]:
        read = (finished.folder / name for name in ("run.stdout", "run.stderr"))
        stdout, stderr = (path.read_text(encoding="utf-8") for path in read)
        return stdout, stderr

    def test_prints_one_line_per_interval_of_what_the_ledger_holds(
        self, printed: tuple[str, str], facts: Callable[..., Any]
    ) -> None:
        stdout, _ = printed
        for heading in ("mean entropy", "cutoff", "first-time", "returned", "train loss"):
            assert heading in stdout
        rows = [line.split() for line in stdout.splitlines() if re.match(r"\s+\d+ ", line)]
        keys = (
            "interval", "score_mean", "cutoff", "n_entered", "n_first_time", "n_returned",
            "n_stayed", "n_left", "train_loss", "metric",
        )  # fmt: skip
        stored = facts("show", "whole")["intervals"]
        assert rows == [
            [f"{row[k]:.3f}" if isinstance(row[k], float) else str(row[k]) for k in keys]
            for row in stored
        ]
        assert "exact_match before training: " in stdout
        assert "runs/whole/final" in stdout

    def test_says_nothing_else_on_standard_error_than_how_it_goes(
        self, printed: tuple[str, str]
    ) -> None:
        lines = [line for line in printed[1].splitlines() if line]
        told = re.compile(r"run whole: 3 intervals|interval [012]: |next:|  \S")
        assert [line for line in lines if not told.match(line)] == []

    def test_names_three_commands_that_work_when_pasted(
        self, printed: tuple[str, str], finished: Edco
    ) -> None:
        _, _, after = printed[1].partition("next:\n")
        lines = [line.strip() for line in after.splitlines() if line.startswith("  ")]
        verbs = {"difficult", "why", "query"}
        assert [verbs & set(shlex.split(line)) for line in lines] == [
            {"difficult"}, {"why"}, {"query"},
        ]  # fmt: skip
        for line in lines:
            done = subprocess.run(
                line, shell=True, cwd=finished.folder, env=finished.environment,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip()

    def test_leaves_versions_configuration_and_times_in_the_ledger(
        self, say: Callable[..., str], facts: Callable[..., Any], tiny_config: dict[str, Any]
    ) -> None:
        import torch
        import trl

        (run,) = facts("runs")
        for stage in ("scoring", "selection", "training", "evaluation"):
            assert run[f"{stage}_seconds"] > 0
        assert run["finished_at"] > run["created_at"]
        (row,) = facts("query", "SELECT config, versions, plan FROM runs")
        versions = json.loads(row["versions"])
        assert versions["torch"] == torch.__version__
        assert versions["trl"] == trl.__version__
        assert {"python", "transformers", "peft", "prefect", "duckdb", "edco"} <= set(versions)
        config = json.loads(row["config"])
        assert config["store"] == {"keep_texts": True}
        assert config["run"]["seed"] == tiny_config["run"]["seed"]
        assert config["training"]["args"] == tiny_config["training"]["args"]
        assert json.loads(row["plan"])["total_steps"] == 15


class TestRuns:
    def test_lists_a_run_with_its_result(self, say: Callable[..., str]) -> None:
        line = next(each for each in say("runs").splitlines() if "whole" in each)
        assert line.split()[:4] == ["whole", "finished", "edco", "3/3"]

    def test_has_stable_keys(self, facts: Callable[..., Any]) -> None:
        (run,) = facts("runs")
        assert set(run) >= RUN_KEYS
        assert (run["status"], run["alive"], run["intervals_done"]) == ("finished", False, 3)

    def test_takes_the_ledger_from_the_option_else_the_environment(
        self, say: Callable[..., str], monkeypatch: pytest.MonkeyPatch, finished: Edco
    ) -> None:
        url = f"duckdb:///{finished.folder / 'edco.duckdb'}"
        monkeypatch.chdir("/")
        assert "there is no ledger" in say("runs", expect=2)
        assert "whole" in say("runs", "--store", url)
        monkeypatch.setenv("EDCO_STORE", url)
        assert "whole" in say("runs")


class TestShow:
    def test_has_run_intervals_and_evaluations(self, facts: Callable[..., Any]) -> None:
        found = facts("show", "whole")
        assert set(found) == {
            "run", "intervals", "evaluations", "checkpoints", "judge", "alarms",
        }  # fmt: skip
        assert set(found["run"]) >= RUN_KEYS
        assert [row["interval"] for row in found["intervals"]] == [0, 1, 2]
        assert set(found["intervals"][0]) >= INTERVAL_KEYS
        assert {e["category"] for e in found["evaluations"]} >= {None, "link", "bgp", "fan"}

    def test_takes_any_unambiguous_beginning_of_a_run_id(self, say: Callable[..., str]) -> None:
        assert say("show", "w") == say("show", "whole")


class TestWhy:
    def test_says_in_with_place_and_probability(
        self, say: Callable[..., str], samples: list[dict[str, Any]]
    ) -> None:
        row = samples[0]
        assert row["selected"]
        printed = " ".join(say("why", "whole", row["sample_id"], "--interval", "1").split())
        assert f"in, at position {row['position']}: drawn with probability 0." in printed
        assert f"(rank {row['rank']} of 80)" in printed

    def test_says_out_with_the_probability_it_had(
        self, say: Callable[..., str], samples: list[dict[str, Any]]
    ) -> None:
        row = samples[-1]
        assert not row["selected"]
        printed = " ".join(say("why", "whole", row["sample_id"], "--interval", "1").split())
        assert "out: not drawn; its probability was 0." in printed
        assert f"(rank {row['rank']} of 80)" in printed

    def test_has_a_history_of_every_interval(
        self, facts: Callable[..., Any], samples: list[dict[str, Any]]
    ) -> None:
        found = facts("why", "whole", samples[0]["sample_id"])
        assert set(found) == {"run_id", "sample", "rule", "history"}
        assert set(found["sample"]) >= {"sample_id", "prompt", "completion", "category", "source"}
        assert [row["interval"] for row in found["history"]] == [0, 1, 2]
        keys = {
            "score", "rank", "percentile", "selected", "position", "probability", "reason",
            "cutoff", "change", "checkpoint_id", "n_scored", "selection_facts", "explanation",
        }  # fmt: skip
        assert set(found["history"][0]) >= keys

    def test_takes_the_beginning_of_a_sample_id_unless_it_is_ambiguous(
        self, say: Callable[..., str], samples: list[dict[str, Any]]
    ) -> None:
        sample_id = samples[0]["sample_id"]
        assert say("why", "whole", sample_id[:12]) == say("why", "whole", sample_id)
        message = say("why", "whole", "", expect=2)
        assert "fits several samples" in message
        assert "has no sample 'xyz'" in say("why", "whole", "xyz", expect=2)

    def test_names_the_intervals_there_are(
        self, say: Callable[..., str], samples: list[dict[str, Any]]
    ) -> None:
        message = say("why", "whole", samples[0]["sample_id"], "--interval", "7", expect=2)
        assert "there are intervals [0, 1, 2]" in message


def test_turnover_adds_up(say: Callable[..., str], facts: Callable[..., Any]) -> None:
    rows = facts("turnover", "whole")
    assert [row["interval"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert row["n_entered"] == row["n_first_time"] + row["n_returned"]
        assert row["n_selected"] == row["n_entered"] + row["n_stayed"] == 20
    assert rows[1]["n_left"] == 20 - rows[1]["n_stayed"]
    assert "jaccard" in say("turnover", "whole")


def test_difficult_orders_by_how_often_and_limits(
    say: Callable[..., str], facts: Callable[..., Any]
) -> None:
    rows = facts("difficult", "whole", "--min-streak", "1", "--limit", "5")
    times = [row["times_selected"] for row in rows]
    assert len(rows) == 5
    assert times == sorted(times, reverse=True)
    keys = {"sample_id", "times_selected", "longest_streak", "score_first", "score_last", "prompt"}
    assert set(rows[0]) >= keys
    assert all(row["longest_streak"] >= 2 for row in facts("difficult", "whole"))
    assert "no sample was selected 4 intervals" in say("difficult", "whole", "--min-streak", "4")


class TestQuery:
    SQL = "SELECT interval, sample_id, score FROM curriculum WHERE interval = :k ORDER BY position"

    def test_gives_the_same_rows_in_every_format(
        self, say: Callable[..., str], finished: Edco, tmp_path: Path
    ) -> None:
        words = ("query", self.SQL, "-p", "k=1", "--format")
        rows = json.loads(say(*words, "json"))
        assert len(rows) == 20
        assert {type(row["score"]) for row in rows} == {float}
        table = [line.split() for line in say(*words, "table").splitlines()]
        assert [line[1] for line in table if line and line[0] == "1"] == [
            row["sample_id"] for row in rows
        ]
        found = list(csv.DictReader(io.StringIO(say(*words, "csv"))))
        assert [
            {**r, "interval": int(r["interval"]), "score": float(r["score"])} for r in found
        ] == (rows)
        path = tmp_path / "rows.parquet"
        with path.open("wb") as file:  # bytes need a real standard output
            subprocess.run(
                [sys.executable, "-m", "flows.cli", *words, "parquet"],
                cwd=finished.folder, env=finished.environment, stdout=file, check=True,
            )  # fmt: skip
        assert pq.read_table(path).to_pylist() == rows

    def test_shows_a_hundred_rows_only_to_a_terminal(
        self, say: Callable[..., str], facts: Callable[..., Any]
    ) -> None:
        sql = "SELECT interval, sample_id FROM sample_history"
        assert len(facts("query", sql)) == 240
        assert len(say("query", sql).splitlines()) > 240
        assert len(facts("query", sql, "--limit", "7")) == 7
        assert len(facts("query", sql, "--limit", "0")) == 240

    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM runs",
            "UPDATE runs SET seed = 1",
            "CREATE TABLE t (a INTEGER)",
            "DROP VIEW turnover",
            "INSERT INTO alembic_version VALUES ('1')",
            "SELECT 1; DELETE FROM runs",
            "WITH x AS (SELECT 1) DELETE FROM runs",
            "BEGIN; DELETE FROM runs; COMMIT",
        ],
    )
    def test_cannot_write(self, say: Callable[..., str], finished: Edco, sql: str) -> None:
        path = finished.folder / "edco.duckdb"
        before = path.read_bytes()
        assert "error: " in say("query", sql, expect=2)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("SELEC 1",), "the ledger cannot run this query"),
            (("SELECT * FROM curriculm",), "curriculum"),
            ((SQL,), "the query has :k but no value for it; add -p k=VALUE"),
            ((SQL, "-p", "j=1", "-p", "k=1"), "the query has no :j; it has k"),
            ((SQL, "-p", "k"), "-p k: expected name=value"),
            (("SELECT 1", "--format", "xml"), "allowed are csv, json, parquet, table"),
            (("SELECT 1", "--format", "csv", "--json"), "--json and --format csv"),
            (("SELECT 1 AS a, 2 AS a", "--json"), "two columns are named a"),
        ],
    )
    def test_says_what_is_wrong(
        self, say: Callable[..., str], words: tuple[str, ...], message: str
    ) -> None:
        assert message in say("query", *words, expect=2)

    def test_stops_after_its_timeout(self, say: Callable[..., str]) -> None:
        sql = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range % 7 = 3"
        message = say("query", sql, "--timeout", "0.2", expect=1)
        assert "took longer than 0.2 s" in message


def test_validate_shows_the_plan_and_its_budget(facts: Callable[..., Any]) -> None:
    found = facts("validate", "edco.yaml")
    assert found["pool"].startswith("80 samples")
    expected = {
        "tuning": "LoRA r=4", "strategy": "edco", "intervals": 3, "samples_per_interval": 20,
        "samples_per_step": 4, "steps_per_interval": 5, "total_steps": 15, "samples_scored": 240,
        "evaluation": "20 samples, exact_match",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_doctor_says_what_works_here(facts: Callable[..., Any]) -> None:
    found = {fact["what"]: fact for fact in facts("doctor")}
    assert {"python", "torch", "transformers", "trl", "fastapi", "ledger", "prefect server"} <= set(
        found
    )
    assert all(set(fact) == {"what", "status", "found", "advice"} for fact in found.values())
    assert found["torch"]["status"] == found["ledger"]["status"] == "ok"


def test_what_init_writes_is_valid_but_for_the_data_it_cannot_know(
    say: Callable[..., str], tmp_path: Path
) -> None:
    say("init", str(tmp_path / "new"))
    assert yaml.safe_load((tmp_path / "new" / "edco.yaml").read_text())["run"]["name"] == "my-run"
    message = say("validate", str(tmp_path / "new" / "edco.yaml"), expect=2)
    assert "pool.jsonl" in message


def test_reading_commands_load_no_model_library_and_no_prefect(
    finished: Edco, samples: list[dict[str, Any]]
) -> None:
    program = (
        "import json, sys\nfrom flows.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['edco', *words]\n"
        "    try:\n        main()\n    except SystemExit as end:\n"
        "        assert not end.code, (words, end.code)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    first, last = samples[0]["sample_id"], samples[-1]["sample_id"]
    commands = [
        ["runs"], ["show", "whole"], ["why", "whole", first], ["why", "whole", last],
        ["turnover", "whole"], ["difficult", "whole"], ["query", "SELECT 1", "--format", "csv"],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)],
        cwd=finished.folder, env=finished.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout.splitlines()[-1])) & HEAVY == set()


@pytest.mark.parametrize(
    "words",
    [
        "query 'SELECT * FROM sample_history, range(200)' --format csv",
        "query 'SELECT * FROM sample_history, range(4)' --limit 0",
        "query 'SELECT * FROM sample_history, range(20)' --json",
        "show whole --json",
    ],
)
def test_a_reader_that_goes_away_is_no_error(finished: Edco, words: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m flows.cli {words} | head -1 >/dev/null;"
         'echo "${PIPESTATUS[0]}"'],
        cwd=finished.folder, env=finished.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")  # what Click says when standard output has gone


@pytest.mark.slow
def test_a_run_can_be_read_while_it_is_going(finished: Edco, new_edco: Callable[[], Edco]) -> None:
    edco = new_edco()
    shutil.copy(finished.folder / "edco.yaml", edco.folder)
    process = edco.start_and_wait_for("run live", "run", "edco.yaml", "--run-id", "live")
    seen = []
    while process.poll() is None:
        seen.append(edco.json("show", "live"))
        (listed,) = edco.json("runs")
        assert listed["run_id"] == "live"
        time.sleep(0.5)
    assert process.wait(timeout=60) == 0
    process.communicate()
    alive = [each["run"] for each in seen if each["run"]["alive"]]
    assert alive
    assert all(run["status"] == "running" for run in alive)
    done = [len(each["intervals"]) for each in seen]
    assert done == sorted(done)  # what was read once is there for ever


def test_sql_about_the_beginning_of_a_run_s_id_is_told_the_whole(finished: Edco) -> None:
    asked = finished("query", "SELECT * FROM curriculum WHERE run_id = :run", "-p", "run=who")
    assert "SQL needs the whole id: -p run=whole" in asked.stderr
    asked = finished("query", "SELECT * FROM turnover WHERE run_id = :run", "-p", "run=whole")
    assert asked.stderr == ""


def test_upgrading_where_there_is_no_ledger_says_that_one_was_made(
    finished: Edco, tmp_path: Path
) -> None:
    url = f"duckdb:///{tmp_path}/new.duckdb"
    assert "a new, empty ledger at 0006" in finished("db", "upgrade", "--store", url).stdout
    assert "already at 0006" in finished("db", "upgrade", "--store", url).stdout
