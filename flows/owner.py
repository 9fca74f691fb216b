"""Who owns a run: a process, by a name that tells it from all others, and whether it is gone."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import psutil

_CLOCK_TOLERANCE_S = 300.0
"""A process's start is computed from the wall clock, which may be set meanwhile."""


def this_process() -> str:
    """Names this process among all machines, also after its number was given to another."""
    process = psutil.Process()
    name = f"host={socket.gethostname()} pid={process.pid} started={process.create_time():.0f}"
    return f"{name} among={among}" if (among := _process_numbers()) else name


def is_dead_on_this_machine(owner: str) -> bool:
    """True when the owner ran on this machine and is gone; False when that cannot be known."""
    fields = dict(part.partition("=")[::2] for part in owner.split())
    if fields.get("host") != socket.gethostname() or not fields.get("pid", "").isdigit():
        return False
    if fields.get("among", _process_numbers()) != _process_numbers():
        return False
    try:
        process = psutil.Process(int(fields["pid"]))
        apart_s = abs(process.create_time() - float(fields.get("started", "0")))
        return apart_s > _CLOCK_TOLERANCE_S or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _process_numbers() -> str:
    """Names the system that process numbers are of: containers may share a host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # no Linux
        return ""
    return f"{boot[:8]}-{re.sub(r'[^0-9]', '', space)}"
