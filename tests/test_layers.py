"""The house in order: who may import whom, what loads light, and what nothing may lack."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest
import typer
import yaml
from pydantic import BaseModel

from edco_core.config import (
    Config,
    CurriculumSection,
    ScoringSection,
    TrainingSection,
    load_config,
)
from edco_core.config_rewards import OwnRewardSection
from edco_core.curriculum import STRATEGIES

ROOT = Path(__file__).parents[1]
PACKAGES = ("edco_core", "storage", "flows")
OURS = {*PACKAGES, "migrations", "tests", "benchmarks"}


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, package
    return found


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it, those for type checking included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(package: str, *forbidden: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imported(path)
        if any(name == each or name.startswith(f"{each}.") for each in forbidden)
    ]


def test_what_thinks_knows_no_database_and_no_prefect() -> None:
    forbidden = ("prefect", "sqlalchemy", "alembic", "duckdb", "psycopg", "storage", "flows")
    assert imports_of("edco_core", *forbidden) == []


def test_what_remembers_knows_of_the_core_only_records_and_errors() -> None:
    allowed = {"storage", "edco_core.records", "edco_core.errors"}
    found = {
        f"{path.name}: {name}"
        for path in modules("storage")
        for name in imported(path)
        if name.split(".")[0] in OURS
        and not any(name == each or name.startswith(f"{each}.") for each in allowed)
    }
    assert found == set()
    assert imports_of("storage", "torch", "transformers", "trl", "prefect") == []


@pytest.mark.parametrize("package", ["edco_core", "storage", "migrations"])
def test_nothing_below_flows_imports_flows(package: str) -> None:
    assert imports_of(package, "flows") == []


def loaded_by(code: str, *words: str, cwd: Path | None = None) -> set[str]:
    """Top-level names of all modules that are loaded after ``code`` has run."""
    program = (
        "import json, sys\n"
        f"try:\n    {code}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=cwd or ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "prefect", "matplotlib"}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("edco_core.config", HEAVY | {"sqlalchemy", "numpy"}),
        ("edco_core.records", HEAVY | {"sqlalchemy", "numpy"}),
        ("edco_core.curriculum", HEAVY | {"sqlalchemy"}),
        ("edco_core.rewards", HEAVY | {"sqlalchemy", "sympy"}),
        ("storage", HEAVY | {"alembic"}),
    ],
)
def test_light_modules_stay_light(module: str, forbidden: set[str]) -> None:
    assert loaded_by(f"import {module}") & forbidden == set()


def test_help_loads_nothing_heavy() -> None:
    forbidden = HEAVY | {"sqlalchemy", "duckdb", "pandas", "pyarrow", "numpy", "pydantic"}
    found = loaded_by("from flows.cli import main; main()", "--help")
    assert "typer" in found
    assert found & forbidden == set()


def test_bad_usage_of_a_reading_command_loads_nothing_heavy(tmp_path: Path) -> None:
    """As a ledger is needed to go further, test_command_line.py asks the same of real answers."""
    program = "from flows.cli import main\n    try:\n        main()\n    except SystemExit: pass"
    assert loaded_by(program, "runs", cwd=tmp_path) & HEAVY == set()


@pytest.mark.parametrize("path", [p for package in PACKAGES for p in modules(package)], ids=str)
def test_a_long_file_says_why_and_a_name_says_what(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    text = path.read_text(encoding="utf-8")
    num_lines = text.count("\n")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert docstring, f"{path}: no docstring"
    assert num_lines <= 400 or "400 lines" in docstring, (
        f"{path} has {num_lines} lines: split it, or say in its docstring why it is longer than "
        "400 lines"
    )


def commands() -> Iterator[tuple[str, click.Command]]:
    from flows.cli import app

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for sub, each in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {sub}", each)

    yield from walk("edco", typer.main.get_command(app))


def test_every_command_and_every_parameter_has_help() -> None:
    found = dict(commands())
    assert len(found) > 15
    silent = [name for name, command in found.items() if not command.help]
    silent += [
        f"{name} {parameter.name}"
        for name, command in found.items()
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert silent == []


def test_every_reading_command_takes_json_and_store() -> None:
    found = dict(commands())
    for verb in ("runs", "show", "why", "turnover", "difficult", "query", "validate", "doctor"):
        options = {option for p in found[f"edco {verb}"].params for option in p.opts}
        assert {"--json", "--store"} <= options, verb


def literal_types(union: Any) -> set[str]:
    """The values of ``type`` of the sections in a union; a user's own code has none."""
    if isinstance(union, type) and issubclass(union, BaseModel):
        return set(get_args(union.model_fields["type"].annotation))
    return {name for member in get_args(union) for name in literal_types(member)}


def test_registries_and_configuration_know_the_same_names() -> None:
    assert set(STRATEGIES) == literal_types(CurriculumSection)
    assert registered("edco_core/scoring/__init__.py") == literal_types(ScoringSection)
    assert registered("edco_core/training/__init__.py") == literal_types(TrainingSection)


def registered(path: str) -> set[str]:
    """The keys of a registry that loads torch, which no test of this file may: from its source."""
    source = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {
        key.value
        for node in ast.walk(source)
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    }


def test_every_training_argument_the_loop_overrides_is_refused_from_users() -> None:
    """Else it would be ignored without a word.  What stands behind ``**settings.args`` wins."""
    from edco_core.config import LOOP_OWNED_ARGS
    from edco_core.config_training import GRPO_OWNED_ARGS

    source = ast.parse((ROOT / "edco_core/training/interval.py").read_text(encoding="utf-8"))
    (build_args,) = [
        node
        for node in source.body
        if isinstance(node, ast.FunctionDef) and node.name == "build_args"
    ]
    (values,) = [
        node for node in ast.walk(build_args) if isinstance(node, ast.Dict) and None in node.keys
    ]
    behind = values.keys[values.keys.index(None) + 1 :]
    overridden = {key.value for key in behind if isinstance(key, ast.Constant)}
    assert "output_dir" in overridden
    assert overridden - set(LOOP_OWNED_ARGS) == set()
    text = (ROOT / "edco_core/training/grpo.py").read_text(encoding="utf-8")
    (decided,) = [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "decided"
    ]
    assert isinstance(decided, ast.Dict)
    assert {key.value for key in decided.keys if isinstance(key, ast.Constant)} - set(
        GRPO_OWNED_ARGS
    ) == set()
    assert set(LOOP_OWNED_ARGS) <= set(GRPO_OWNED_ARGS)


def test_every_reward_of_the_configuration_exists() -> None:
    from edco_core.config_rewards import REWARD_SECTIONS, REWARD_TYPES, Metric, RewardSection
    from edco_core.rewards import REWARDS

    assert list(REWARDS) == sorted(REWARD_TYPES)
    for union in (Metric, RewardSection):
        members = {get_args(member)[0] for member in get_args(get_args(union)[0])}
        assert members == {*REWARD_SECTIONS, OwnRewardSection}


NOT_SHOWN = {
    # What most never need; each is explained by its description in edco_core/config.py.
    "model": {"revision", "attn_implementation", "trust_remote_code"},
    "model.peft": {"modules_to_save", "bias", "use_rslora", "use_dora"},
    "data": {"train_split", "eval_split", "hub_config"},
    "scoring": {
        "max_batch_tokens", "shard_size", "chat_template", "unit",
        # Together they are another scorer than the default; README, "Which score".
        "preset", "aggregate", "fraction", "vocabulary", "k", "decoding", "temperature", "top_p",
        "engine", "engine_python", "engine_args",  # for CUDA machines with vLLM
    },
    "scoring.rescore": {"target_recall", "audit_share"},  # of the policy that is not the default
    "curriculum": {"preset"},  # shown as a comment: it decides three of the other keys
    "evaluation": {"max_batch_tokens"},
}  # fmt: skip


def test_the_configuration_of_init_shows_every_setting() -> None:
    """A new setting is shown there, or is added above with its reason."""
    path = ROOT / "flows/init.yaml"
    config = load_config(path)
    shown = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(shown) == set(Config.model_fields)

    def compare(section: BaseModel, values: dict[str, Any], name: str) -> None:
        fields = set(type(section).model_fields)
        assert fields - set(values) == NOT_SHOWN.get(name, set()), name
        for key, value in values.items():
            inner = getattr(section, key)
            if isinstance(inner, BaseModel) and isinstance(value, dict):
                compare(inner, value, f"{name}.{key}")

    for name, values in shown.items():
        compare(getattr(config, name), values, name)
    assert "preset: paper" in path.read_text(encoding="utf-8")


def test_the_configuration_of_init_says_the_defaults_it_claims() -> None:
    """Every value shown is the default, but those a person has to give and training.args."""
    config = load_config(ROOT / "flows/init.yaml")
    default = Config.model_validate(
        {"model": {"name_or_path": "m"}, "data": {"train": "t", "eval": "e"}}
    )
    for name in ("scoring", "curriculum", "evaluation", "store"):
        assert getattr(config, name) == getattr(default, name), name
    assert config.model.peft == default.model.peft
    assert config.model.dtype == default.model.dtype
    assert config.training.model_copy(update={"args": {}}) == default.training
    assert config.run.model_copy(update={"name": default.run.name}) == default.run


def test_records_that_cross_layers_are_frozen() -> None:
    from edco_core import records

    found = [each for each in vars(records).values() if dataclasses.is_dataclass(each)]
    assert len(found) > 5
    for each in found:
        assert each.__dataclass_params__.frozen, each  # type: ignore[union-attr]
