"""What the audit commands say of a run, on both databases: real strategies on made-up scores."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from edco_core.config import parse_config
from edco_core.curriculum import KnownEvidence, build_strategy, derive_generator
from edco_core.curriculum.edco import inclusion_probability
from edco_core.errors import InputError
from edco_core.records import Pool
from flows import export
from flows.cli import main
from flows.querying import run_query
from flows.replay import replay_run
from flows.why import why_sample
from storage import Ledger, open_ledger
from storage.views import VIEWS
from tests.storage.conftest import (
    BACKENDS,
    do_run,
    make_checkpoint,
    make_evaluation,
    make_outcome,
    make_pool,
    make_spec,
    pool_scores,
    shard,
)

K = 4
N = 10
POOL = make_pool()
RUNS: dict[str, dict[str, Any]] = {
    "drawn-1": {"type": "edco"},
    "top-1": {"type": "edco", "temperature": 0, "skip_top": 0.1},
    "uniform-1": {"type": "random"},
}
COMMANDS = [
    ("runs",),
    ("show", "drawn-1"),
    ("why", "drawn-1", "00000000_0000"),
    ("turnover", "drawn-1"),
    ("difficult", "drawn-1"),
    ("replay", "drawn-1"),
]


def select_and_train(
    ledger: Ledger, run_id: str, settings: dict[str, Any], pool: Pool = POOL, forged: int = -1
) -> None:
    """A finished run whose curricula a real strategy chose, except at the interval ``forged``."""
    values = {
        "model": {"name_or_path": "tiny"},
        "data": {"train": "pool.jsonl"},
        "curriculum": {"intervals": K, "top_n": N, **settings},
    }
    config = parse_config(values, source="test")
    spec = make_spec(
        run_id,
        pool,
        intervals=K,
        strategy=settings["type"],
        config=config.model_dump(mode="json"),
        plan={"num_intervals": K},
    )
    lease = ledger.create_run(spec, "me")
    rule = build_strategy(config.curriculum)
    for k in range(K):
        scores = pool_scores(k, len(pool))
        rng, record = derive_generator(7, k, "selection")
        selection = dataclasses.replace(
            rule.select(KnownEvidence(scores), N, rng), generator=record
        )
        if k == forged:
            chosen = selection.ordinals.copy()
            chosen[3] = next(i for i in range(len(pool)) if i not in chosen)
            selection = dataclasses.replace(selection, ordinals=chosen, scores=scores[chosen])
        baseline = make_evaluation(-1) if k == 0 else None
        ledger.finish_checkpoint(lease, make_checkpoint(k, k * 4), baseline, 0.25)
        ledger.add_scores(lease, k, shard(scores))
        ledger.finish_scoring(lease, k, 2.5)
        ledger.finish_selection(lease, k, selection, 0.5)
        outcome = make_outcome(k, selection.ordinals)
        ledger.finish_training(lease, k, outcome, make_evaluation(k))
    ledger.release(lease, "finished")


@pytest.fixture(scope="module", params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ledger with a run of each kind, and one that has been scored only."""
    if request.param == "postgres":
        url = str(request.getfixturevalue("postgres_database"))
    else:
        url = f"duckdb:///{tmp_path_factory.mktemp('audit') / 'ledger.duckdb'}"
    ledger = open_ledger(url)
    do_run(ledger, "foreign-1")  # its rule is none of ours
    for run_id, settings in RUNS.items():
        select_and_train(ledger, run_id, settings)
    select_and_train(ledger, "forged-1", RUNS["drawn-1"], forged=2)
    lease = ledger.create_run(make_spec("scored-1", POOL), "me")
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 0.25)
    ledger.add_scores(lease, 0, shard(pool_scores(0, len(POOL))))
    ledger.finish_scoring(lease, 0, 2.5)
    ledger.create_run(make_spec("new-1", POOL), "me")
    return url


class Printed(NamedTuple):
    out: str
    err: str


OF_A_RUN = set(VIEWS) - {"comparisons"}

Say = Callable[..., Printed]


@pytest.fixture
def say(
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Say:
    """Runs a command in this process, in an empty folder; what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDCO_STORE", store)
    monkeypatch.setenv("COLUMNS", "200")

    def say(*words: str, expect: int = 0) -> Printed:
        monkeypatch.setattr(sys, "argv", ["edco", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        printed = Printed(*capsys.readouterr())
        assert (end.value.code or 0) == expect, printed.err
        assert "Traceback" not in printed.err
        return printed

    return say


@pytest.fixture
def facts(say: Say) -> Callable[..., Any]:
    return lambda *words: json.loads(say(*words, "--json").out)


@pytest.fixture
def reader(store: str) -> Ledger:
    return open_ledger(store, read_only=True)


def samples(reader: Ledger, run_id: str, condition: str, interval: int = 1) -> list[str]:
    sql = (
        "SELECT sample_id FROM sample_history WHERE run_id = :run AND interval = :k "
        f"AND {condition} ORDER BY rank"
    )
    return [row[0] for row in reader.query(sql, {"run": run_id, "k": interval})[1]]


# ---------------------------------------------------------------- why


class TestWhy:
    def test_a_sample_that_was_not_drawn_had_a_probability_and_a_distance(
        self, say: Say, facts: Callable[..., Any], reader: Ledger
    ) -> None:
        sample = samples(reader, "drawn-1", "NOT selected")[0]
        (row,) = facts("why", "drawn-1", sample, "--interval", "1")["history"]
        expected = inclusion_probability(np.array([row["score"]]), row["selection_facts"])[0]
        assert row["probability"] == pytest.approx(expected)
        assert row["missed_by"] == row["cutoff"] - row["score"] < 0
        printed = " ".join(say("why", "drawn-1", sample, "--interval", "1").out.split())
        assert (
            f"out: not drawn; its probability was {expected:.3f} (rank {row['rank']} of 40); "
            f"{-row['missed_by']:.4f} above the lowest selected" in printed
        )

    def test_probabilities_of_a_draw_add_up_to_its_size(self, reader: Ledger) -> None:
        ids = samples(reader, "drawn-1", "rank > 0")
        with reader.snapshot():
            rows = [why_sample(reader, "drawn-1", each, 1).rows[0] for each in ids]
        assert sum(row["probability"] for row in rows) == pytest.approx(N, rel=1e-6)

    def test_a_sample_below_the_top_missed_by_so_much(
        self, say: Say, facts: Callable[..., Any], reader: Ledger
    ) -> None:
        sample = samples(reader, "top-1", "NOT selected AND rank > 14")[4]
        (row,) = facts("why", "top-1", sample, "--interval", "1")["history"]
        assert row["missed_by"] == row["cutoff"] - row["score"] > 0
        assert row["probability"] is None
        printed = " ".join(say("why", "top-1", sample, "--interval", "1").out.split())
        # Four are skipped and ten are taken: rank 14 is the last one in.
        assert (
            f"out: not among the 10 highest (rank {row['rank']} of 40), {row['rank'] - 14} places "
            f"short; {row['missed_by']:.4f} below the lowest selected" in printed
        )

    def test_a_sample_among_the_skipped_top_is_told_so(
        self, say: Say, facts: Callable[..., Any], reader: Ledger
    ) -> None:
        sample = samples(reader, "top-1", "NOT selected")[0]
        (row,) = facts("why", "top-1", sample, "--interval", "1")["history"]
        assert (row["rank"], row["probability"], row["missed_by"]) == (1, 0.0, None)
        printed = say("why", "top-1", sample, "--interval", "1").out
        assert "out: among the 4 highest, which skip_top leaves out (rank 1 of 40)" in printed

    def test_a_sample_of_the_top_is_in(self, say: Say, reader: Ledger) -> None:
        sample = samples(reader, "top-1", "selected")[0]
        printed = say("why", "top-1", sample, "--interval", "1").out
        assert ": among the 10 highest (rank 5 of 40)" in printed

    def test_a_uniform_draw_has_one_probability_and_no_distance(
        self, say: Say, facts: Callable[..., Any], reader: Ledger
    ) -> None:
        sample = samples(reader, "uniform-1", "NOT selected")[0]
        (row,) = facts("why", "uniform-1", sample, "--interval", "1")["history"]
        assert (row["probability"], row["missed_by"]) == (0.25, None)
        printed = say("why", "uniform-1", sample, "--interval", "1").out
        assert "out: not drawn; every sample had probability 0.250" in printed

    def test_a_rule_that_explains_nothing_still_tells_rank_and_distance(
        self, say: Say, reader: Ledger
    ) -> None:
        inside = samples(reader, "foreign-1", "selected")[0]
        outside = samples(reader, "foreign-1", "NOT selected")[-1]
        assert ": drawn with probability 0." in say("why", "foreign-1", inside).out
        printed = say("why", "foreign-1", outside, "--interval", "1").out
        assert "rule        tempered_draw: temperature 1, top_n 10" in printed
        told = r"out: not selected \(rank \d+ of 40\); \d\.\d{4} (above|below) the lowest selected"
        assert re.search(told, printed)

    def test_the_rule_is_told_once_with_its_parameters(
        self, say: Say, facts: Callable[..., Any]
    ) -> None:
        printed = say("why", "top-1", "00000000_0000").out
        assert [line for line in printed.splitlines() if line.startswith("rule")] == [
            "rule        edco: num_samples 10, num_skipped 4, pool_size 40, temperature 0"
        ]
        rule = facts("why", "drawn-1", "00000000_0000")["rule"]
        assert rule["name"] == "edco"
        # Mean, spread and time of the race are other ones at each interval.
        assert set(rule["parameters"]) == {"num_samples", "num_skipped", "pool_size", "temperature"}
        at_one = facts("why", "drawn-1", "00000000_0000", "--interval", "1")["rule"]
        assert {"mean", "std", "race_time"} < set(at_one["parameters"])

    def test_a_small_picture_shows_the_whole_history_also_of_one_interval(
        self, say: Say, facts: Callable[..., Any]
    ) -> None:
        history = facts("why", "top-1", "00000000_0000")["history"]
        marks = "".join("●" if row["selected"] else "·" for row in history)
        scores = [pool_scores(k, len(POOL))[0] for k in range(K)]
        for words in ((), ("--interval", "2")):
            printed = say("why", "top-1", "00000000_0000", *words).out
            (line,) = [each for each in printed.splitlines() if each.startswith("score ")]
            bars = line.split()[1]
            assert len(bars) == K
            assert bars.index("█") == int(np.argmax(scores))
            assert bars.index("▁") == int(np.argmin(scores))
            assert f"{scores[0]:.3f} → {scores[-1]:.3f}" in line
            assert f"selected    {marks}  " in printed
            assert printed.count("0202020202020202") == 1
            assert printed.count("0101010101010101") == (0 if words else 1)

    def test_a_run_that_has_selected_or_scored_nothing_yet_says_so(
        self, say: Say, facts: Callable[..., Any]
    ) -> None:
        printed = say("why", "scored-1", "00000000_0000").out
        assert "scored; no curriculum has been selected yet" in printed
        assert "rule" not in printed
        assert "no interval has been scored yet" in say("why", "new-1", "00000000_0000").out
        assert facts("why", "new-1", "00000000_0000")["history"] == []
        error = say("why", "new-1", "00000000_0000", "--interval", "0", expect=2).err
        assert "no interval has been scored yet" in error


# ---------------------------------------------------------------- difficult


@pytest.mark.parametrize("min_streak", [1, 2])
def test_never_learned_are_those_whose_score_did_not_fall(
    facts: Callable[..., Any], reader: Ledger, min_streak: int
) -> None:
    words = ("difficult", "drawn-1", "--min-streak", str(min_streak), "--limit", "99")
    often, never = facts(*words), facts(*words, "--never-learned")
    assert {row["sample_id"] for row in never} == {
        row["sample_id"] for row in often if row["score_last"] >= row["score_first"]
    }
    assert 0 < len(never) < len(often)
    for row in never:
        chosen = reader.frame("curriculum", run_id="drawn-1", sample_id=row["sample_id"])
        scores = chosen.sort_values("interval")["score"].tolist()
        assert (row["score_first"], row["score_last"]) == (scores[0], scores[-1])
        assert chosen["streak"].max() >= min_streak


def test_never_learned_says_when_there_is_none(say: Say) -> None:
    printed = say("difficult", "drawn-1", "--never-learned", "--min-streak", "4").out
    assert "no sample was selected 4 intervals in a row without its score falling" in printed


# ---------------------------------------------------------------- forms of an answer


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_csv_has_the_rows_of_json_with_every_column(
    say: Say, facts: Callable[..., Any], words: tuple[str, ...]
) -> None:
    found = facts(*words)
    rows = found if isinstance(found, list) else found.get("intervals") or found.get("history")
    table = list(csv.DictReader(io.StringIO(say(*words, "--csv").out)))
    assert len(table) == len(rows) > 0
    for mine, row in zip(table, rows, strict=True):
        assert list(mine) == list(row)
        for name, value in row.items():
            if value is None:
                assert mine[name] == ""
            elif isinstance(value, str):
                assert mine[name] == value
            else:
                assert json.loads(mine[name]) == value


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_json_and_csv_exclude_each_other(say: Say, words: tuple[str, ...]) -> None:
    printed = say(*words, "--json", "--csv", expect=2)
    assert "--json and --csv were given" in printed.err
    assert printed.out == ""


def test_csv_without_rows_still_names_its_columns(say: Say) -> None:
    for words in (("turnover", "new-1"), ("difficult", "new-1"), ("show", "new-1")):
        (heading,) = say(*words, "--csv").out.splitlines()
        assert heading.startswith("run_id,")
    heading = "interval,score,n_tokens,rank,"
    assert say("why", "new-1", "00000000_0000", "--csv").out.startswith(heading)


@pytest.mark.parametrize("words", COMMANDS[:-1], ids=lambda words: words[0])
def test_an_answer_takes_one_opening_of_the_ledger(say: Say, words: tuple[str, ...]) -> None:
    opened = []

    def note(connection: object, _record: object) -> None:
        opened.append(connection)

    event.listen(Engine, "connect", note)
    try:
        say(*words)
    finally:
        event.remove(Engine, "connect", note)
    assert len(opened) == 1


def test_texts_the_ledger_does_not_keep_are_told_to_be_missing(
    new_ledger_url: Callable[[str], str], say: Say
) -> None:
    url = new_ledger_url("duckdb")
    ledger = open_ledger(url)
    nothing = pa.nulls(len(POOL), pa.string())
    table = POOL.table
    for name in ("prompt", "completion", "answer"):
        table = table.set_column(table.column_names.index(name), name, nothing)
    pool = dataclasses.replace(POOL, table=table)
    ledger.register_pool(pool)
    select_and_train(ledger, "drawn-1", RUNS["drawn-1"], pool)
    missing = "(text not kept in the ledger)"
    printed = say("why", "drawn-1", "00000000_0000", "--store", url).out
    assert f"prompt      {missing}" in printed
    assert f"answer      {missing}" in printed
    assert missing in say("difficult", "drawn-1", "--store", url).out


# ---------------------------------------------------------------- replay


class TestReplay:
    def test_a_run_that_only_scored_has_nothing_to_make_again(self, tmp_path: Path) -> None:
        url = f"duckdb:///{tmp_path}/scored.duckdb"
        ledger = open_ledger(url)
        ledger.register_pool(make_pool())
        ledger.create_run(make_spec(plan={"base_model": "tiny"}), "me")
        with pytest.raises(InputError, match="demo-1 only scored its pool"):
            replay_run(open_ledger(url, read_only=True), "demo-1", None, [])

    @pytest.mark.parametrize("run_id", RUNS)
    def test_what_a_strategy_chose_it_chooses_again(
        self, say: Say, facts: Callable[..., Any], run_id: str
    ) -> None:
        rows = facts("replay", run_id)["intervals"]
        assert [row["result"] for row in rows] == ["identical"] * K
        assert {row["first_difference"] for row in rows} == {None}
        assert "all 4 curricula are identical" in say("replay", run_id).out

    def test_the_first_difference_is_named(self, say: Say, facts: Callable[..., Any]) -> None:
        stored = facts(
            "query", "SELECT sample_id FROM curriculum WHERE run_id = 'forged-1' "
            "AND interval = 2 AND position = 3",
        )[0]["sample_id"]  # fmt: skip
        right = facts(
            "query", "SELECT sample_id FROM curriculum WHERE run_id = 'drawn-1' "
            "AND interval = 2 AND position = 3",
        )[0]["sample_id"]  # fmt: skip
        printed = say("replay", "forged-1", expect=1).out
        assert (
            f"first difference: interval 2, position 3: stored {stored}, recomputed {right}"
            in printed
        )
        rows = list(csv.DictReader(io.StringIO(say("replay", "forged-1", "--csv", expect=1).out)))
        assert [row["result"] for row in rows] == [
            "identical", "identical", "differs from position 3 on", "identical",
        ]  # fmt: skip
        assert (rows[2]["first_difference"], rows[2]["stored_sample_id"]) == ("3", stored)
        assert (rows[2]["replayed_sample_id"], rows[2]["overlap"]) == (right, "0.9")

    def test_another_strategy_is_compared_interval_by_interval(
        self, say: Say, facts: Callable[..., Any], reader: Ledger
    ) -> None:
        words = ("replay", "drawn-1", "--set", "temperature=0", "--set", "skip_top=0.1")
        rows = facts(*words)["intervals"]
        drawn, top = (reader.frame("curriculum", run_id=run) for run in ("drawn-1", "top-1"))
        for k, row in enumerate(rows):
            ours, theirs = (set(f[f["interval"] == k]["sample_id"]) for f in (drawn, top))
            assert row["overlap"] == len(ours & theirs) / N
        mean = sum(row["overlap"] for row in rows) / K
        assert f"mean overlap {mean:.3f}" in say(*words).out

    def test_a_shorter_curriculum_ends_where_the_stored_one_goes_on(
        self, facts: Callable[..., Any]
    ) -> None:
        for row in facts("replay", "uniform-1", "--set", "top_n=5")["intervals"]:
            assert (row["n_selected"], row["overlap"]) == (5, 0.5)
            assert row["first_difference"] == 5
            assert row["stored_sample_id"] in {t[:13] for t in POOL.table["sample_id"].to_pylist()}
            assert row["replayed_sample_id"] is None


# ---------------------------------------------------------------- export


def read_back(path: Path, like: pd.DataFrame) -> pd.DataFrame:
    """A file as pandas reads it, with the types of ``like``."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).astype(like.dtypes.to_dict())
    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=_texts(like))
    else:
        frame = pd.read_json(path, lines=True, precise_float=True, dtype=_texts(like))
        frame = frame.reindex(columns=like.columns)  # nothing is known of a file without rows
    for name, dtype in like.dtypes.items():
        if isinstance(dtype, pd.DatetimeTZDtype):
            frame[name] = pd.to_datetime(frame[name], utc=True).astype(dtype)
    return frame.astype(like.dtypes.to_dict())


def _texts(like: pd.DataFrame) -> dict[Any, Any]:
    return {name: "str" for name, dtype in like.dtypes.items() if dtype == "str"}


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    names = ("interval", "step", "slot", "metric", "category", "sample_id", "ordinal")
    keys = [name for name in names if name in frame]
    return frame.sort_values(keys or list(frame.columns)[:1]).reset_index(drop=True)


class TestExport:
    @pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
    @pytest.mark.parametrize("slice_rows", [1_000_000, 5], ids=["whole", "by-interval"])
    def test_files_hold_what_the_views_hold_of_that_run(
        self,
        facts: Callable[..., Any],
        reader: Ledger,
        form: str,
        slice_rows: int,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        monkeypatch.setattr(export, "_SLICE_ROWS", slice_rows)
        told = facts("export", "drawn", "--format", form)
        assert (told["run_id"], told["format"]) == ("drawn-1", form)
        folder = tmp_path / "drawn-1-export"
        assert told["folder"] == folder.name
        assert {row["view"] for row in told["files"]} == OF_A_RUN
        assert {path.name for path in folder.iterdir()} == {f"{view}.{form}" for view in OF_A_RUN}
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
        for row in told["files"]:
            view = row["view"]
            about = "run_id" in reader.view_schema(view).names
            expected = reader.frame(
                view, **({"run_id": "drawn-1"} if about else {"dataset_id": POOL.fingerprint})
            )
            assert row["rows"] == len(expected), view
            assert row["bytes"] == (folder / row["file"]).stat().st_size
            if view not in ("rollouts", "rollout_texts", "pass_rates", "beliefs", "alarms"):
                assert len(expected) > 0, view
            found = read_back(folder / row["file"], expected)
            pd.testing.assert_frame_equal(in_order(found), in_order(expected), obj=view)

    def test_parquet_knows_times_and_whole_numbers(self, say: Say, tmp_path: Path) -> None:
        say("export", "drawn-1", "-o", "out")
        schema = pq.read_schema(tmp_path / "out" / "run_summary.parquet")
        assert schema.field("created_at").type == pa.timestamp("us", "UTC")
        assert schema.field("pool_size").type == pa.int32()
        history = pq.read_schema(tmp_path / "out" / "sample_history.parquet")
        assert history.field("selected").type == pa.bool_()

    def test_numbers_that_are_not_finite_are_null_in_json_lines(self, tmp_path: Path) -> None:
        batch = pa.record_batch({"loss": [0.1, math.inf, math.nan, None]})
        with export._jsonl(tmp_path / "steps.jsonl", batch.schema) as writer:
            writer.write_batch(batch)
        lines = (tmp_path / "steps.jsonl").read_text().splitlines()
        assert [json.loads(line)["loss"] for line in lines] == [0.1, None, None, None]

    def test_a_folder_that_exists_is_refused_and_left_alone(self, say: Say, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        message = say("export", "drawn-1", "-o", "mine", expect=2).err
        assert "mine exists already and is not overwritten" in message
        assert list((tmp_path / "mine").iterdir()) == []

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("drawn-1", "--format", "xml"), "--format xml: allowed are csv, jsonl, parquet"),
            (("nobody",), "no run 'nobody'"),
            (("drawn-1", "-o", "file/inside"), "file/inside cannot be made"),
        ],
    )
    def test_says_what_is_wrong_and_leaves_nothing(
        self, say: Say, tmp_path: Path, words: tuple[str, ...], message: str
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        assert message in say("export", *words, expect=2).err
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_a_disk_that_is_full_leaves_nothing(
        self, say: Say, tmp_path: Path, full_after: Callable[[int], None]
    ) -> None:
        full_after(3)
        message = say("export", "drawn-1", "--format", "jsonl", "-o", "out", expect=1).err
        assert "out cannot be written: No space left on device" in message
        assert list(tmp_path.iterdir()) == []

    @pytest.fixture
    def full_after(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
        """Lets the operating system refuse the file after so many."""
        open_path = Path.open

        def limit(num_files: int) -> None:
            left = num_files

            def open_some(path: Path, mode: str = "r", **given: Any) -> Any:
                nonlocal left
                if mode == "w":
                    left -= 1
                if left < 0:
                    raise OSError(28, "No space left on device")
                return open_path(path, mode, **given)

            monkeypatch.setattr(Path, "open", open_some)

        yield limit
        monkeypatch.undo()


# ---------------------------------------------------------------- query


class TestQuery:
    SQL = "SELECT run_id, interval, sample_id, score, selected, position FROM sample_history "
    SQL += "WHERE run_id = :run AND interval = :k ORDER BY sample_id"

    def test_gives_the_same_rows_in_every_format(
        self, say: Say, reader: Ledger, tmp_path: Path
    ) -> None:
        words = ("query", self.SQL, "-p", "run=drawn-1", "-p", "k=1", "--format")
        rows = json.loads(say(*words, "json").out)
        assert rows == [
            dict(zip(rows[0], row, strict=True))
            for row in reader.query(self.SQL, {"run": "drawn-1", "k": 1})[1]
        ]
        table = list(csv.DictReader(io.StringIO(say(*words, "csv").out)))
        assert [row["selected"] for row in table] == [json.dumps(row["selected"]) for row in rows]
        assert [float(row["score"]) for row in table] == [row["score"] for row in rows]
        assert {row["position"] for row in table if row["selected"] == "false"} == {""}

    def test_files_hold_all_rows_unless_a_limit_is_given(
        self, say: Say, facts: Callable[..., Any]
    ) -> None:
        words = ("query", "SELECT sample_id FROM sample_history WHERE run_id = 'drawn-1'")
        for more, num_rows in (((), 160), (("--limit", "7"), 7), (("--limit", "0"), 160)):
            assert len(facts(*words, *more)) == num_rows
            table = say(*words, "--format", "csv", *more).out.splitlines()
            assert len(table) == 1 + num_rows

    @pytest.fixture
    def parquet(self, reader: Ledger, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pa.Table]:
        def ask(sql: str, limit: int | None, *params: str) -> pa.Table:
            written = io.BytesIO()
            monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, write_through=True))
            run_query(reader, sql, list(params), "parquet", limit, 60)
            return pq.read_table(io.BytesIO(written.getvalue()))

        return ask

    def test_parquet_has_the_types_of_the_ledger(
        self, reader: Ledger, parquet: Callable[..., pa.Table]
    ) -> None:
        table = parquet(self.SQL, None, "run=drawn-1", "k=1")
        expected = reader.query(self.SQL, {"run": "drawn-1", "k": 1})[1]
        assert [tuple(row.values()) for row in table.to_pylist()] == expected
        assert table.schema.types == [
            pa.string(), pa.int16(), pa.string(), pa.float64(), pa.bool_(), pa.int32(),
        ]  # fmt: skip

    @pytest.mark.parametrize(("limit", "num_rows"), [(None, 80_000), (0, 80_000), (70_000, 70_000)])
    def test_parquet_is_limited_across_its_batches(
        self, parquet: Callable[..., pa.Table], limit: int | None, num_rows: int
    ) -> None:
        sql = "SELECT a.ordinal FROM samples a, samples b, samples c, samples d "
        sql += "WHERE a.ordinal < 2 AND b.ordinal < 25"
        assert parquet(sql, limit).num_rows == num_rows

    @pytest.mark.parametrize("text", ["[INST] Solve x [/INST]", "list[a] [red]x", "a :smile: b"])
    def test_a_table_shows_texts_as_they_are(self, say: Say, text: str) -> None:
        assert text in say("query", f"SELECT '{text}' AS prompt").out

    def test_csv_can_be_read_again_whatever_is_in_a_text(self, say: Say) -> None:
        sql = "SELECT chr(13) || 'a' AS one, 'b' || chr(10) AS two, 'c' || chr(34) AS three"
        printed = say("query", sql, "--format", "csv").out
        assert list(csv.reader(io.StringIO(printed, newline=""))) == [
            ["one", "two", "three"], ["\ra", "b\n", 'c"'],
        ]  # fmt: skip
        assert printed.endswith('"c"""\n')

    def test_numbers_that_are_none_are_null(self, say: Say, reader: Ledger) -> None:
        kind = "DOUBLE" if reader._database.on_duckdb else "NUMERIC"
        sql = f"SELECT CAST('NaN' AS {kind}) AS a, CAST('Infinity' AS {kind}) AS b"
        assert json.loads(say("query", sql, "--json").out) == [{"a": None, "b": None}]

    @pytest.mark.parametrize("sql", ["", ";"])
    def test_nothing_is_no_query(self, say: Say, sql: str) -> None:
        assert "Traceback" not in say("query", sql, expect=2).err

    def test_no_rows_are_an_empty_list_or_a_heading(self, say: Say) -> None:
        sql = "SELECT interval, score FROM curriculum WHERE run_id = 'nobody'"
        assert json.loads(say("query", sql, "--json").out) == []
        assert say("query", sql, "--format", "csv").out == "interval,score\n"

    def test_a_failure_on_the_way_prints_nothing(self, say: Say) -> None:
        sql = "SELECT CAST(CASE WHEN position = 9 THEN 'x' ELSE '1' END AS INTEGER) AS one "
        sql += "FROM curriculum ORDER BY position"
        for form in ("json", "csv"):
            printed = say("query", sql, "--format", form, expect=2)
            assert printed.out == ""
            assert "the ledger cannot run this query" in printed.err

    def test_stops_at_its_time_limit(self, say: Say) -> None:
        sql = (
            "SELECT count(*) FROM samples a, samples b, samples c, samples d, samples e, samples f"
        )
        printed = say("query", sql, "--timeout", "0.3", expect=1)
        assert "took longer than 0.3 s" in printed.err
        assert printed.out == ""


@pytest.mark.postgres
def test_an_export_is_the_same_from_both_databases(
    new_ledger_url: Callable[[str], str],
    tmp_path: Path,
) -> None:
    frames = []
    for backend in ("duckdb", "postgres"):
        url = new_ledger_url(backend)
        ledger = open_ledger(url)
        do_run(ledger, "foreign-1", 3)
        folder = tmp_path / backend
        export.export_run(open_ledger(url, read_only=True), "foreign", "parquet", folder)
        frames.append({view: pq.read_table(folder / f"{view}.parquet") for view in OF_A_RUN})
    for view in OF_A_RUN:
        ours, theirs = (each[view] for each in frames)
        assert ours.schema == theirs.schema, view
        times = [f.name for f in ours.schema if pa.types.is_timestamp(f.type)]
        left, right = (in_order(t.drop_columns(times).to_pandas()) for t in (ours, theirs))
        pd.testing.assert_frame_equal(left, right, obj=view, rtol=1e-12)
    assert math.isfinite(frames[0]["curriculum"]["score"][0].as_py())
