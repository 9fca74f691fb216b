"""The report: a page that stands alone and says what the ledger says, safely."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from edco_core.records import Pool
from flows.display import number
from storage import Ledger, open_ledger, queries
from tests.storage.conftest import do_interval, do_run, make_checkpoint, make_pool, make_spec

HOSTILE = "<script>alert('prompt')</script> & \"more\""
ALL_RUNS = ("plain", "edco-seed-8", "random-1")
BEGUN = ("begun", "registered")


class Read(HTMLParser):
    """A page's tables, as rows of cells, and the words and ids in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.ids += [told["id"]] if told.get("id") else []
        self.links += [told[name] or "" for name in ("href", "src") if name in told]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._in_cell:
            self.tables[-1][-1][-1] += data

    def table(self, heading: str) -> list[dict[str, str]]:
        """The rows of the first table with that heading, by heading."""
        (headings, *rows), *_ = [each for each in self.tables if heading in each[0]]
        return [dict(zip(headings, row, strict=True)) for row in rows]


def hostile_pool() -> Pool:
    table = make_pool().table
    prompts = [f"{HOSTILE} {i}" for i in range(len(table))]
    for name, values in (("prompt", prompts), ("category", ["<b>tail</b>"] * len(table))):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    return Pool("hostile", "pool.jsonl", table, conversational=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ledger with runs of two strategies, a hostile one, and two that have just begun."""
    url = f"duckdb:///{tmp_path_factory.mktemp('report') / 'ledger.duckdb'}"
    ledger = open_ledger(url)
    config = {"curriculum": {"type": "edco", "temperature": 1.0}, "run": {"seed": 7}}
    do_run(ledger, "plain", config=config)
    do_run(ledger, "edco-seed-8", seed=8, config=config | {"run": {"seed": 8}})
    other = {"curriculum": {"type": "random"}}
    do_run(ledger, "random-1", run=1, strategy="random", config=other)
    pool = hostile_pool()
    ledger.register_pool(pool)
    spec = make_spec("hostile", pool, model=HOSTILE, config={"data": {"train": HOSTILE}})
    lease = ledger.create_run(spec, "me")
    for interval in range(3):
        do_interval(ledger, lease, interval, pool)
    ledger.release(lease, "finished")
    lease = ledger.create_run(make_spec("begun"), "me", ttl_s=3600)
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 0.25)
    ledger.create_run(make_spec("registered"), "me", ttl_s=3600)
    return url


@pytest.fixture
def ledger(store: str) -> Ledger:
    return open_ledger(store, read_only=True)


@pytest.fixture
def edco(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """``edco`` in this process; what it printed, or where that is expected its error."""
    from flows.cli import main

    def edco(*words: str, expect: int = 0, url: str = store) -> str:
        monkeypatch.setattr(sys, "argv", ["edco", *words, "--store", url])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        assert (end.value.code or 0) == expect, printed.err
        return printed.err if expect else printed.out

    return edco


@pytest.fixture(scope="module")
def page_of(store: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """The page of some runs, made once for all tests."""
    from flows.report import write_report

    folder = tmp_path_factory.mktemp("pages")

    def page_of(*run_ids: str) -> str:
        path = folder / f"{'+'.join(run_ids)}.html"
        if not path.exists():
            write_report(run_ids, path, store)
        return path.read_text(encoding="utf-8")

    return page_of


def charts(page: str) -> list[ElementTree.Element]:
    """Every chart, which must be a well-formed piece of XML."""
    pieces = re.findall(r'<svg role="img".*?</svg>', page, re.DOTALL)
    return [ElementTree.fromstring(piece) for piece in pieces]


def words_of(chart: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in chart.iter() if each.tag.endswith("text")]


def test_the_numbers_are_those_of_the_ledger(page_of: Callable[..., str], ledger: Ledger) -> None:
    read = Read(page_of("plain"))
    intervals = queries.intervals(ledger, "plain")
    for key, heading in {
        "interval": "interval", "score_p90": "p90", "cutoff": "cutoff", "n_returned": "returned",
        "n_left": "left", "train_loss": "train loss", "metric": "metric",
        "checkpoint_id": "checkpoint",
    }.items():  # fmt: skip
        shown = [row[heading] for row in read.table("p90")]
        assert shown == [number(row[key]) for row in intervals], key
    persistent = queries.difficult(ledger, "plain", limit=20, min_streak=2)
    assert persistent
    shown_samples = read.table("streak")
    for key, heading in {
        "sample_id": "sample", "times_selected": "selected", "longest_streak": "streak",
        "score_first": "first", "score_last": "last",
    }.items():  # fmt: skip
        assert [row[heading] for row in shown_samples] == [number(row[key]) for row in persistent]
    for row in persistent:
        assert f"#{row['sample_id']}" in read.links
        assert row["sample_id"] in read.ids
        assert f"edco why plain {row['sample_id']}" in read.words


def test_the_page_says_what_the_run_was(page_of: Callable[..., str]) -> None:
    facts = {row[0]: row[1:] for row in Read(page_of("plain")).tables[0]}
    assert facts["strategy"] == ["edco: temperature 1"]
    assert facts["seed"] == ["7"]
    assert facts["pool"][0].startswith("40 samples, 10 per interval")
    assert facts["metric"] == ["exact match 0.125 before, 0.250 last, 0.375 best"]
    assert facts["versions"] == ["torch 2.13.0"]


@pytest.mark.parametrize("run_ids", [("plain",), ALL_RUNS, ("hostile",), BEGUN], ids="+".join)
def test_the_page_stands_alone_and_is_well_formed(
    run_ids: tuple[str, ...], page_of: Callable[..., str]
) -> None:
    page = page_of(*run_ids)
    read = Read(page)
    assert len(read.ids) == len(set(read.ids))
    assert {link[0] if link.startswith("#") else link[:10] for link in read.links} <= {
        "#", "data:image",
    }  # fmt: skip
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    assert not re.search(r"@import|url\((?!#)|<link|<script", page)
    drawn = charts(page)
    assert len(drawn) >= 4 * len(run_ids)
    for chart in drawn:
        assert "var(--ink" in ElementTree.tostring(chart, "unicode")


def test_texts_are_shown_and_never_become_markup(page_of: Callable[..., str]) -> None:
    page = page_of("hostile")
    assert "<script" not in page
    assert "<b>" not in page
    words = "".join(Read(page).words)
    assert f"{HOSTILE} " in words
    assert words.count(HOSTILE) > 4
    assert any(any("<b>tail</b>" in each for each in words_of(chart)) for chart in charts(page))


def test_runs_that_differ_in_their_seed_share_a_colour(page_of: Callable[..., str]) -> None:
    page = page_of(*ALL_RUNS)
    metric = words_of(charts(page)[0])
    assert {"edco (2 seeds)", "random", "before"} <= set(metric)
    facts = {row[0]: row[1:] for row in Read(page).tables[0]}
    assert facts["run"] == list(ALL_RUNS)
    assert facts["seed"] == ["7", "8", "7"]
    assert facts["model"] == ["tiny"]  # said once, as it is the same


class Told:
    """What of a run decides which others it is drawn with."""

    def __init__(
        self, strategy: str, seed: int, *, data: str = "pool.jsonl", dataset: str = "d",
        **settings: Any,
    ) -> None:  # fmt: skip
        self.run = {
            "strategy": strategy, "seed": seed, "dataset_id": dataset, "eval_dataset_id": "e",
        }  # fmt: skip
        self.config = {
            "run": {"seed": seed}, "data": {"train": data},
            "curriculum": {"type": strategy, **settings},
        }  # fmt: skip


def grouped(*told: Any) -> dict[str, int]:
    from flows.report_facts import groups_of

    return {label: len(members) for label, members in groups_of(told).items()}


def test_a_setting_that_differs_tells_runs_of_one_strategy_apart() -> None:
    told = (Told("edco", 0, temperature=1.0), Told("edco", 1, temperature=1.0),
            Told("edco", 0, temperature=0.0), Told("random", 0))  # fmt: skip
    assert grouped(*told) == {"edco, temperature 1": 2, "edco, temperature 0": 1, "random": 1}


def test_runs_on_other_samples_are_no_seeds_of_one_thing() -> None:
    assert sorted(grouped(Told("edco", 0, dataset="a"), Told("edco", 1, dataset="b")).values()) == [
        1, 1,
    ]  # fmt: skip


def test_a_pool_for_each_seed_is_one_thing() -> None:
    assert grouped(
        Told("edco", 0, data="/x/pool-0.jsonl", dataset="a"),
        Told("edco", 1, data="/x/pool-1.jsonl", dataset="b"),
    ) == {"edco": 2}  # fmt: skip


def test_labels_stay_short_and_apart_however_long_what_differs_is() -> None:
    folder = "/home/somebody/" + "a-long-name-" * 8
    told = [
        Told("edco", 0, data=f"{folder}{i}/{'pool' * 20}{i}.jsonl", dataset=str(i))
        for i in range(3)
    ]
    labels = grouped(*told)
    assert len(labels) == 3
    assert max(map(len, labels)) <= 52


def test_runs_that_repeat_a_seed_are_not_called_seeds() -> None:
    from flows.report_facts import curves_of

    told: Any = [Told("edco", 0), Told("edco", 0)]
    (curves,) = curves_of({"edco": told}, lambda each: ([0], [1.0]))
    assert curves.label == "edco (2 runs)"


def test_reinforcement_learning_has_its_own_charts_and_columns(
    page_of: Callable[..., str], ledger: Ledger
) -> None:
    labels = ("mean reward of the answers", "policy entropy", "share of groups without signal")
    supervised, reinforced = page_of("plain"), page_of("random-1")
    for label in labels:
        assert label in reinforced
        assert label not in supervised
    shown = Read(reinforced).table("policy entropy")
    rows = queries.intervals(ledger, "random-1")
    assert [row["no signal"] for row in shown] == [
        number(row["n_without_signal"] / row["n_groups"]) for row in rows
    ]
    assert [row["policy entropy"] for row in shown] == [
        number(row["policy_entropy"]) for row in rows
    ]


def test_a_pool_scored_in_part_says_so_by_interval() -> None:
    from flows.report import columns_of

    whole = {"n_scored": 40, "n_rescored": 40, "n_groups": None}
    assert {"n_rescored", "recall_estimate"} & set(columns_of([whole])) == set()
    assert {"n_rescored", "recall_estimate"} <= set(columns_of([whole, whole | {"n_rescored": 9}]))


def test_a_run_that_has_only_begun_has_a_page_while_it_goes_on(
    page_of: Callable[..., str],
) -> None:
    page = page_of(*BEGUN)
    facts = {row[0]: row[1:] for row in Read(page).tables[0]}
    assert facts["status"] == ["running"]
    (row,) = Read(page).table("p90")
    assert (row["interval"], row["p90"], row["checkpoint"]) == ("0", "–", "0000000000000000")
    assert page.count("No interval has begun yet.") == 1
    assert sum("nothing yet" in words_of(chart) for chart in charts(page)) == 6


def test_texts_not_kept_stay_out_of_the_page_too(tmp_path: Path, edco: Callable[..., str]) -> None:
    """Also where the data file is at hand: a page is passed on, and outlives the file."""
    url = f"duckdb:///{tmp_path / 'ledger.duckdb'}"
    ledger = open_ledger(url)
    pool = make_pool()
    data = tmp_path / "pool.jsonl"
    rows = pool.table.select(["prompt", "completion", "sample_id"]).to_pylist()
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ledger.register_pool(pool, keep_texts=False)
    config = {"data": {"train": str(data)}, "store": {"keep_texts": False}}
    lease = ledger.create_run(make_spec("private", pool, config=config), "me")
    for interval in range(3):
        do_interval(ledger, lease, interval, pool)
    path = tmp_path / "private.html"
    edco("report", "private", "-o", str(path), url=url)
    page = path.read_text(encoding="utf-8")
    assert "not kept in the ledger" in page
    assert "Wie groß" not in page


def test_a_report_is_replaced_only_by_a_complete_one(
    tmp_path: Path, edco: Callable[..., str]
) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    assert "no run 'nobody'" in edco("report", "begun", "nobody", "-o", str(path), expect=2)
    assert path.read_text() == "before"
    facts = json.loads(edco("report", "begun", "begun", "-o", str(path), "--json"))
    assert facts == {"file": str(path), "bytes": path.stat().st_size, "run_ids": ["begun"]}
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("report.pdf", "name a file that ends in .html"),
        ("nowhere/report.html", "cannot be written: No such file or directory"),
        ("folder.html", "is a folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(
    target: str, message: str, tmp_path: Path, edco: Callable[..., str]
) -> None:
    (tmp_path / "folder.html").mkdir()
    told = edco("report", "nobody", "-o", str(tmp_path / target), expect=2)
    assert message in told
    assert len(told.splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["folder.html"]


def test_it_loads_no_model_library_and_no_prefect(store: str, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom flows.report import write_report\nfrom pathlib import Path\n"
        "write_report(['begun'], Path(sys.argv[1]), sys.argv[2])\n"
        "print({'torch', 'transformers', 'prefect', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "r.html"), store],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "set()\n", done.stderr
