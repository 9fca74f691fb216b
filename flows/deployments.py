"""``edco deploy`` and ``edco serve``: the flows on a Prefect server, with what keeps them honest.

Beside the deployment there is one thing on the server, shared by all: an automation that calls a
run crashed when its heartbeats stop.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from prefect import Flow
from prefect import serve as prefect_serve
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists
from prefect.schedules import Cron, Interval, Schedule
from prefect.types.entrypoint import EntrypointType

from edco_core.config import Config
from edco_core.errors import InputError
from flows import QUIET_LIBRARIES
from flows.finetune import finetune
from flows.flow_run import NO_SIGN_OF_LIFE
from flows.form import show_as_configured
from flows.prepare import with_absolute_paths
from flows.score_pool import score_pool
from flows.server import HEARTBEAT_S, configured_server
from storage import is_secret, masked
from storage.address import absolute

DEAD_AFTER_S = 105
"""Three heartbeats and a server that was away for a minute fit into it."""

AUTOMATION = "edco: a run without heartbeats has crashed"
_ENDED = ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be deployed, as it was typed."""

    config: Config
    name: str | None = None
    schedule: Schedule | None = None
    scores_only: bool = False
    checkpoint: str | None = None
    """Of ``scores_only``: what scores; None: the base model."""


def deploy(request: Request, *, work_pool: str) -> dict[str, Any]:
    """Register the flow on the configured server; again, to change it.

    Raises InputError for a configuration that must not be stored there.
    """
    deployment = _deployment(request, work_pool)
    server = configured_server()
    with get_client(sync_client=True) as client:
        made_pool = _make_work_pool(client, work_pool)
    install_automation()
    deployment.apply()
    schedule = request.schedule
    return {
        "deployment": f"{deployment.flow_name}/{deployment.name}",
        "server": masked(server),
        "work_pool": work_pool,
        "work_pool_made": made_pool,
        "schedule": None if schedule is None else schedule.cron or str(schedule.interval),
    }


def serve(request: Request) -> None:
    """The same without a work pool: runs are children of this process, until it is stopped."""
    deployment = _deployment(request, None)
    configured_server()
    install_automation()
    os.environ.update(environment_of_runs())
    prefect_serve(deployment, heartbeat_seconds=HEARTBEAT_S)


def _deployment(request: Request, work_pool: str | None) -> RunnerDeployment:
    if request.checkpoint is not None and not request.scores_only:
        raise InputError("--checkpoint goes with --scores-only; a fine-tune starts from 'model'.")
    config = _as_stored(request.config)
    flow: Flow[..., Any] = score_pool if request.scores_only else finetune
    name = f"{config.run.name}{'-scores' if request.scores_only else ''}"
    if request.name is not None:
        _check_name("--name", name := request.name)
    if work_pool is not None:
        _check_name("--work-pool", work_pool)
    parameters: dict[str, Any] = {"config": config.model_dump(mode="json")}
    tags = ["edco"]
    if request.scores_only:
        tags.append(config.scoring.type)
        if request.checkpoint is not None:
            parameters["checkpoint"] = str(Path(request.checkpoint).expanduser().resolve())
    else:
        tags += [config.curriculum.type, config.training.type]
    deployment = flow.to_deployment(
        name=name,
        parameters=parameters,
        schedules=[] if request.schedule is None else [request.schedule],
        tags=tags,
        work_pool_name=work_pool,
        job_variables={"env": environment_of_runs()} if work_pool else {},
        # The project is installed where runs are carried out; no code is fetched.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(deployment, RunnerDeployment)  # a coroutine only inside an event loop
    show_as_configured(deployment._parameter_openapi_schema, config)
    return deployment


def _as_stored(config: Config) -> Config:
    """The configuration as any process on the machine that carries it out will understand it."""
    url = config.store_url()
    if is_secret(url):
        if config.store.url is not None:
            raise InputError(
                f"store.url: {masked(url)} holds a password, which Prefect would show. "
                "Leave store.url out, and set EDCO_STORE where the runs are carried out."
            )
        stored = None
    else:
        stored = absolute(url)
    config = with_absolute_paths(config)
    return config.model_copy(update={"store": config.store.model_copy(update={"url": stored})})


def environment_of_runs() -> dict[str, str]:
    """What a run's process needs in its environment."""
    return {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
        # Prefect starts a script that lies beside a storage.py of its own, and would import that.
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning",  # of TRL, PEFT and transformers about each other
        **QUIET_LIBRARIES,
    }


def _make_work_pool(client: SyncPrefectClient, name: str) -> bool:
    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    except ObjectAlreadyExists:  # perhaps since a moment ago: a worker makes its pool as well
        return False
    return True


def install_automation(dead_after_s: int = DEAD_AFTER_S) -> None:
    """Let the server call a run crashed when its heartbeats stop: nobody else is left to say so."""
    automation = Automation(
        name=AUTOMATION,
        description=f"No sign of life for {dead_after_s} s: the process was killed, or its machine "
        "is gone. Retry the run to carry it on.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification.model_validate(
                {"prefect.resource.id": "prefect.flow-run.*"}
            ),
            match_related=ResourceSpecification.model_validate(
                {
                    "prefect.resource.role": "flow",
                    "prefect.resource.name": [finetune.name, score_pool.name],
                }
            ),
            for_each={"prefect.resource.id"},
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{each}" for each in _ENDED)},
            threshold=1,
            within=timedelta(seconds=dead_after_s),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"{NO_SIGN_OF_LIFE} for {dead_after_s} s; retry the run to carry it on",
            )
        ],
    )
    try:
        known = Automation.read(name=AUTOMATION)
    except ValueError:
        automation.create()
    else:
        assert isinstance(known, Automation)
        automation.id = known.id
        automation.update()


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_S = 10 * 366 * 86400


def schedule_from(cron: str | None, interval: str | None, timezone: str | None) -> Schedule | None:
    """A schedule as typed, in UTC where no time zone is given; raises InputError."""
    if cron and interval:
        raise InputError("--cron and --interval were given; choose one.")
    if timezone is not None:
        if not (cron or interval):
            raise InputError(
                f"--timezone {timezone}: it is that of a schedule. Add --cron or --interval."
            )
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):  # unknown; no name of one; a folder
            raise InputError(
                f"--timezone {timezone}: no such time zone. Use a name such as Europe/Berlin."
            ) from None
    zone = timezone or "UTC"
    if cron:
        try:
            return Cron(cron, timezone=zone)
        except ValueError as error:
            raise InputError(f"--cron {cron}: {error}") from error
    if interval:
        found = re.fullmatch(r"(\d{1,9})([smhd])", interval)
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= _LONGEST_S:
            raise InputError(
                f"--interval {interval}: use a number and a unit: 90s, 30m, 12h or 1d, ten years "
                "at most."
            )
        return Interval(timedelta(seconds=seconds), timezone=zone)
    return None


def _check_name(option: str, name: str) -> None:
    """Raise InputError for a name that Prefect does not take."""
    banned = re.search(r"[/%&<>]", name)
    if banned or not name.strip():
        came = f"'{banned[0]}' came" if banned else "it is empty"
        raise InputError(f"{option} {name}: {came}. Use letters, digits, '.', '_' and '-'.")
