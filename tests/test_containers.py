"""docker-compose.yml and the Dockerfile, without an engine: what they promise can be read there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
PASSWORDS = {
    f"{role}_PASSWORD": f"{role}/p@ss:w%rd'" for role in ("POSTGRES", "EDCO_DB", "PREFECT_DB")
}


def resolved(environment: dict[str, str]) -> dict[str, Any]:
    """The file as compose reads it with these variables; LookupError for one that must be set."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if environment.get(name):
            return environment[name]
        if kind == ":?":
            raise LookupError(f"{name} {rest}")
        assert kind == ":-", f"{match.group()}: unset without a word"
        return rest

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(item) for key, item in node.items()}
        if isinstance(node, list):
            return [walk(item) for item in node]
        return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, node) if type(node) is str else node

    found: dict[str, Any] = walk(yaml.safe_load(COMPOSE))
    return found


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return resolved(PASSWORDS)


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    PyCompose.from_json(json.dumps(compose)).validate()
    with pytest.raises(ValueError, match="no_such"):
        PyCompose.from_json('{"services": {"a": {"image": "b", "no_such": 1}}}')


@pytest.mark.parametrize("name", PASSWORDS)
def test_without_a_password_it_does_not_start_and_says_where_one_is_set(name: str) -> None:
    with pytest.raises(LookupError, match=rf"^{name} is not set\. Copy \.env\.example to \.env"):
        resolved({key: value for key, value in PASSWORDS.items() if key != name})
    assert f"\n{name}=\n" in EXAMPLE


def test_every_variable_is_in_the_example_and_no_password_anywhere_else() -> None:
    named = set(re.findall(r"\$\{(\w+)", COMPOSE)) - {"TORCH_INDEX"}
    assert named <= set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE))
    for line in COMPOSE.splitlines():
        if re.search(r"PASSWORD\w*:", line):
            assert re.search(r": \$\{\w+_PASSWORD:\?", line), line


def test_nothing_can_be_reached_from_other_machines(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 2
    for port in ports:
        assert port.startswith("127.0.0.1:"), port
    assert not any("network_mode" in service for service in services.values())


def test_everything_that_stays_up_is_watched_and_waits_for_what_it_needs(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        if service["restart"] != "no":
            assert service["healthcheck"]["test"][0] == "CMD", name
    waits = {name: service.get("depends_on", {}) for name, service in services.items()}
    healthy, done = "service_healthy", "service_completed_successfully"
    assert waits["server"] == {"postgres": {"condition": healthy}}
    assert waits["deploy"] == {"server": {"condition": healthy}}
    for name in ("worker", "worker-cuda"):
        assert waits[name] == {"server": {"condition": healthy}, "deploy": {"condition": done}}


def test_data_models_runs_and_databases_outlive_the_containers(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    assert set(compose["volumes"]) == {"postgres", "data", "models", "runs"}
    for name in ("deploy", "worker", "worker-cuda"):
        mounted = {volume.split(":")[1] for volume in services[name]["volumes"]}
        assert mounted == {"/data", "/models", "/runs"}
    (script,) = (v for v in services["postgres"]["volumes"] if v.startswith("./"))
    assert (ROOT / script.split(":")[0]).is_file()


def test_prefect_makes_the_address_of_its_database_of_what_the_server_is_given(
    services: dict[str, Any], tmp_path: Path
) -> None:
    program = (
        "from prefect.settings import get_current_settings as settings\n"
        "from sqlalchemy import make_url\n"
        "url = make_url(settings().server.database.connection_url.get_secret_value())\n"
        "print(repr((url.drivername, url.username, url.password, url.host, url.database)))"
    )
    given = {**os.environ, **services["server"]["environment"], "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=given, capture_output=True, text=True, check=True
    )
    expected = ("postgresql+asyncpg", "prefect", PASSWORDS["PREFECT_DB_PASSWORD"], "postgres",
                "prefect")  # fmt: skip
    assert done.stdout.strip() == repr(expected)


def test_the_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    program = Path(sys.executable).with_name("hadolint")
    path = str(program) if program.exists() else which("hadolint")
    if path is None:
        pytest.fail("hadolint is not installed; type: make setup")
    done = subprocess.run([path, "--no-color", str(ROOT / "Dockerfile")], capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


def test_containers_run_as_nobody_in_particular_with_what_the_tests_have_pinned() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 3
    for line in installs:
        assert "--constraint constraints.txt" in line or "--no-deps" in line


def test_what_the_image_needs_is_sent_to_the_engine() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    packages = {"edco_core", "storage", "flows", "migrations"}
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", *packages):
        assert f"!{name}" in ignored
    assert ignored[0] == "*"  # nor .env, runs or ledgers
