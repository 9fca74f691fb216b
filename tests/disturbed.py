"""Runs ``edco`` and lets something happen to it at exact points.

    python tests/disturbed.py POINT NTH DEED [POINT NTH DEED ...] -- COMMAND ...

A point is the NTH call of one function; see ``POINTS`` and ``DEEDS``; any other deed is a command
line for the shell.  Used by test_ledger_faults.py.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from typing import Any

POINTS = {
    "entered": ("flows.opening", "_write_config"),  # the run is in the ledger, and little else
    "logits": ("edco_core.scoring.token_entropy", "entropy_from_logits"),
    "shard": ("storage", "Ledger.add_scores"),
    "stage-row": ("storage", "Ledger._finish"),  # in the transaction, after all other rows
    "training": ("trl", "SFTTrainer.training_step"),
    "saving": ("trl", "SFTTrainer._save_checkpoint"),
}
"""Name: the module and the function before whose NTH call it happens."""


def fill_with_nan(logits: Any) -> None:
    """What a broken matrix product leaves."""
    logits.fill_(float("nan"))


def fill_the_disk(*_: Any) -> None:
    """No file can grow from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def ask_to_stop(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


DEEDS: dict[str, Callable[..., None]] = {
    "nan": fill_with_nan,
    "full-disk": fill_the_disk,
    "sigterm": ask_to_stop,
}


def shell(line: str) -> Callable[..., None]:
    return lambda *_: subprocess.run(line, shell=True, check=True, stdout=subprocess.DEVNULL)  # type: ignore[func-returns-value]


def do_before(module: str, path: str, deeds: dict[int, Callable[..., None]]) -> None:
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in deeds:
            deeds[calls](*args)
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)


if __name__ == "__main__":
    end = sys.argv.index("--")
    planned: dict[str, dict[int, Callable[..., None]]] = defaultdict(dict)
    for point, nth, deed in zip(*(sys.argv[i:end:3] for i in (1, 2, 3)), strict=True):
        planned[point][int(nth)] = DEEDS.get(deed) or shell(deed)
    for point, deeds in planned.items():
        do_before(*POINTS[point], deeds)
    sys.argv = ["edco", *sys.argv[end + 1 :]]
    from flows.cli import main

    main()
