"""The topology of docker-compose.yml without containers: ``python -m flows.stack``.

A real Postgres with the ledger's database and Prefect's, a real Prefect server on the latter and a
real process worker.  The demo is deployed, run through the API, and looked up in the ledger; then
everything that was started is ended again.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import psutil
import typer

from edco_core.errors import EdcoError, InputError
from flows.demo import write_demo_config
from flows.display import say
from flows.signals import signals_later

POOL = "edco"
_PATIENCE_S = 120.0
_DATABASES_SQL = Path(__file__).parents[1] / "storage" / "databases.sql"
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "PAUSED")


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server and what its two roles may open."""

    host: str
    """The folder of its socket."""
    passwords: dict[str, str]

    def url(self, driver: str, role: str, *, password: bool = False) -> str:
        """The database of that role, which has its name."""
        secret = f":{quote(self.passwords[role], safe='')}" if password else ""
        return f"postgresql+{driver}://{role}{secret}@/{role}?host={quote(self.host, safe='')}"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A new server on a socket of its own, removed at the end with all that is in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a runtime folder that a machine may lack
        try:
            import pgserver
        except ImportError as error:
            raise InputError(
                "the stack needs Postgres from a Python package; type: pip install -c "
                "constraints.txt 'edco[dev]'"
            ) from error
    folder = Path(tempfile.mkdtemp(prefix="edco-stack-"))
    server = None
    try:
        with signals_later():
            # In a folder below: as root, the server runs as another user, who gets that one.
            server = pgserver.get_server(folder / "data", cleanup_mode="delete")
        passwords = {role: secrets.token_urlsafe(24) for role in ("edco", "prefect", "postgres")}
        psql = [
            str(Path(pgserver.__file__).parent / "pginstall" / "bin" / "psql"),
            "--quiet", "--no-psqlrc", f"--dbname={server.get_uri()}",
        ]  # fmt: skip
        environment = {
            **os.environ,
            **{f"{r.upper()}_DB_PASSWORD": p for r, p in passwords.items()},
        }
        subprocess.run([*psql, f"--file={_DATABASES_SQL}"], env=environment, check=True)
        close = (
            r"\getenv password POSTGRES_DB_PASSWORD"
            "\nALTER ROLE postgres PASSWORD :'password';\nSELECT pg_reload_conf();\n"
        )
        (server.pgdata / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        subprocess.run(
            psql, input=close, text=True, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        host = str(server.get_postmaster_info().socket_dir)
        yield Postgres(host, passwords)
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Program:
    """A process in the background and the file with all that it says."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """Raise EdcoError with its last words when it has ended."""
        if (code := self.process.poll()) is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise EdcoError(f"the {self.name} ended with {code}:\n{last}\n(all of it: {self.log})")


@contextmanager
def program(name: str, *words: str, environment: dict[str, str], logs: Path) -> Iterator[Program]:
    """Run ``python -m WORDS`` during this block; nothing it started outlives it."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name.replace(' ', '-')}.log"
    process = None
    try:
        with log.open("wb") as file, signals_later():
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we end them in order
            )
        yield Program(name, process, log)
    finally:
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop, and end it with all its descendants when it does not."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    # And what an earlier end had left without a parent.
    alive = list(
        {*alive, *(each for each in psutil.process_iter() if _session(each) == process.pid)}
    )
    for each in alive:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(alive, timeout=5)


def _session(process: psutil.Process) -> int | None:
    """The process that began the session of this one; None when it is gone."""
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def free_port() -> int:
    """A port on the loopback that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def prefect_server(
    home: Path, logs: Path, *, database_url: str | None = None
) -> Iterator[tuple[Program, str]]:
    """A Prefect server with its UI on a free loopback port, and the address of that.

    ``home`` keeps a person's own profile out of it. Without ``database_url`` it is SQLite there.
    """
    port = free_port()
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_API_URL": "/api",  # else the page looks for it at port 4200
    }
    environment.pop("PREFECT_API_URL", None)
    if database_url is not None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database_url
    words = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with program("Prefect server", *words, environment=environment, logs=logs) as server:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/api/health", server)
        yield server, url


def _wait_for(url: str, server: Program) -> None:
    began = time.perf_counter()
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.perf_counter() - began < _PATIENCE_S:
            server.check_alive()
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
    raise EdcoError(f"the {server.name} does not answer at {url}; see {server.log}")


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything up: what a client of it needs."""

    url: str
    """Of the Prefect server and its UI."""
    environment: dict[str, str]
    """For everything that is to use it; what docker-compose.yml gives to its worker."""
    programs: tuple[Program, ...]

    def check_alive(self) -> None:
        for each in self.programs:
            each.check_alive()


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Postgres, a Prefect server on it and a process worker, for this block."""
    logs = folder / "logs"
    with ExitStack() as up:
        database = up.enter_context(postgres())
        say("Postgres is up: databases edco and prefect")
        database_url = database.url("asyncpg", "prefect", password=True)
        server, url = up.enter_context(
            prefect_server(folder / "prefect", logs, database_url=database_url)
        )
        say(f"Prefect server is up: {url}")
        environment = {
            **os.environ,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": f"{url}/api",
            "EDCO_STORE": database.url("psycopg", "edco"),
            "PGPASSWORD": database.passwords["edco"],
            "DO_NOT_TRACK": "1",
        }
        worker = up.enter_context(
            program(
                "worker", "prefect", "worker", "start", "--pool", POOL, "--type", "process",
                "--name", "edco-stack", environment=environment, logs=logs,
            )
        )  # fmt: skip
        yield Stack(url, environment, (server, worker))


def run_through_api(running: Stack) -> dict[str, Any]:
    """Start the only deployment of ``finetune`` and wait for its end, telling of every task."""
    from prefect.client.base import PrefectHttpxSyncClient  # it asks again where it is told to

    with PrefectHttpxSyncClient(
        base_url=f"{running.url}/api", trust_env=False, timeout=30
    ) as client:

        def ask(path: str, body: dict[str, Any] | None = None) -> Any:
            return (client.get(path) if body is None else client.post(path, json=body)).json()

        flows = {"flows": {"name": {"any_": ["finetune"]}}}
        (deployment,) = ask("/deployments/filter", flows)
        run = ask(f"/deployments/{deployment['id']}/create_flow_run", {"state": None})
        say(f"run {run['name']} of deployment {deployment['name']}: {running.url}/runs/flow-run/"
            f"{run['id']}")  # fmt: skip
        told: set[str] = set()
        of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        said = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"}
        while True:
            running.check_alive()
            run = ask(f"/flow_runs/{run['id']}")
            for line in ask("/logs/filter", said):
                if line["id"] not in told and line["name"].startswith("flows."):
                    told.add(line["id"])
                    say(f"  {line['message']}")
            for task in ask("/task_runs/filter", of_run):
                if task["id"] not in told and task["state_type"] in _ENDED:
                    told.add(task["id"])
                    seconds = f"{task['total_run_time']:.1f} s"
                    say(f"  {task['name']:<28} {task['state_name'].lower()}, {seconds}")
            if run["state_type"] in _ENDED:
                say(f"run {run['name']}: {run['state_name']}")
                return dict(run)
            time.sleep(1)


def run_deployed(running: Stack, config: Path) -> None:
    """Deploy a configuration, run it, and ask the ledger what became of it."""

    def edco(*words: str) -> None:
        command = [sys.executable, "-m", "flows.cli", *words]
        code = subprocess.run(command, env=running.environment, check=False).returncode
        if code:
            raise EdcoError(f"edco {words[0]} ended with {code}; what it said stands above")

    edco("deploy", str(config), "--work-pool", POOL)
    run = run_through_api(running)
    if run["state_type"] != "COMPLETED":
        worker = running.programs[-1].log
        raise EdcoError(f"the run ended as {run['state_name']}; see {worker}")
    edco("runs")
    edco(
        "query",
        "SELECT run_id, interval, n_scored, n_selected, n_returned, metric "
        "FROM interval_summary ORDER BY run_id, interval",
    )


def _write_environment(running: Stack, folder: Path) -> Path:
    """What a shell needs to talk to the stack; only its owner can read it, for the password."""
    path = folder / "environment"
    path.touch(mode=0o600)
    names = ("PREFECT_HOME", "PREFECT_API_URL", "EDCO_STORE", "PGPASSWORD")
    path.write_text(
        "".join(f"export {name}={shlex.quote(running.environment[name])}\n" for name in names)
    )
    return path


def _leave(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(
    folder: Annotated[Path, typer.Option("--dir", help="Demo data, runs and logs.")] = Path(
        "edco-stack"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Stay up until Ctrl-C.")] = False,
) -> None:
    """Postgres, Prefect server and worker on this machine; the demo, run through them."""
    folder = folder.resolve()
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell's background job has SIGINT ignored
        signal.signal(each, _leave)
    try:
        with stack(folder) as running:
            run_deployed(running, write_demo_config(folder, seed=0))
            if keep:
                path = _write_environment(running, folder)
                say(f"everything stays up until Ctrl-C: {running.url}")
                say(f"to use it from another shell: source {shlex.quote(str(path))}")
                try:
                    while True:
                        running.check_alive()
                        time.sleep(1)
                finally:
                    path.unlink()
        say("everything is down again; to keep it up after the run: make stack KEEP=1")
    except KeyboardInterrupt:
        say("stopped; everything is down again")
        raise typer.Exit(1) from None
    except EdcoError as error:
        say(f"error: {error}")
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(main)
