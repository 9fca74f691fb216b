"""What a user can get wrong ends in one message and exit code 2, before anything was changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from command_line import Edco

Says = Callable[..., str]


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by the hash of what is in it; folders by their name alone."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def folder(
    tiny_config: dict[str, Any],
    tmp_path: Path,
    prefect_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The working folder of the process: the tests' configuration and its data, and no ledger."""
    work = tmp_path / "work"
    work.mkdir()
    for key in ("train", "eval"):
        shutil.copy(tiny_config["data"][key], work / f"{key}.jsonl")
    write_config(work, tiny_config)
    monkeypatch.chdir(work)
    monkeypatch.delenv("EDCO_STORE", raising=False)
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return work


def write_config(folder: Path, config: dict[str, Any], **sections: dict[str, Any]) -> None:
    data = {"train": "train.jsonl", "eval": "eval.jsonl"}
    values = {**config, "data": {**config["data"], **data}}
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    (folder / "edco.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


@pytest.fixture
def says(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Says:
    """Runs ``edco`` in this process, sees that it refuses and changes nothing; its message."""
    from flows.cli import main

    for key in ("TRANSFORMERS_VERBOSITY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(key, {"TRANSFORMERS_VERBOSITY": "error"}.get(key, "false"))

    def says(*words: str) -> str:
        before = contents(folder)
        monkeypatch.setattr(sys, "argv", ["edco", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr()
        assert end.value.code == 2, printed.err
        assert printed.out == ""
        assert "Traceback" not in printed.err
        assert contents(folder) == before
        lines = printed.err.splitlines()
        assert lines[0].startswith(("error: ", "Usage: ")), printed.err
        return printed.err

    return says


def run_refused(says: Says, *words: str) -> str:
    """``validate`` and ``run`` refuse with the same message."""
    message = says("run", "edco.yaml", *words)
    assert says("validate", "edco.yaml", *words) == message
    return message


def test_a_missing_configuration(says: Says) -> None:
    assert "error: no.yaml: cannot be read" in says("run", "no.yaml")
    assert "'edco init' writes one" in says("validate", "no.yaml")


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("curriculum", {"top_m": 3}, "curriculum.top_m: unknown key.*Did you mean 'top_n'?"),
        (
            "curriculum",
            {"type": "edko"},
            "Allowed: adarft, answer_complexity, .*Did you mean 'edco'?",
        ),
        ("model", {"peft": {"rr": 4}}, "model.peft.rr: unknown key"),
        ("training", {"args": {"learning_rte": 1.0}}, "no such setting. Did you mean 'learning_r"),
        ("training", {"args": {"max_steps": 9}}, "'max_steps' is decided by curriculum.intervals"),
        ("training", {"args": {"optim": "adamm"}}, "training.args: adamm is not a valid"),
        ("run", {"name": "my run"}, "run.name: use letters, digits"),
        ("model", {"peft": {"target_modules": ["q_prj"]}}, "model.peft: Target modules"),
    ],
)
def test_an_unknown_name_or_a_wrong_value(
    folder: Path,
    says: Says,
    tiny_config: dict[str, Any],
    section: str,
    values: dict[str, Any],
    message: str,
) -> None:
    write_config(folder, tiny_config, **{section: values})
    printed = says("run", "edco.yaml")
    for part in message.split(".*"):
        assert part in printed


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "run.sed=1",
            "run.sed: unknown key. Allowed here: experiment, keep_checkpoints, "
            "name, output_dir, seed.",
        ),
        ("run.seed", "--set run.seed: expected key.sub=value"),
        ("curriculum.top_n=0", "curriculum.top_n: use a count of at least 1"),
        ("curriculum.top_n=81", "81 samples were asked for, the pool has 80"),
        ("curriculum.skip_top=0.9", "skip_top 0.9 leaves 8 of 80"),
        ("data.columns.prompt=text", "text"),
        ("data.train_split=train", "data.train_split: would be ignored for local data"),
        ("data.train=absent.jsonl", "absent.jsonl"),
        ("data.train=abs*.jsonl", "abs*.jsonl"),
        ("data.eval=absent.jsonl", "data.eval: "),
        ("evaluation.metric=numeric", "answer"),
        ("model.name_or_path=no/such/model", "there is no folder 'no/such/model'"),
        ("model.load_in_4bit=true", "QLoRA needs a CUDA device"),
        ("store.url=mysql://host/db", "unknown kind of database 'mysql'"),
        ("store.url=duckdb:///absent/edco.duckdb", "absent"),
        ("run.output_dir=train.jsonl", "train.jsonl' is a file, not a folder"),
        ("run.output_dir=train.jsonl/runs", "train.jsonl' is a file, not a folder"),
    ],
)
def test_an_override_that_does_not_fit_the_data_or_the_machine(
    says: Says, override: str, message: str
) -> None:
    if override == "model.load_in_4bit=true":
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
    assert message in run_refused(says, "--set", override)


def test_an_empty_pool(folder: Path, says: Says) -> None:
    (folder / "train.jsonl").write_text("")
    assert "data.train: " in run_refused(says)
    assert "no samples, it is empty" in run_refused(says)


def test_a_malformed_row_is_named_by_file_line_and_field(folder: Path, says: Says) -> None:
    lines = (folder / "train.jsonl").read_text().splitlines()
    row = json.loads(lines[6])
    lines[6] = json.dumps({**row, "prompt": 17})
    lines[9] = lines[9][:-5]
    (folder / "train.jsonl").write_text("\n".join(lines))
    message = run_refused(says)
    assert "train.jsonl:7: prompt: " in message
    assert "train.jsonl:10: " in message
    assert "2 bad rows (of 80)" in message
    assert "data.on_bad_rows: skip" in message


def test_a_field_the_metric_needs_is_asked_of_every_row(folder: Path, says: Says) -> None:
    lines = (folder / "eval.jsonl").read_text().splitlines()
    rows = [{**json.loads(line), "answer": "5"} for line in lines]
    del rows[3]["answer"]
    rows[4]["answer"] = "five"
    (folder / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = run_refused(says, "--set", "evaluation.metric=numeric")
    assert "eval.jsonl:4: answer: " in message
    rows[3]["answer"] = "5"
    (folder / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = run_refused(says, "--set", "evaluation.metric=numeric")
    assert "eval.jsonl:5: answer: 'five' came" in message


def test_conversations_for_a_tokenizer_without_a_template(folder: Path, says: Says) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"question {i}"},
                {"role": "assistant", "content": "answer"},
            ]
        }
        for i in range(30)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "the tokenizer has no chat template" in run_refused(says)


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        (
            ("tokenizer.json", "tokenizer_config.json"),
            "no tokenizer could be loaded from the folder",
        ),
        (("model.safetensors",), "the folder holds no weights"),
    ],
)
def test_a_model_folder_that_lacks_files(
    folder: Path, says: Says, tiny_model: Path, lacking: tuple[str, ...], message: str
) -> None:
    shutil.copytree(tiny_model, folder / "model")
    for name in lacking:
        (folder / "model" / name).unlink()
    assert message in run_refused(says, "--set", "model.name_or_path=model")


def test_weights_that_do_not_fit_their_configuration(
    folder: Path, says: Says, tiny_model: Path
) -> None:
    """Only loading shows it: ``run`` does that before there is a run."""
    shutil.copytree(tiny_model, folder / "model")
    path = folder / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 32}))
    message = says("run", "edco.yaml", "--set", "model.name_or_path=model")
    assert "its config.json does not fit its weights" in message


def test_a_run_id_that_names_no_folder(says: Says) -> None:
    for bad in ("../up", "a b", "-x", "", "a" * 101):
        assert "--run-id" in says("run", "edco.yaml", f"--run-id={bad}")


@pytest.fixture
def ledger(folder: Path, finished: Edco) -> Path:
    """The ledger of a finished run, in the working folder."""
    path = folder / "edco.duckdb"
    shutil.copy(finished.folder / "edco.duckdb", path)
    return path


@pytest.mark.usefixtures("ledger")
def test_a_run_id_that_is_in_the_ledger(says: Says) -> None:
    message = says("run", "edco.yaml", "--run-id", "whole")
    assert "run whole is in the ledger" in message
    assert "edco resume whole" in message


def test_a_run_id_whose_folder_is_not_empty(folder: Path, says: Says) -> None:
    """Another run's checkpoints and tokenised data would be taken for this one's."""
    (folder / "runs" / "whole" / "tokenized").mkdir(parents=True)
    assert "runs/whole is not empty" in says("run", "edco.yaml", "--run-id", "whole")


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    "words",
    [
        ("resume", "hole"),
        ("show", "hole"),
        ("why", "hole", "0"),
        ("turnover", "hole"),
        ("difficult", "hole"),
    ],
)
def test_an_unknown_run_id(says: Says, words: tuple[str, ...]) -> None:
    message = says(*words)
    assert "'hole'" in message
    assert "whole" in message.replace("'hole'", "")  # what there is


def test_a_ledger_of_a_newer_version(ledger: Path, says: Says) -> None:
    with duckdb.connect(str(ledger)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for words in (("runs",), ("show", "whole"), ("run", "edco.yaml"), ("resume", "whole")):
        message = says(*words)
        assert "has revision 9999, made by a newer version of EDCO" in message
        assert "Upgrade EDCO" in message


def test_a_ledger_that_is_not_there(says: Says) -> None:
    for words in (("runs",), ("show", "x"), ("query", "SELECT 1"), ("resume", "x")):
        assert "there is no ledger at duckdb:///edco.duckdb" in says(*words)


def test_a_file_that_is_no_ledger(folder: Path, says: Says) -> None:
    (folder / "edco.duckdb").write_text("not a database" * 1000)
    assert "is not a DuckDB database" in says("runs")
    assert "is not a DuckDB database" in says("run", "edco.yaml")


def test_bad_usage(says: Says) -> None:
    assert "No such command" in says("rum")
    assert "Missing argument" in says("show")
    assert "No such option" in says("runs", "--jason")


def test_init_overwrites_nothing(folder: Path, says: Says) -> None:
    assert "exists already and is not overwritten" in says("init")
    assert "cannot be written" in says("init", "train.jsonl")
