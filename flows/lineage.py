"""Starting from another run of the ledger: ``model.name_or_path: run:RUN_ID``.

``run:RUN_ID`` is the last checkpoint, ``run:RUN_ID@best`` the one with the best metric.  Both stand
for a folder below the other run's, which is made once (edco_core/merging.py) and shared by all runs
that start from it; from then on it is a model folder like any other.  Whose it is goes into the
run's plan, and from there into the view ``run_summary``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edco_core.config import Config, ModelSection
from edco_core.errors import ConfigError, ModelError, NotFoundError
from edco_core.records import Checkpoint
from flows.display import say
from storage import Ledger, db_current, open_ledger, queries
from storage.engine import Database

_PREFIX = "run:"
_FOLDER = "merged"

Which = Literal["last", "best"]


@dataclass(frozen=True, slots=True)
class Parent:
    """What another run starts from."""

    run_id: str
    checkpoint: Checkpoint
    base: ModelSection
    """The base model of that run."""
    base_fingerprint: str
    """What it was when that run began."""
    folder: Path
    """Where the checkpoint is a model of its own, or will be."""

    @property
    def facts(self) -> dict[str, Any]:
        """As they stand in the plan of a run that starts here."""
        return {
            "parent_run_id": self.run_id,
            "parent_interval": self.checkpoint.interval,
            "parent_weights_sha256": self.checkpoint.weights_sha256,
        }

    def make(self) -> None:
        """Make the folder, unless it is there; loads torch.  Raises TrainingError, ModelError."""
        from edco_core.base_model import base_fingerprint
        from edco_core.merging import merge

        if not self.folder.is_dir():
            if base_fingerprint(self.base) != self.base_fingerprint:
                raise ModelError(
                    f"model.name_or_path: the base model '{self.base.name_or_path}' of run "
                    f"{self.run_id} is not what that run began with, and its adapter would go onto "
                    "other weights. Restore its files, or start from another model."
                )
            say(f"making a model of the checkpoint {self.checkpoint.checkpoint_id} of run "
                f"{self.run_id}: {self.folder}")  # fmt: skip
        merge(self.checkpoint, self.base, self.folder, self.facts)


def with_parent(config: Config, store_url: str) -> tuple[Config, Parent | None]:
    """The configuration with the folder that ``run:…`` stands for in this ledger; makes nothing.

    Raises ConfigError and NotFoundError where there is no such run or no such checkpoint.
    """
    name = config.model.name_or_path
    if not name.startswith(_PREFIX):
        return config, None
    run, _, which = name.removeprefix(_PREFIX).partition("@")
    if which not in ("", "last", "best"):
        raise ConfigError(
            f"model.name_or_path: '{name}': '@{which}' came after the run. Allowed: @last, @best, "
            "or nothing, which is @last."
        )
    parent = _find(store_url, run, "best" if which == "best" else "last")
    model = config.model.model_copy(update={"name_or_path": str(parent.folder), "revision": None})
    return config.model_copy(update={"model": model}), parent


def _find(store_url: str, prefix: str, which: Which) -> Parent:
    database = Database(store_url, read_only=True)
    if not database.exists() or db_current(store_url) is None:
        raise NotFoundError(
            f"model.name_or_path: run:{prefix} is looked up in {database.address}, and there is no "
            "ledger yet. Give the ledger of that run as store.url (or EDCO_STORE)."
        )
    ledger = open_ledger(store_url, read_only=True, on_wait=say)
    try:
        run_id = ledger.find_run(prefix)
    except NotFoundError as error:
        raise NotFoundError(f"model.name_or_path: run:{prefix}: {error}") from error
    state = ledger.run_state(run_id)
    rows = [row for row in queries.checkpoints(ledger, run_id) if row["interval"] > 0]
    row = queries.best_checkpoint(rows) if which == "best" else rows[-1] if rows else None
    if row is None:
        lacking = "has trained no interval yet"
        if rows:
            lacking = "has measured nothing, so none of its checkpoints is the best"
        raise NotFoundError(
            f"model.name_or_path: run:{prefix}@{which}: run {run_id} {lacking}. "
            f"See its intervals: edco show {run_id}"
        )
    checkpoint = Checkpoint(row["interval"], row["step"], row["path"], row["weights_sha256"])
    base = ModelSection.model_validate(state.config["model"])
    folder = Path(state.run_dir) / _FOLDER / checkpoint.checkpoint_id
    if not folder.is_dir() and (row["removed_at"] or not Path(checkpoint.path).is_dir()):
        raise NotFoundError(
            f"model.name_or_path: run:{prefix}@{which}: the checkpoint {checkpoint.path} is gone"
            f"{' (run.keep_checkpoints let it go)' if row['removed_at'] else ' from this machine'}."
            " Start from another one, or from that run's folder 'final'."
        )
    return Parent(run_id, checkpoint, base, state.plan["base_model"], folder)


def children(ledger: Ledger, folder: Path) -> list[str]:
    """Runs whose base model lies in this run's folder: their adapters load with it alone."""
    return [
        str(run["run_id"])
        for run in queries.runs(ledger)
        if Path(str(run["model"])).is_relative_to(folder)
    ]
