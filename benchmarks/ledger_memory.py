"""Peak memory of a process that only writes the scores of one interval into a ledger.

``python -m benchmarks.ledger_memory NUMBER POOL_SIZE SHARD_ROWS`` with the ledger's address in
``EDCO_STORE`` is such a process; it makes its scores shard by shard.  On Postgres it is the
client: what the server needs is bounded by its own settings, and is not in the figure.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.ledger_rows import make_spec, write_scores
from storage import open_ledger


def peak_mib(url: str, number: int, pool_size: int, shard_rows: int) -> float:
    """Of a fresh process; the pool must be registered."""
    command = [sys.executable, "-m", "benchmarks.ledger_memory"]
    command += [str(number), str(pool_size), str(shard_rows)]
    environment = {**os.environ, "EDCO_STORE": url}  # not an argument: it may hold a password
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(done.stdout)


def main(number: int, pool_size: int, shard_rows: int) -> None:
    """Write, and print the peak in MiB; a pool of size 0 writes nothing: what the imports take."""
    ledger = open_ledger(os.environ["EDCO_STORE"])
    if pool_size:
        spec = make_spec(number, pool_size, intervals=1)
        lease = ledger.create_run(spec, "benchmark")
        write_scores(ledger, lease, spec, shard_rows)
    print(_peak_bytes() / 2**20)


def _peak_bytes() -> int:
    # Linux hands the peak of a parent down to its child's resource usage, but not to this file.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
