"""How long ``edco --help`` takes: against ``import typer``, the least a Typer program can take.

Help and the reading commands load neither torch nor Prefect; this is what that is worth.  Processor
time is shown besides wall time, since other programs on the machine disturb it much less.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import Aim, Figure, Report

NUM_WARM_UPS = 2
"""Rounds that only fill the file cache."""


def measure(*, quick: bool) -> Report:
    """All commands in turns."""
    commands = [
        [str(Path(sys.executable).with_name("edco")), "--help"],
        [sys.executable, "-c", "import typer"],
        [sys.executable, "-c", "pass"],
    ]
    num_rounds = NUM_WARM_UPS + (10 if quick else 30)
    rounds = [[_seconds(command) for command in commands] for _ in range(num_rounds)]
    walls, processors = (
        [
            [seconds[kind] for seconds in column]
            for column in zip(*rounds[NUM_WARM_UPS:], strict=True)
        ]
        for kind in (0, 1)
    )
    typer = 'python -c "import typer"'
    return Report(
        [
            Figure("edco --help", walls[0], walls[1], typer, aim=Aim("≤", 3)),
            Figure("edco --help, processor time", processors[0], processors[1], typer),
            Figure("Python alone, processor time", processors[2], processors[1], typer),
        ]
    )


def _seconds(command: list[str]) -> tuple[float, float]:
    """Wall time and processor time of a process."""
    used_before = _children_s()
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, _children_s() - used_before


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
