"""Runs ``edco`` and kills its own process with SIGKILL at one exact point.

    python tests/killed.py POINT NTH COMMAND ...

The point is the NTH call of one function; see ``POINTS``.  Used by test_resume.py.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

POINTS = {
    "checkpoint": ("storage", "Ledger.finish_checkpoint"),
    "scoring": ("storage", "Ledger.add_scores"),
    "scoring-row": ("storage", "Ledger.finish_scoring"),
    "selection": ("storage", "Ledger.finish_selection"),
    "training": ("trl", "SFTTrainer.training_step"),
    "sampling": ("trl", "GRPOTrainer.training_step"),
    "saving": ("edco_core.training.interval", "mark_complete"),
    "training-row": ("storage", "Ledger.finish_training"),
    "removing": ("flows.retention", "remove"),
    "finish": ("flows.stages", "write_final_model"),
}
"""Name: the module and the function before whose NTH call the process dies."""


def die_before(module: str, path: str, nth: int) -> None:
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)


if __name__ == "__main__":
    point, nth, *command = sys.argv[1:]
    die_before(*POINTS[point], int(nth))
    sys.argv = ["edco", *command]
    from flows.cli import main

    main()
