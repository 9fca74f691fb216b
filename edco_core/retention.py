"""Which checkpoints of a run may be removed from the disk, and removing them.

Never removed: the start, the newest (the next interval, or ``final/``, is made from it), the best
by the run's metric, and one that another run starts from.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edco_core.checkpoints import MARKER, read_facts

if TYPE_CHECKING:
    from edco_core.config import KeepCheckpoints


def removable(
    intervals: Collection[int], keep: KeepCheckpoints, *, best: int | None, in_use: Collection[int]
) -> list[int]:
    """Of the checkpoints of these intervals, those that ``keep`` lets go, ascending.

    ``best`` is the one with the best metric, ``in_use`` those that other runs start from.
    """
    if keep == "all" or not intervals:
        return []
    num_newest = 1 if keep == "best" else keep
    kept = {0, *in_use, *sorted(intervals)[-num_newest:]} | ({best} if best is not None else set())
    return sorted(set(intervals) - kept)


def is_ours(folder: Path, run_id: str, run_dir: Path) -> bool:
    """Whether this is a complete checkpoint that the run saved itself, below its own folder."""
    facts = read_facts(folder)
    return facts is not None and facts.run_id == run_id and _is_below(folder, run_dir)


def remove(folder: Path, run_dir: Path) -> int:
    """Remove a checkpoint, or what a killed removal left of it; the bytes that this gave back.

    A second process that removes the same one is no error.  Nothing is done outside the run's own
    folder, or when there is nothing.  What cannot be removed is left for another time.
    """
    if not _is_below(folder, run_dir) or not folder.is_dir():
        return 0
    before = num_bytes(folder)
    (folder / MARKER).unlink(missing_ok=True)  # first: half a checkpoint must not look like one
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # there is something else in it
        folder.parent.rmdir()
    return before - num_bytes(folder)


def num_bytes(folder: Path) -> int:
    """The size of all files in a folder; 0 for one that is not there."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # removed by somebody else meanwhile
            total += file.stat().st_size if file.is_file() else 0
    return total


def _is_below(folder: Path, run_dir: Path) -> bool:
    return folder.parent.parent == run_dir / "checkpoints"
