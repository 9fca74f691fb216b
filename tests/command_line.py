"""``edco`` as a person uses it, for tests: a process of its own in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

_PATIENCE_S = 480.0
"""For a busy machine: what is there is not waited for."""


def wait(look: Callable[[], Any], describe: Callable[[], Any] = lambda: "") -> Any:
    """What ``look`` finds, as soon as it finds something; ``describe`` tells what was seen."""
    end = time.monotonic() + _PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < end, describe()
        time.sleep(0.05)
    return found


def ask_prefect(url: str, body: dict[str, Any] | None = None) -> Any:
    """What Prefect's server says to a POST, or without a body to a GET.

    Through Prefect's client, which tries again while the server's database is locked.
    """
    from prefect.client.base import PrefectHttpxSyncClient

    with PrefectHttpxSyncClient(trust_env=False, timeout=60) as client:
        answer = client.get(url) if body is None else client.post(url, json=body)
        return answer.json() if answer.content else None


@dataclass(frozen=True)
class Edco:
    folder: Path
    environment: dict[str, str]

    def start(self, *words: str, program: Sequence[str] = ("-m", "flows.cli")) -> Popen[str]:
        return Popen(
            [sys.executable, *program, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, expect: int = 0, **options: Any) -> CompletedProcess[str]:
        process = self.start(*words, **options)
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == expect, stderr
        return CompletedProcess(process.args, process.returncode, stdout, stderr)

    def start_and_wait_for(self, beginning: str, *words: str) -> Popen[str]:
        """A process that goes on, once it has printed a line with this beginning for people."""
        process = self.start(*words)
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(beginning):
                return process
        raise AssertionError(f"no line began with {beginning!r}:\n{''.join(said)}")

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json").stdout)
