"""Runs of a comparison in processes of their own, several at once.

``python -m flows.compare_child RUN_ID`` carries one out: its configuration comes as JSON on
standard input, the ledger's address in ``EDCO_STORE``, and it stops at a safe point when its parent
is gone.  To Prefect it is a sub-flow of the comparison's flow run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import IO
from uuid import UUID

from flows import quiet_libraries
from flows.compare_plan import PlannedRun
from flows.display import say
from flows.signals import signals_later
from flows.slots import devices

_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class _Child:
    run: PlannedRun
    process: subprocess.Popen[str]
    listener: threading.Thread
    said: list[str]
    device: str | None

    def problem(self) -> str | None:
        """What went wrong, by its own last words."""
        self.listener.join()
        if self.process.returncode == 0:
            return None
        errors = [line for line in self.said if line.startswith("error: ")]
        last = (errors or self.said or [f"ended with {self.process.returncode}"])[-1]
        return last.removeprefix("error: ")


class Children:
    """At most so many child processes at once; none outlives this block."""

    def __init__(self, parallel: int, store_url: str) -> None:
        self._free: list[str | None] = [None] * parallel
        if gpus := devices():
            self._free = [gpus[i % len(gpus)] for i in range(parallel)]
        self._environment = {**os.environ, "EDCO_STORE": store_url}
        if not gpus:  # or each would take all cores
            threads = max(1, (os.cpu_count() or 1) // parallel)
            self._environment.setdefault("OMP_NUM_THREADS", str(threads))
        self._running: list[_Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in self._running:
            child.process.send_signal(signal.SIGTERM)
        for child in self._running:
            child.process.wait()  # at its next safe point
            child.listener.join()

    def carry_out(
        self, runs: Sequence[PlannedRun], known: Mapping[str, str]
    ) -> Iterator[tuple[PlannedRun, str | None]]:
        """Each run as it ends, and what went wrong with it, in words."""
        waiting = list(runs)
        while waiting or self._running:
            while waiting and self._free:
                run = waiting.pop(0)
                with signals_later():
                    self._running.append(self._start(run, is_known=run.run_id in known))
            time.sleep(_LOOK_EVERY_S)
            for child in [each for each in self._running if each.process.poll() is not None]:
                self._running.remove(child)
                self._free.append(child.device)
                yield child.run, child.problem()

    def _start(self, run: PlannedRun, *, is_known: bool) -> _Child:
        from prefect.context import FlowRunContext
        from prefect.settings import get_current_settings

        device = self._free.pop(0)
        environment = dict(self._environment)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        if (api := get_current_settings().api.url) is not None:
            environment["PREFECT_API_URL"] = api  # also a server of this command's own
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.compare_child", run.run_id],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: we stop them in order
        )
        assert process.stdin is not None
        assert process.stderr is not None
        config = None if is_known else run.config.model_dump(mode="json")
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        told = {"config": config, "parent": os.getpid(), "flow_run": str(context.flow_run.id)}
        process.stdin.write(json.dumps(told))
        process.stdin.close()
        said: list[str] = []
        name = f"{run.label} s{run.seed}"
        listener = threading.Thread(target=_listen, args=(process.stderr, name, said), daemon=True)
        listener.start()
        return _Child(run, process, listener, said, device)


def _listen(stream: IO[str], name: str, said: list[str]) -> None:
    for line in stream:
        said.append(line.rstrip())
        say(f"[{name}] {line.rstrip()}")


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _within(flow_run_id: str) -> Iterator[None]:
    """What is called as a flow in this block is a sub-flow of that flow run."""
    from prefect.client.orchestration import get_client
    from prefect.context import hydrated_context
    from prefect.results import get_result_store

    from flows.compare import compare

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(flow_run_id))
        parent = {"flow": compare, "flow_run": flow_run, "result_store": get_result_store()}
        with hydrated_context({"flow_run_context": parent}, client):
            yield


def main() -> None:
    """Carry one run out, or on; exits as ``edco run`` does."""
    from edco_core.config import parse_config
    from edco_core.errors import EdcoError
    from flows.launch import resume_run, start_run

    quiet_libraries()
    told = json.load(sys.stdin)
    threading.Thread(target=_leave_with, args=(told["parent"],), daemon=True).start()
    store_url, run_id = os.environ["EDCO_STORE"], sys.argv[1]
    try:
        with _within(told["flow_run"]):
            if told["config"] is None:
                resume_run(run_id, store_url)
            else:
                start_run(parse_config(told["config"]), store_url, run_id)
    except EdcoError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
