"""Removing checkpoints that ``run.keep_checkpoints`` lets go, and saying so in the ledger.

The ledger is told first: a process killed in between leaves files that count as removed, and the
next one that looks removes them.  Rows and hashes stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edco_core.checkpoints import drop_optimizer_state
from edco_core.config import KeepCheckpoints
from edco_core.records import Lease
from edco_core.retention import is_ours, removable, remove
from storage import Ledger, queries


@dataclass(frozen=True, slots=True)
class RemovedCheckpoint:
    """What went: the weights that ``interval`` started from."""

    run_id: str
    interval: int
    path: str
    num_bytes: int


def apply_retention(
    ledger: Ledger,
    run_id: str,
    keep: KeepCheckpoints,
    run_dir: Path,
    lease: Lease | None = None,
) -> list[RemovedCheckpoint]:
    """Remove what may go of a run's checkpoints, as its owner, or where nobody owns it.

    Optimizer states are needed only of the newest, to go on behind it, whatever ``keep`` says.

    Files on another machine are left alone, in the ledger too. Raises LeaseLostError and, without
    a lease, RunBusyError.
    """
    rows = queries.checkpoints(ledger, run_id)
    for row in rows[:-1]:  # also what a killed process left: it may be several times the model
        drop_optimizer_state(Path(row["path"]), run_id)
    if keep == "all":
        return []
    best = queries.best_checkpoint(rows)
    starts = {str(run["model"]) for run in queries.runs(ledger)}
    going = removable(
        [row["interval"] for row in rows if row["removed_at"] is None],
        keep,
        best=None if best is None else best["interval"],
        in_use=[row["interval"] for row in rows if row["path"] in starts],
    )
    removed = []
    for row in rows:
        folder = Path(row["path"])
        if row["interval"] in going and is_ours(folder, run_id, run_dir):
            ledger.mark_checkpoint_removed(run_id, row["interval"], lease)
        elif row["removed_at"] is None:
            continue
        if num_bytes := remove(folder, run_dir):
            removed.append(RemovedCheckpoint(run_id, row["interval"], row["path"], num_bytes))
    return removed
