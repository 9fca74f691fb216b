"""A run whose texts are kept out of its ledger, as a person works with it on the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Edco, ask_prefect
from prefect.settings import PREFECT_API_URL, temporary_settings
from sqlalchemy import String, cast, or_, select
from sqlalchemy.types import Text

from edco_core.config import parse_config
from edco_core.errors import (
    ConfigError,
    DataError,
    LeaseLostError,
    LedgerError,
    StopRequested,
    WithheldError,
)
from flows.texts import withholding_texts
from storage import open_ledger
from storage.tables import metadata

KILLED = ("-P", str(Path(__file__).with_name("killed.py")))  # -P: tests/storage is not storage
SECRETS = ("Kniegelenk", "Ибупрофен", "Handfraktur", "Obergutachten", "Blinddarm", "Wirbelsäule")
"""A word of each prompt, completion, answer, of the metadata, of a bad row, and of a message."""
NO_TEXT = "(text not kept in the ledger)"


def rows(num_rows: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"Kniegelenk {i}: was hilft bei Befund {i * 7 % 11}?",
            "completion": f" Ибупрофен {i % 5}",
            "answer": f"Handfraktur {i}",
            "note": f"Obergutachten {i}",
            "category": "abc"[i % 3],
        }
        for i in range(start, start + num_rows)
    ]


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def private_config(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    write_lines(folder / "pool.jsonl", [*rows(40), {"prompt": "Blinddarm", "completion": ""}])
    write_lines(folder / "eval.jsonl", rows(10, start=40))
    data = {"train": "pool.jsonl", "eval": "eval.jsonl", "on_bad_rows": "skip"}
    curriculum = {**config["curriculum"], "intervals": 2, "top_n": 20}
    return {**config, "data": data, "curriculum": curriculum, "store": {"keep_texts": False}}


@pytest.fixture(scope="module")
def private(new_edco: Callable[[], Edco], tiny_config: dict[str, Any]) -> Edco:
    """A folder with the finished run ``private``, which was killed once and resumed."""
    edco = new_edco()
    config = private_config(tiny_config, edco.folder)
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    edco("selection", "2", "run", "edco.yaml", "--run-id", "private", program=KILLED, expect=-9)
    edco("resume", "private")
    return edco


@pytest.fixture
def pool(private: Edco) -> Iterator[Path]:
    """The data file, which is put back after the test."""
    path = private.folder / "pool.jsonl"
    content = path.read_bytes()
    yield path
    path.write_bytes(content)


@pytest.fixture(scope="module")
def samples(private: Edco) -> dict[str, dict[str, Any]]:
    """Rows of the view ``samples`` by the line of the training data they came from."""
    sql = "SELECT s.* FROM samples s JOIN run_summary USING (dataset_id)"
    return {row["source"]: row for row in private.json("query", sql)}


def secrets_in(content: str | bytes) -> list[str]:
    if isinstance(content, str):
        content = content.encode()
    return [secret for secret in SECRETS if secret.encode() in content]


def test_no_text_is_in_any_column_of_the_ledger_nor_in_its_file(private: Edco) -> None:
    path = private.folder / "edco.duckdb"
    database = open_ledger(f"duckdb:///{path}")._database
    with database.reading() as connection:
        for table in metadata.tables.values():
            columns = [cast(c, String) for c in table.columns if isinstance(c.type, Text)]
            for secret in SECRETS if columns else ():
                hit = or_(*(column.contains(secret) for column in columns))
                assert connection.execute(select(table).where(hit)).all() == []
    with database.engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
    assert secrets_in(path.read_bytes()) == []
    assert not path.with_name("edco.duckdb.wal").exists()


def test_ids_hashes_lengths_and_scores_are_there(
    private: Edco, samples: dict[str, dict[str, Any]]
) -> None:
    for line, row in enumerate(rows(40), start=1):
        stored = samples[f"pool.jsonl:{line}"]
        assert stored["sample_id"] == stored["content_hash"]
        assert (stored["prompt"], stored["completion"], stored["answer"]) == (None, None, None)
        assert stored["metadata"] is None
        assert stored["prompt_chars"] == len(row["prompt"])
        assert stored["completion_chars"] == len(row["completion"])
        assert stored["category"] == row["category"]
    assert len(private.json("query", "SELECT * FROM sample_history")) == 80
    (skipped,) = private.json("query", "SELECT * FROM skipped_rows")
    assert skipped["source"] == "pool.jsonl:41"
    assert "keep_texts: false" in skipped["problem"]


def test_every_command_works(private: Edco, tmp_path: Path) -> None:
    store = f"duckdb:///{private.folder / 'edco.duckdb'}"
    copy = f"duckdb:///{tmp_path / 'copy.duckdb'}"
    shown = [
        private(*words).stdout
        for words in (
            ("runs",),
            ("show", "private"),
            ("turnover", "private"),
            ("query", "SELECT * FROM samples"),
            ("db", "check"),
            ("export", "private", "--format", "jsonl", "-o", str(tmp_path / "files")),
            ("db", "copy", store, copy),
        )
    ]
    assert secrets_in("".join(shown)) == []
    assert "all 2 curricula are identical" in private("replay", "private").stdout
    assert "mean overlap" in private("replay", "private", "--strategy", "random").stdout
    for path in tmp_path.rglob("*.*"):
        assert secrets_in(path.read_bytes()) == [], path
    assert len((tmp_path / "files" / "samples.jsonl").read_text().splitlines()) == 40
    assert private.json("validate", "edco.yaml")["texts_in_ledger"] == "not kept"


def test_texts_come_from_the_data_file_while_it_is_there(
    private: Edco, samples: dict[str, dict[str, Any]], pool: Path
) -> None:
    sample_id = samples["pool.jsonl:7"]["sample_id"]
    row = rows(40)[6]
    found = private.json("why", "private", sample_id)["sample"]
    assert {name: found[name] for name in ("prompt", "completion", "answer")} == {
        name: row[name] for name in ("prompt", "completion", "answer")
    }
    assert found["metadata"] is None
    assert row["prompt"] in private("why", "private", sample_id).stdout
    hard = private.json("difficult", "private", "--min-streak", "1", "--limit", "40")
    by_id = {each["sample_id"]: each for each in samples.values()}
    assert len(hard) > 20
    for each in hard:
        line = int(by_id[each["sample_id"]]["source"].split(":")[1])
        assert each["prompt"] == rows(40)[line - 1]["prompt"]

    pool.unlink()
    told = private("why", "private", sample_id).stdout
    assert told.count(NO_TEXT) == 2
    assert secrets_in(told) == []
    assert private.json("why", "private", sample_id)["sample"]["prompt"] is None
    hard = private.json("difficult", "private", "--min-streak", "1")
    assert {each["prompt"] for each in hard} == {None}


def test_a_row_that_changed_is_not_shown_and_one_that_moved_is(
    private: Edco, samples: dict[str, dict[str, Any]], pool: Path
) -> None:
    changed = rows(40)
    changed[6]["completion"] += "!"
    write_lines(pool, [*rows(1, start=90), *changed])
    told = private("why", "private", samples["pool.jsonl:7"]["sample_id"]).stdout
    assert told.count(NO_TEXT) == 2
    assert (
        changed[7]["prompt"]
        in private("why", "private", samples["pool.jsonl:8"]["sample_id"]).stdout
    )


def test_finding_texts_loads_no_model_library_and_no_prefect(
    private: Edco, samples: dict[str, dict[str, Any]]
) -> None:
    program = (
        "import sys\nfrom flows.cli import main\n"
        "sys.argv = ['edco', 'why', 'private', sys.argv[1]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print({'torch', 'transformers', 'datasets', 'trl', 'prefect'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, samples["pool.jsonl:7"]["sample_id"]],
        cwd=private.folder, env=private.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Kniegelenk 6" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_private_run_is_refused_before_any_work_where_another_keeps_the_texts(
    finished: Edco,
) -> None:
    ledger = finished.folder / "edco.duckdb"
    before = ledger.read_bytes()
    for words in (["validate", "edco.yaml"], ["run", "edco.yaml", "--run-id", "hidden"]):
        told = finished(*words, "--set", "store.keep_texts=false", expect=2).stderr
        assert "has the texts of data set" in told
        assert "for run whole" in told
        assert "--store URL" in told
    assert ledger.read_bytes() == before
    assert not (finished.folder / "runs" / "hidden").exists()


def raised_from(error: Exception, keep_texts: bool) -> BaseException:
    """What leaves a run that meets an error."""
    with (
        pytest.raises(type(error) if keep_texts else Exception) as caught,
        withholding_texts(keep_texts=keep_texts),
        withholding_texts(keep_texts=keep_texts),  # as in a task within its flow
    ):
        raise error
    return caught.value


@pytest.mark.parametrize("kind", [ValueError, DataError, ConfigError])
def test_an_error_that_may_quote_samples_is_printed_in_full_and_leaves_without_its_words(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    withheld = raised_from(kind("Kniegelenk"), keep_texts=False)
    assert capsys.readouterr().err.count("Kniegelenk") == 1
    assert isinstance(withheld, WithheldError)
    assert withheld.exit_code == (1 if kind is ValueError else 2)
    printed = "".join(traceback.format_exception(withheld))
    assert kind.__name__ in printed
    assert "Kniegelenk" not in printed


@pytest.mark.parametrize("kind", [OSError, LedgerError, LeaseLostError, StopRequested])
def test_an_error_that_quotes_no_sample_keeps_its_words(kind: type[Exception]) -> None:
    error = kind("no space left")
    assert raised_from(error, keep_texts=False) is error


def test_where_texts_are_kept_errors_keep_their_words() -> None:
    error = ValueError("Kniegelenk")
    assert raised_from(error, keep_texts=True) is error


def asked(api: str, what: str) -> str:
    """Everything a Prefect server keeps of one kind, as it tells it: page by page, 200 each."""
    rows: list[Any] = []
    while True:
        page = ask_prefect(f"{api}/{what}/filter", {"offset": len(rows)})
        rows += page
        if len(page) < 200:
            return json.dumps(rows, ensure_ascii=False)


@pytest.mark.slow
def test_the_words_of_an_error_that_quote_a_sample_are_printed_but_not_kept(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any], prefect_url: str
) -> None:
    """A chat template that quotes the conversation it refuses, far behind those tried at once."""
    edco = new_edco()
    shutil.copytree(tiny_config["model"]["name_or_path"], edco.folder / "model")
    template = (
        "{% for m in messages %}{% if 'Wirbelsäule' in m['content'] %}"
        "{{ raise_exception('refused: ' + m['content']) }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    (edco.folder / "model" / "chat_template.jinja").write_text(template, encoding="utf-8")
    config = private_config(tiny_config, edco.folder)
    config["model"] = {**config["model"], "name_or_path": "model"}
    evaluated = [row | {"sample_id": f"{i:04d}"} for i, row in enumerate(rows(250))]
    evaluated[-1]["prompt"] = "Wirbelsäule"
    write_lines(edco.folder / "eval.jsonl", evaluated)
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))

    told = edco("run", "edco.yaml", "--run-id", "quoting", expect=2).stderr
    assert "refused: Wirbelsäule" in told
    assert "error: DataError, whose words may quote samples" in told
    (run,) = edco.json("runs")
    assert run["status"] == "failed"
    assert "DataError" in run["message"]
    kept = [run["message"], *(asked(prefect_url, each) for each in ("flow_runs", "task_runs"))]
    logs = asked(prefect_url, "logs")
    assert "WithheldError" in logs
    assert secrets_in("".join([*kept, logs])) == []


@pytest.mark.parametrize("name", ["finetune", "score_pool"])
def test_a_bad_row_that_a_flow_meets_before_its_run_is_not_kept_in_prefect_either(
    name: str, tiny_config: dict[str, Any], prefect_url: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from flows.finetune import finetune
    from flows.score_pool import score_pool

    pool = tmp_path / "pool.jsonl"
    pool.write_text('{"prompt": "p", "completion": {"text": "Obergutachten, begonnen"}}\n')
    config = parse_config(
        {
            **tiny_config,
            "run": {"name": "bad", "output_dir": str(tmp_path)},
            "data": {"train": str(pool)}, "evaluation": None,
            "store": {"keep_texts": False, "url": f"duckdb:///{tmp_path}/edco.duckdb"},
        }
    )  # fmt: skip
    flow = {"finetune": finetune, "score_pool": score_pool}[name]
    with (
        temporary_settings(updates={PREFECT_API_URL: prefect_url}),
        pytest.raises(WithheldError, match="DataError, whose words"),
    ):
        flow(config)
    assert "Obergutachten, begonnen" in capsys.readouterr().err
    for what in ("flow_runs", "logs"):
        assert "Obergutachten, begonnen" not in asked(prefect_url, what)
