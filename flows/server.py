"""A Prefect server of our own for one command, when none is configured.

Prefect starts one by itself too, but that one outlives a killed parent for ever.  This one looks
for its parent every second and goes when it is gone, and it starts while models are still loading.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from edco_core.errors import EdcoError, InputError
from storage import masked

HEARTBEAT_S = 30
"""A flow run shows a sign of life that often; Prefect allows no less."""

QUIET = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}
"""No telemetry, and no tracebacks on the console: errors are reported once, by the command."""

STARTUP_TIMEOUT_S = 120.0


def quiet_prefect() -> None:
    """Set the environment before Prefect is imported; the user's own values stay.

    Raises InputError for a PREFECT_API_URL that is no address: importing Prefect would fail, or
    each request to it. An empty one is none, as people unset a variable that way.
    """
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    if not (url := os.environ.get("PREFECT_API_URL", "").strip()):
        os.environ.pop("PREFECT_API_URL", None)
        return
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address = is_address and (parts.port or 1) > 0 and not re.search(r"\s", url)
    except ValueError:
        is_address = False
    if not is_address:
        raise InputError(
            f"PREFECT_API_URL: {masked(url)} is no address of a server. Type 'export "
            "PREFECT_API_URL=http://127.0.0.1:4200/api', or 'unset PREFECT_API_URL'."
        )


@contextmanager
def prefect_api(*, offline: bool = False) -> Iterator[PendingServer | None]:
    """Make sure there is a Prefect API: the configured one, or a local one for this block.

    ``offline``: a local one although another is configured.  A local one starts in the background;
    ``ready()`` waits for it.  None: one is configured.
    """
    quiet_prefect()
    if not offline and (url := _configured_api_url()) is not None:
        _check_answers(url, ", or run with a local one: --offline")
        yield None
        return
    server = PendingServer()
    try:
        yield server
    finally:
        server.stop()


class PendingServer:
    """A local server that may still be starting."""

    def __init__(self) -> None:
        self.started_at = time.perf_counter()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.server", str(self.port), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **QUIET, "PREFECT_UI_ENABLED": "0"},
            start_new_session=True,  # Ctrl-C is for us; the server must see the run's last states
        )

    @contextmanager
    def ready(self) -> Iterator[float]:
        """Wait until it answers, point Prefect to it, and give the seconds it took."""
        import fastapi.encoders  # noqa: F401  (a flow's start needs it; here it costs no time)
        import httpx
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with httpx.Client(trust_env=False) as client:
            while True:
                try:
                    if client.get(f"{self.url}/health", timeout=5).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                waited = time.perf_counter() - self.started_at
                if self._process.poll() is not None or waited > STARTUP_TIMEOUT_S:
                    raise EdcoError(
                        f"the local Prefect server did not start within {waited:.0f} s. Type "
                        "'prefect server start' to see why, or set PREFECT_API_URL to a server."
                    )
                time.sleep(0.1)
        with temporary_settings(updates={PREFECT_API_URL: self.url}):
            try:
                yield time.perf_counter() - self.started_at
            finally:
                # Prefect sends these from the background, and would find the server gone.
                APILogWorker.drain_all(timeout=5)
                EventsWorker.drain_all(timeout=5)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def configured_server() -> str:
    """The address of the user's Prefect server; raises InputError where there is none."""
    quiet_prefect()
    if (url := _configured_api_url()) is None:
        raise InputError(
            "no Prefect server is configured. Start one with 'prefect server start', and type "
            "'export PREFECT_API_URL=http://127.0.0.1:4200/api'."
        )
    _check_answers(url)
    return url


def _configured_api_url() -> str | None:
    """From the environment or the user's Prefect profile."""
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _check_answers(url: str, otherwise: str = "") -> None:
    import httpx

    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EdcoError(
            f"the configured Prefect server {masked(url)} does not answer "
            f"({type(error).__name__}). Start it with 'prefect server start'{otherwise}."
        ) from error


def _serve(port: int, parent: int) -> None:
    import uvicorn

    def leave_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
