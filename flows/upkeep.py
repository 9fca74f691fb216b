"""The upkeep commands: what they ask, refuse and tell, over the verbs of the ledger."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import typer

from edco_core.errors import EdcoError, InputError, LedgerBusyError, NotFoundError, RunBusyError
from flows.display import progress, say
from flows.launch import command
from flows.lineage import children
from flows.owner import is_dead_on_this_machine
from flows.retention import apply_retention
from storage import Removal, db_copy, db_vacuum, masked, open_ledger, queries

_KINDS = {
    "scores": "scores",
    "score_shards": "shards of scores of an interval not scored to its end",
    "selections": "selected samples",
    "step_slots": "slots of optimizer steps",
}


def remove_run(prefix: str, store_url: str, *, yes: bool, files: bool) -> None:
    """Take a run out of the ledger, and with ``files`` its folder as well, when that is wanted."""
    reading = open_ledger(store_url, read_only=True, on_wait=say)
    run_id = reading.find_run(prefix)
    removal = reading.removal(run_id, is_dead_on_this_machine)
    folder = _own_folder(removal) if files else None
    if folder is not None and (needing := children(reading, folder)):
        raise InputError(
            f"--files: runs start from a model in {folder} and cannot be loaded without it: "
            f"{', '.join(needing)}. Remove these first, or leave --files out."
        )
    if not yes:
        _ask(removal, folder, store_url)
    removal = open_ledger(store_url, on_wait=say).remove_run(run_id, is_dead_on_this_machine)
    print(f"removed run {run_id}: {removal.num_rows} rows")
    if folder is not None:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise EdcoError(
                f"run {run_id} is no longer in the ledger, but its folder {folder} could not be "
                f"removed ({error}); remove it by hand"
            ) from error
        print(f"removed {folder}")
    elif Path(removal.run_dir).exists():
        say(f"kept: its files in {removal.run_dir}; a new run of that id needs another folder")
    say(f"to give its space back: {command('db vacuum', '', store_url)}")


def vacuum(store_url: str) -> None:
    """Give back the space nothing uses any more, and tell how much that was."""
    with progress("vacuum") as update:
        before, after = db_vacuum(store_url, on_progress=update, on_wait=say)
    print(f"{masked(store_url)}: {before} bytes before, {after} bytes after")


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that maintenance did, or left alone and why."""

    step: str
    run_id: str | None
    done: str
    num_bytes: int = 0
    """Given back on disk."""


def sweep_leases(store_url: str) -> list[Deed]:
    """Mark runs as interrupted that say they are running while their process is gone."""
    lost = open_ledger(store_url, on_wait=say).interrupt_lost(is_dead_on_this_machine)
    return [
        Deed("leases", run.run_id, f"interrupted; its process is gone ({run.owner})")
        for run in lost
    ]


def remove_checkpoints(store_url: str) -> list[Deed]:
    """Remove what ``run.keep_checkpoints`` lets go of runs that nobody works on."""
    ledger = open_ledger(store_url, on_wait=say)
    with ledger.snapshot():
        states = [ledger.run_state(run["run_id"]) for run in queries.runs(ledger)]
    deeds = []
    with progress("checkpoints") as on_progress:
        for done, state in enumerate(states, 1):
            keep = state.config.get("run", {}).get("keep_checkpoints", "all")
            try:
                removed = apply_retention(ledger, state.run_id, keep, Path(state.run_dir))
            except (RunBusyError, NotFoundError):  # its owner does this itself; or removed
                removed = []
            deeds += [
                Deed("checkpoints", each.run_id, f"removed {each.path}", each.num_bytes)
                for each in removed
            ]
            on_progress(done, len(states))
    return deeds


def vacuum_when_idle(store_url: str) -> list[Deed]:
    """Give back the ledger's unused space, unless somebody works on a run of it."""
    runs = queries.runs(open_ledger(store_url, read_only=True, on_wait=say))
    for run in runs:
        if run["alive"]:
            return [Deed("vacuum", run["run_id"], "left alone: this run is being worked on")]
    try:
        with progress("vacuum") as update:
            before, after = db_vacuum(store_url, on_progress=update, on_wait=say)
    except LedgerBusyError as error:
        return [Deed("vacuum", None, f"left alone: {error}")]
    return [Deed("vacuum", None, f"{after} bytes now", max(0, before - after))]


def maintain(store_url: str) -> list[Deed]:
    """All that a ledger and the folders of its runs need now and then; again changes nothing."""
    open_ledger(store_url, read_only=True, on_wait=say)  # an address mistyped is no new ledger
    steps = (sweep_leases, remove_checkpoints, vacuum_when_idle)
    return [deed for step in steps for deed in step(store_url)]


def copy(source_url: str, target_url: str) -> None:
    """Copy a ledger to an empty place; it counts once both agree."""
    copied = db_copy(
        source_url, target_url, progress=progress, is_dead=is_dead_on_this_machine, on_wait=say
    )
    print(
        f"copied {masked(source_url)} to {masked(target_url)}: {copied.num_runs} runs, "
        f"{copied.num_rows} rows in {len(copied.rows)} tables; counts and checksums agree"
    )


def _own_folder(removal: Removal) -> Path:
    """The folder with the run's files, which must be here and be its own."""
    folder = Path(removal.run_dir)
    if folder.name == removal.run_id and (folder / "config.yaml").is_file():
        return folder
    raise InputError(
        f"--files: {folder} is not here, or not the folder of run {removal.run_id}; nothing was "
        "removed. Leave --files out, and remove its files by hand where they are"
    )


def _ask(removal: Removal, folder: Path | None, store_url: str) -> None:
    """Tell what goes, and go on only after a yes."""
    lines = [
        f"run {removal.run_id} ({removal.status}) with {removal.num_intervals} intervals: "
        f"{removal.num_rows} rows"
    ]
    lines += [f"  {removal.rows[name]} {what}" for name, what in _KINDS.items()
              if name in removal.rows]  # fmt: skip
    lines += [f"  data set {each}, which no other run uses" for each in removal.dataset_ids]
    lines += [f"  kept: data set {each}, of other runs too" for each in removal.kept_dataset_ids]
    lines.append(f"  {'all files in' if folder else 'kept: the files in'} {removal.run_dir}")
    if not sys.stdin.isatty():
        words = f"{removal.run_id} --yes" + (" --files" if folder else "")
        raise InputError(
            "\n".join([f"this would remove {lines[0]}", *lines[1:]])
            + "\nThere is no terminal to ask at, so nothing was removed. To remove it: "
            + command("runs rm", words, store_url)
        )
    for line in lines:
        say(line)
    print("remove all this for good? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        say("nothing was removed")
        raise typer.Exit(1)
