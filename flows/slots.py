"""Slots: at most one deployed fine-tune per device of this machine, whichever runner started it.

A slot is a file lock, which the system gives back when its process dies, however it dies.  With
Prefect's own concurrency limits a server that is killed forgets who holds them, and they stay taken
for ever.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOOK_EVERY_S = 1.0
_GPUS = Path("/proc/driver/nvidia/gpus")


def devices() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may name here; nothing on a machine without GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(index) for index in range(len(list(_GPUS.iterdir())))] if _GPUS.is_dir() else []


@contextmanager
def slot(
    who: str, *, on_wait: Callable[[str], None], check_stop: Callable[[], None]
) -> Iterator[str]:
    """Hold a free device for this block, and let torch see no other; wait while there is none.

    ``on_wait`` hears once who holds them; ``check_stop`` is called every second and may raise.
    """
    folder = Path(tempfile.gettempdir()) / "edco-slots"
    folder.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # another user's, who has done so
        folder.chmod(0o1777)
    gpus = devices()
    told = False
    while (taken := _take(folder, gpus or ["cpu"])) is None:
        if not told:
            holders = {path.read_text(encoding="utf-8") for path in folder.glob("*.holder")}
            on_wait(", ".join(sorted(holders)))
            told = True
        check_stop()
        time.sleep(_LOOK_EVERY_S)
    name, lock = taken
    try:
        holder = Path(lock.lock_file).with_suffix(".holder")
        with suppress(OSError):  # another user's; it only tells others who waits for whom
            holder.write_text(who, encoding="utf-8")
            holder.chmod(0o666)
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = name  # torch is not imported yet
        yield name
    finally:
        lock.release()


def _take(folder: Path, names: list[str]) -> tuple[str, FileLock] | None:
    for name in names:
        lock = FileLock(folder / f"{name.replace('/', '_')}.lock", mode=0o666)
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return name, lock
    return None
