"""How long ``edco --help`` takes: against ``import typer``, the least a Typer program can take.

Help and the reading commands load neither torch nor Prefect; this is what that is worth.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import Aim, Figure, Report


def measure(*, quick: bool) -> Report:
    """Both in turns, after two rounds that fill the file cache."""
    help_command = [str(Path(sys.executable).with_name("edco")), "--help"]
    bare = [sys.executable, "-c", "import typer"]
    empty = [sys.executable, "-c", "pass"]
    rounds = [
        (_seconds(help_command), _seconds(bare), _seconds(empty))
        for _ in range(2 + (10 if quick else 30))
    ][2:]
    ours, typers, interpreters = (list(column) for column in zip(*rounds, strict=True))
    return Report(
        [
            Figure("edco --help", ours, typers, 'python -c "import typer"', aim=Aim("≤", 3)),
            Figure("the interpreter alone", interpreters, typers, 'python -c "import typer"'),
        ]
    )


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
