"""What Prefect costs, and how soon it notices things.

Overhead: the same stage functions on the same demo, once as the flow with its tasks, artifacts and
log, and once in a plain loop; the same process, the same server beside both, in turns.

The rest is measured on one deployed run of the demo: from the moment a button is pressed, or a
process killed, to what follows in Prefect or in the run's folder.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.demo_inputs import demo_config
from benchmarks.measuring import Aim, Figure, Report
from edco_core.config import Config
from flows import begin, stages
from flows.server import prefect_api
from flows.stack import prefect_server
from storage import open_ledger, queries

_PATIENCE_S = 600.0


def measure(*, quick: bool) -> Report:
    """Both, on the demo's configuration."""
    config = demo_config(quick=quick)
    as_flow, plain = [], []
    with prefect_api(offline=True) as server:
        assert server is not None
        with server.ready():
            _carry_out(config, _flow)  # imports and caches
            for _ in range(1 if quick else 2):
                as_flow.append(_carry_out(config, _flow))
                plain.append(_carry_out(config, _plain_loop))
    seconds = _deployed(config)
    return Report(
        [
            Figure(
                "an interval as Prefect tasks", as_flow, plain, "plain loop", aim=Aim("≤", 1.02)
            ),
            *(Figure(name, [value], [1.0], "1 s") for name, value in seconds.items()),
        ],
        {"seconds_per_interval": {"flow": as_flow, "plain": plain}, "deployed": seconds},
    )


def _carry_out(config: Config, loop: Callable[[Any], None]) -> float:
    """Seconds per interval of a new run."""
    with tempfile.TemporaryDirectory(prefix="edco-bench-") as folder:
        values = config.model_dump(mode="json")
        values["run"]["output_dir"] = folder
        url = f"duckdb:///{folder}/edco.duckdb"
        run = begin.start(Config.model_validate(values), url, "bench")()
        with run.owned():
            run.warm_up()
            start = time.perf_counter()
            loop(run)
            return (time.perf_counter() - start) / run.plan.num_intervals


def _flow(run: Any) -> None:
    from flows.finetune import finetune

    finetune(run.config, run.run_id)


def _plain_loop(run: Any) -> None:
    for interval in range(run.plan.num_intervals):
        stages.take_checkpoint(run, interval)
        stages.score_pool(run, interval)
        stages.select_curriculum(run, interval)
        stages.train_interval(run, interval)
    stages.finish(run)


def _deployed(config: Config) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="edco-bench-") as name:
        folder = Path(name)
        values = config.model_dump(mode="json")
        values["run"] |= {"name": "bench", "output_dir": str(folder / "runs")}
        values["store"]["url"] = url = f"duckdb:///{folder}/edco.duckdb"
        values["training"]["args"]["save_steps"] = 1
        (folder / "edco.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        with prefect_server(folder / "home", folder) as (_, ui):
            environment = {**os.environ, "PREFECT_API_URL": f"{ui}/api"}
            command = [sys.executable, "-m", "flows.cli", "serve", str(folder / "edco.yaml")]
            runner = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                return _press_and_kill(f"{ui}/api", folder, url, runner)
            finally:
                runner.terminate()
                runner.wait(timeout=60)


def _press_and_kill(
    api: str, folder: Path, url: str, runner: subprocess.Popen[bytes]
) -> dict[str, float]:
    client = httpx.Client(base_url=api, trust_env=False, timeout=60)

    def deployments() -> Any:
        return client.post("/deployments/filter", json={}).json()

    def state() -> str:
        return str(client.get(f"/flow_runs/{run}").json()["state"]["name"])

    def set_state(**wanted: Any) -> None:
        client.post(f"/flow_runs/{run}/set_state", json={"state": wanted, "force": True})

    def saved_step() -> int:
        found = folder.glob("runs/*/checkpoints/interval-*/checkpoint-*/edco.json")
        return max((int(path.parent.name.split("-")[1]) for path in found), default=0)

    def step_after(step: int) -> Callable[[], bool]:
        return lambda: saved_step() > step

    def child() -> int:
        ledger = open_ledger(url, read_only=True)
        found = re.search(r"pid=(\d+)", queries.runs(ledger)[0]["lease_owner"])
        assert found is not None
        return int(found[1])

    _seconds_until(lambda: bool(deployments()))
    seconds: dict[str, float] = {}
    path = f"/deployments/{deployments()[0]['id']}/create_flow_run"
    run = client.post(path, json={"state": {"type": "SCHEDULED"}}).json()["id"]
    seconds["from schedule to first stage"] = _seconds_until(lambda: any(folder.glob("runs/*/*")))
    _seconds_until(step_after(0))

    process = child()
    set_state(type="CANCELLING", name="Cancelling")
    seconds["from cancel to the end of the process"] = _seconds_until(lambda: _is_gone(process))
    seconds["from then to Cancelled"] = _seconds_until(lambda: state() == "Cancelled")

    step = saved_step()
    set_state(type="SCHEDULED", name="AwaitingRetry")
    seconds["from retry to first new step"] = _seconds_until(step_after(step))

    os.kill(child(), signal.SIGKILL)
    seconds["from SIGKILL to Crashed, the runner alive"] = _seconds_until(
        lambda: state() == "Crashed"
    )

    step = saved_step()
    set_state(type="SCHEDULED", name="AwaitingRetry")
    _seconds_until(step_after(step))
    process = child()
    runner.kill()
    os.kill(process, signal.SIGKILL)
    seconds["from SIGKILL to Crashed, the runner killed too"] = _seconds_until(
        lambda: state() == "Crashed"
    )
    return seconds


def _is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def _seconds_until(look: Callable[[], bool]) -> float:
    start = time.perf_counter()
    while not look():
        if time.perf_counter() - start > _PATIENCE_S:
            raise RuntimeError("it did not happen")
        time.sleep(0.05)
    return time.perf_counter() - start
