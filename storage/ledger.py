"""The ledger: every verb of the domain, on DuckDB or Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.alarms import Alarms
from storage.comparisons import Comparisons
from storage.connecting import BUSY_TIMEOUT_S
from storage.engine import Database
from storage.pools import Pools
from storage.reading import Reading
from storage.rollouts import Rollouts
from storage.runs import Runs
from storage.schema import ensure_schema
from storage.scoring import Scoring
from storage.stages import Stages
from storage.upkeep import Upkeep


class Ledger(Pools, Runs, Scoring, Stages, Rollouts, Alarms, Comparisons, Reading, Upkeep):
    """One ledger, opened by ``open_ledger``.

    Verbs that write for a run take its lease first and raise LeaseLostError, writing nothing,
    when another process has taken the run over. Nothing stays open between calls, so there is
    nothing to close; a Ledger may be used by several threads.
    """

    @property
    def address(self) -> str:
        """Where the ledger is, without its password."""
        return self._database.address

    @property
    def read_only(self) -> bool:
        return self._database.read_only

    def wait_at_most(self, seconds: float) -> None:
        """Be no more patient than that from now on, also where a thread is waiting already."""
        self._database.busy_timeout_s = min(seconds, self._database.busy_timeout_s)


def open_ledger(
    url: str,
    *,
    read_only: bool = False,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    on_wait: Callable[[str], None] | None = None,
) -> Ledger:
    """Open a ledger; without ``read_only``, make it where there is none.

    A process that finds the DuckDB file held by another waits up to ``busy_timeout_s`` seconds at
    each call, says so through ``on_wait`` (or the log), and then raises LedgerBusyError.
    Raises InputError for a bad address or, reading, a ledger that does not exist;
    LedgerVersionError for one of another version; LedgerError when it cannot be reached.
    """
    database = Database(url, read_only=read_only, busy_timeout_s=busy_timeout_s, on_wait=on_wait)
    ensure_schema(database)
    return Ledger(database)


@contextmanager
def open_snapshot(url: str, *, on_wait: Callable[[str], None] | None = None) -> Iterator[Ledger]:
    """Open a ledger to read, in one transaction until the end of the block, for one answer.

    A DuckDB file cannot be written by anybody meanwhile. Raises what ``open_ledger`` raises.
    """
    database = Database(url, read_only=True, on_wait=on_wait)
    with database.snapshot():
        ensure_schema(database)
        yield Ledger(database)
