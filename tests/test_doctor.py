"""What a machine lacks, or a variable has wrong, is a line of advice and never a traceback."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edco_core.errors import InputError
from flows import INSTALL
from flows.doctor import examine
from flows.server import quiet_prefect


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"duckdb:///{tmp_path / 'ledger.duckdb'}"


def examined(store: str) -> dict[str, dict[str, Any]]:
    return {fact["what"]: fact for fact in examine(store)[0]}


@pytest.mark.parametrize(
    ("package", "what"), [("torch", "devices"), ("httpx", "prefect server"), ("duckdb", "ledger")]
)
def test_a_package_that_cannot_be_loaded_is_named_with_what_to_type(
    store: str, package: str, what: str
) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from flows.cli import main; main()"
    command = [sys.executable, "-c", program, "doctor", "--json", "--store", store]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    fact = {fact["what"]: fact for fact in json.loads(ended.stdout)}[what]
    assert (fact["status"], fact["advice"]) == ("problem", INSTALL)
    assert package in fact["found"]


def test_a_command_without_a_package_it_needs_says_what_to_type(store: str) -> None:
    program = "import sys; sys.modules['duckdb'] = None; from flows.cli import main; main()"
    command = [sys.executable, "-c", program, "runs", "--store", store]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: import of duckdb")
    assert INSTALL in ended.stderr


def test_a_package_that_is_not_installed_is_a_problem(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name in ("peft", "fastapi"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    facts, is_healthy = examine(store)
    assert not is_healthy
    found = {fact["what"]: fact["status"] for fact in facts}
    assert found["peft"] == found["fastapi"] == "problem"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:4200", "http://[::1", "htp://x/api", "http://a b/api", "http://a:port/api"]
)
def test_a_server_address_that_is_none_is_refused_before_prefect_is_loaded(
    store: str, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(InputError, match="unset PREFECT_API_URL"):
        quiet_prefect()
    fact = examined(store)["prefect server"]
    assert fact["status"] == "problem"
    assert "export PREFECT_API_URL=" in fact["advice"]


def test_an_empty_server_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "")
    quiet_prefect()
    assert "PREFECT_API_URL" not in os.environ
