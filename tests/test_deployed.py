"""Runs of deployments, ended and carried on from outside while torch is training."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from command_line import Edco, ask_prefect, wait


@dataclass
class Server:
    """The part of Prefect's API that its pages use."""

    url: str

    def post(self, path: str, **body: Any) -> Any:
        return ask_prefect(f"{self.url}{path}", body)

    def start(self, deployment: str, **parameters: Any) -> str:
        (found,) = self.post("/deployments/filter", deployments={"name": {"any_": [deployment]}})
        made = self.post(
            f"/deployments/{found['id']}/create_flow_run",
            state={"type": "SCHEDULED"},
            parameters={**found["parameters"], **parameters},
        )
        return str(made["id"])

    def state(self, run: str) -> dict[str, Any]:
        return dict(ask_prefect(f"{self.url}/flow_runs/{run}")["state"])

    def wait_for(self, run: str, *names: str) -> dict[str, Any]:
        return wait(lambda: (s := self.state(run))["name"] in names and s, lambda: self.state(run))

    def set_state(self, run: str, **state: Any) -> None:
        answer = self.post(f"/flow_runs/{run}/set_state", state=state, force=True)
        assert answer["status"] == "ACCEPT", answer

    def press_pause(self, run: str) -> None:
        details = {"pause_timeout": "2099-01-01T00:00:00Z", "pause_reschedule": True}
        self.set_state(run, type="PAUSED", name="Suspended", state_details=details)

    def press_resume(self, run: str) -> None:
        self.post(f"/flow_runs/{run}/resume")

    def press_cancel(self, run: str) -> None:
        self.set_state(run, type="CANCELLING", name="Cancelling")

    def press_retry(self, run: str) -> None:
        self.set_state(run, type="SCHEDULED", name="AwaitingRetry")


@pytest.fixture(scope="module")
def server(prefect_url: str) -> Server:
    return Server(prefect_url)


@pytest.fixture(scope="module")
def long_config(tiny_config: dict[str, Any]) -> dict[str, Any]:
    """Two intervals of 160 steps: long enough to press a button in the middle of one."""
    training = {
        "epochs_per_interval": 16,
        "args": {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "save_steps": 10},
    }
    return {
        **tiny_config,
        "run": {"name": "deployed", "seed": 3, "output_dir": "runs"},
        "curriculum": {"type": "edco", "intervals": 2, "top_n": 20},
        "training": training,
    }


@pytest.fixture(scope="module")
def undisturbed(new_edco: Callable[[], Edco], long_config: dict[str, Any]) -> str:
    """Hash of the final weights of the same run, carried out without a break."""
    edco = new_edco()
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(long_config))
    edco("run", "edco.yaml", "--run-id", "whole")
    return final_weights(edco, "whole")


def final_weights(edco: Edco, run_id: str) -> str:
    sql = "SELECT weights_sha256 FROM checkpoints WHERE run_id = :run ORDER BY interval DESC"
    return str(edco.json("query", sql, "-p", f"run={run_id}")[0]["weights_sha256"])


@contextmanager
def served(edco: Edco, *options: str) -> Iterator[None]:
    process = edco.start("serve", "edco.yaml", *options)
    try:
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)


@contextmanager
def worked(edco: Edco, *options: str) -> Iterator[None]:
    edco("deploy", "edco.yaml", "--work-pool", "tests", *options)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "tests"]
    log = (edco.folder / "worker.log").open("w")
    with (
        log,
        subprocess.Popen(
            command, cwd=edco.folder, env=edco.environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


@dataclass
class Training:
    """A deployed run whose first interval is being trained."""

    edco: Edco
    server: Server
    flow_run: str

    @property
    def run_id(self) -> str:
        return f"deployed-{self.flow_run[:8]}"

    def saved_step(self) -> int:
        folder = self.edco.folder / "runs" / self.run_id / "checkpoints"
        steps = [int(path.name.split("-")[1]) for path in folder.glob("interval-*/checkpoint-*")]
        return max(steps, default=0)

    def wait_until_it_trains_on(self) -> None:
        before = self.saved_step()
        wait(lambda: self.saved_step() > before, lambda: self.server.state(self.flow_run))

    def facts(self) -> dict[str, Any]:
        return dict(self.edco.json("show", self.run_id)["run"])


def start(edco: Edco, server: Server) -> Training:
    deployments = {"deployments": {"name": {"any_": [name_of(edco)]}}}
    wait(lambda: server.post("/deployments/filter", **deployments))
    training = Training(edco, server, server.start(name_of(edco)))
    training.wait_until_it_trains_on()
    return training


def name_of(edco: Edco) -> str:
    return f"in-{edco.folder.name}"


@pytest.fixture
def folder(new_edco: Callable[[], Edco], long_config: dict[str, Any]) -> Edco:
    edco = new_edco()
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(long_config))
    (edco.folder / "tmp").mkdir()  # with slots of its own: others may be training on this machine
    return Edco(edco.folder, edco.environment | {"TMPDIR": str(edco.folder / "tmp")})


@pytest.mark.slow
def test_a_served_run_is_paused_resumed_killed_and_retried_to_the_same_weights(
    folder: Edco, server: Server, undisturbed: str
) -> None:
    with served(folder, "--name", name_of(folder)):
        training = start(folder, server)

        server.press_pause(training.flow_run)
        wait(lambda: training.facts()["status"] == "interrupted", training.facts)
        assert training.facts()["message"] == "paused in Prefect"
        assert not training.facts()["alive"]
        assert server.state(training.flow_run)["name"] == "Suspended"

        server.press_resume(training.flow_run)
        training.wait_until_it_trains_on()

        process = re.search(r"pid=(\d+)", training.facts()["lease_owner"])
        assert process is not None
        os.kill(int(process[1]), signal.SIGKILL)
        server.wait_for(training.flow_run, "Crashed")

        server.press_retry(training.flow_run)
        state = server.wait_for(training.flow_run, "Completed", "Failed", "Crashed")
    assert state["name"] == "Completed", state["message"]
    assert final_weights(folder, training.run_id) == undisturbed


@pytest.mark.slow
def test_a_workers_run_is_cancelled_within_seconds_and_retried_from_its_last_step(
    folder: Edco, server: Server, undisturbed: str
) -> None:
    with worked(folder, "--name", name_of(folder)):
        training = start(folder, server)

        server.press_cancel(training.flow_run)
        wait(lambda: training.facts()["status"] == "interrupted", training.facts)
        assert not training.facts()["alive"]
        server.wait_for(training.flow_run, "Cancelled")
        stopped_at = training.saved_step()

        server.press_retry(training.flow_run)
        state = server.wait_for(training.flow_run, "Completed", "Failed", "Crashed")
        assert state["name"] == "Completed", state["message"]
        assert 0 < stopped_at < 320
        assert final_weights(folder, training.run_id) == undisturbed

        again = server.start(name_of(folder))
        skipped = server.wait_for(again, "Skipped", "Completed", "Failed", "Crashed")
        assert skipped["name"] == "Skipped"
        assert training.run_id in skipped["message"]


def test_a_value_that_is_not_allowed_is_refused_with_its_field(
    folder: Edco, server: Server
) -> None:
    folder("deploy", "edco.yaml", "--name", "refused", "--work-pool", "nobody-works-here")
    (found,) = server.post("/deployments/filter", deployments={"name": {"any_": ["refused"]}})
    config = found["parameters"]["config"]
    config["curriculum"]["temperature"] = -1
    answer = httpx.post(
        f"{server.url}/deployments/{found['id']}/create_flow_run",
        json={"state": {"type": "SCHEDULED"}, "parameters": {"config": config}},
        trust_env=False,
    )
    assert answer.status_code == 409
    assert "temperature" in answer.text


def test_a_pool_is_scored_on_request_and_the_same_weights_do_not_score_it_twice(
    folder: Edco, server: Server
) -> None:
    with served(folder, "--name", name_of(folder), "--scores-only"):
        deployments = {"deployments": {"name": {"any_": [name_of(folder)]}}}
        wait(lambda: server.post("/deployments/filter", **deployments))
        first = server.wait_for(server.start(name_of(folder)), "Completed", "Failed", "Crashed")
        assert first["name"] == "Completed", first["message"]
        second = server.wait_for(
            server.start(name_of(folder)), "Skipped", "Completed", "Failed", "Crashed"
        )
    assert second["name"] == "Skipped", second["message"]
    (run,) = folder.json("runs")
    assert (run["trainer"], run["intervals_done"], run["status"]) == ("none", 1, "finished")
    assert folder("resume", run["run_id"], expect=0)
    (interval,) = folder.json("show", run["run_id"])["intervals"]
    assert (interval["status"], interval["n_scored"]) == ("done", 80)


def test_a_password_is_not_stored_in_the_deployment(folder: Edco) -> None:
    address = "postgresql+psycopg://me:secret@127.0.0.1/ledger"
    refused = folder("deploy", "edco.yaml", "--set", f"store.url={address}", expect=2)
    assert "secret" not in refused.stderr
    assert "EDCO_STORE" in refused.stderr


def test_without_a_server_deploy_says_what_to_type(folder: Edco, tmp_path: Path) -> None:
    environment = {k: v for k, v in folder.environment.items() if k != "PREFECT_API_URL"}
    alone = Edco(folder.folder, environment | {"PREFECT_HOME": str(tmp_path)})
    assert "prefect server start" in alone("deploy", "edco.yaml", expect=2).stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cron", "0 2 * * *", "--interval", "1h"], "choose one"),
        (["--interval", "1 week"], "12h or 1d"),
        (["--cron", "99 * * * *"], "--cron 99 * * * *"),
        (["--checkpoint", "somewhere"], "--scores-only"),
        (["--interval", "99999999999d"], "ten years at most"),
        (["--interval", "1h", "--timezone", "Mars/Base"], "no such time zone"),
        (["--timezone", "Europe/Berlin"], "Add --cron or --interval"),
        (["--name", "a/b"], "--name a/b: '/' came"),
        (["--work-pool", ""], "it is empty"),
    ],
)
def test_a_schedule_or_checkpoint_that_makes_no_sense_is_refused(
    folder: Edco, options: list[str], says: str
) -> None:
    refused = folder("deploy", "edco.yaml", *options, expect=2)
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_server_that_is_down_is_one_message_and_offline_runs_anyway(
    folder: Edco, tiny_config: dict[str, Any]
) -> None:
    config = {**tiny_config, "curriculum": {"type": "random", "intervals": 1, "top_n": 8}}
    (folder.folder / "edco.yaml").write_text(yaml.safe_dump(config))
    nobody = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    alone = Edco(folder.folder, folder.environment | nobody)
    refused = alone("run", "edco.yaml", "--run-id", "tiny", expect=1).stderr
    assert "does not answer" in refused
    assert "--offline" in refused
    assert "Traceback" not in refused
    assert not (folder.folder / "runs" / "tiny").exists()
    alone("run", "edco.yaml", "--run-id", "tiny", "--offline")
    assert alone.json("show", "tiny")["run"]["status"] == "finished"
