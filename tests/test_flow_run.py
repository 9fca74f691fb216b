"""What the flow run of a run hears from a real Prefect server, and what the server hears of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from uuid import UUID

import pytest
from command_line import ask_prefect, wait
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause, TerminationSignal
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Crashed, Running, Suspended

from edco_core.errors import InputError
from flows.deployments import install_automation
from flows.flow_run import NO_SIGN_OF_LIFE, check_named, current_flow_run


@pytest.fixture(autouse=True)
def server(prefect_url: str) -> Iterator[None]:
    with temporary_settings(updates={PREFECT_API_URL: prefect_url}):
        yield


@pytest.mark.parametrize(
    ("url", "environment", "problem"),
    [
        (None, None, "no ledger is named"),
        (None, "duckdb:///edco.duckdb", "the ledger duckdb:///edco.duckdb is relative"),
        ("duckdb:///edco.duckdb", None, "is relative"),
        (None, "duckdb:////home/me/edco.duckdb", None),
        (None, "postgresql+psycopg://edco@127.0.0.1/edco", None),
        ("duckdb:////home/me/edco.duckdb", None, None),
    ],
)
def test_a_deployed_run_has_a_ledger_that_outlives_it(
    monkeypatch: pytest.MonkeyPatch, url: str | None, environment: str | None, problem: str | None
) -> None:
    monkeypatch.delenv("EDCO_STORE", raising=False)
    if environment is not None:
        monkeypatch.setenv("EDCO_STORE", environment)
    check_named(url, is_deployed=False)
    with nullcontext() if problem is None else pytest.raises(InputError, match=problem):
        check_named(url, is_deployed=True)


def look_after(state: State) -> tuple[str, bool]:
    """The flow run's state, and whether it is to stop, after others had put it into ``state``."""

    @flow
    def asked() -> tuple[str, bool]:
        ours = current_flow_run()
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(ours.id, state, force=True)
            ours.look()
            now = client.read_flow_run(ours.id).state
        assert now is not None
        return str(now.name), ours.wants_stop()

    return asked()


def test_a_run_that_is_taken_for_dead_says_that_it_is_alive() -> None:
    assert look_after(Crashed(message=f"{NO_SIGN_OF_LIFE} for 105 s")) == ("Running", False)


def test_a_run_that_crashed_for_another_reason_is_left_as_it_is() -> None:
    assert look_after(Crashed(message="out of memory")) == ("Crashed", False)


def test_cancelling_a_run_without_a_runner_is_heard_and_ends_it_as_cancelled() -> None:
    @flow
    def asked() -> None:
        ours = current_flow_run()
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(ours.id, Cancelling(), force=True)
        ours.look()
        seen.append(ours.id)
        ours.raise_if_stopped()

    seen: list[object] = []
    with pytest.raises(TerminationSignal):
        asked()
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(seen[0]).state  # type: ignore[arg-type]
    assert state is not None
    assert state.is_cancelled()


@pytest.mark.parametrize(
    ("state", "stops"), [(Running(), False), (Cancelling(), True), (Suspended(), True)]
)
def test_a_run_of_a_comparison_stops_with_it(state: State, stops: bool) -> None:
    @flow
    def one_run(comparison_id: UUID) -> bool:
        ours = current_flow_run()
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(comparison_id, state, force=True)
        ours.look()
        return ours.wants_stop()

    @flow
    def comparison() -> None:
        heard.append(one_run(current_flow_run().id))

    heard: list[bool] = []
    with suppress(Pause):
        comparison()
    assert heard == [stops]


def has_heartbeat(prefect_url: str, flow_run_id: str) -> bool:
    wanted = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{flow_run_id}"]},
    }
    return bool(ask_prefect(f"{prefect_url}/events/filter", {"filter": wanted})["total"])


def ended_state(client: SyncPrefectClient, flow_run_id: str) -> State | None:
    state = client.read_flow_run(UUID(flow_run_id)).state
    return state if state is not None and state.is_final() else None


_FLOW = """
import time
from prefect import flow
from prefect.runtime import flow_run

@flow
def finetune():
    print(flow_run.id, flush=True)
    time.sleep(600)

finetune()
"""


@pytest.mark.slow
def test_the_automation_calls_a_killed_run_crashed(prefect_url: str) -> None:
    install_automation(dead_after_s=10)
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_url,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    with subprocess.Popen(
        [sys.executable, "-c", _FLOW], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        flow_run_id = process.stdout.readline().strip()
        wait(lambda: has_heartbeat(prefect_url, flow_run_id))
        process.send_signal(signal.SIGKILL)
    with get_client(sync_client=True) as client:
        state = wait(lambda: ended_state(client, flow_run_id))
    install_automation()
    assert state.is_crashed()
    assert state.message.startswith(NO_SIGN_OF_LIFE)
