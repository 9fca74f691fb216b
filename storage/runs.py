"""Runs and their leases: who may write, and what the run is doing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches

from sqlalchemy import insert, text

from edco_core.errors import NotFoundError, RunBusyError, RunExistsError
from edco_core.records import Lease, RunSpec, RunState, RunStatus, Stage
from storage import tables
from storage.part import LedgerPart, dump, extend, hold, next_key, retried, run_row, with_zone

DEFAULT_TTL_S = 60.0
_FIRST_TOKEN = 1
_LISTED = 5


@dataclass(frozen=True, slots=True)
class LostRun:
    """A run whose owner was found to be gone, and what it was doing."""

    run_id: str
    owner: str | None
    """None: in a copy of the ledger, made when it was gone already."""
    interval: int | None
    stage: Stage | None


class Runs(LedgerPart):
    """Verbs about runs as a whole."""

    @retried
    def create_run(self, spec: RunSpec, owner: str, ttl_s: float = DEFAULT_TTL_S) -> Lease:
        """Enter a new run, owned by ``owner`` for ``ttl_s`` seconds from now.

        Entering it again is no error for this owner, who may not have heard that it was done.
        Raises RunExistsError, and NotFoundError when its data set was not registered.
        """
        with self._database.writing() as connection:
            self._database.lock(connection, "runs")
            taken = connection.execute(
                text("SELECT run_key, lease_owner, lease_token FROM runs WHERE run_id = :run_id"),
                {"run_id": spec.run_id},
            ).first()
            if taken and (taken.lease_owner, taken.lease_token) == (owner, _FIRST_TOKEN):
                return Lease(spec.run_id, taken.run_key, _FIRST_TOKEN, owner)
            if taken:
                raise RunExistsError(
                    f"run {spec.run_id!r} is in the ledger already; carry on with "
                    f"`edco resume {spec.run_id}`, or choose another --run-id"
                )
            dataset_key = connection.execute(
                text("SELECT dataset_key FROM datasets WHERE dataset_id = :dataset_id"),
                {"dataset_id": spec.dataset_id},
            ).scalar()
            if dataset_key is None:
                raise NotFoundError(
                    f"data set {spec.dataset_id!r} is not in the ledger; register its pool first"
                )
            run_key = next_key(connection, "runs", "run_key")
            now = self._database.utc_now(connection)
            lease = Lease(run_id=spec.run_id, run_key=run_key, token=_FIRST_TOKEN, owner=owner)
            connection.execute(
                insert(tables.runs),
                {
                    "run_key": run_key,
                    "run_id": spec.run_id,
                    "name": spec.name,
                    "experiment": spec.experiment,
                    "seed": spec.seed,
                    "strategy": spec.strategy,
                    "scorer": spec.scorer,
                    "trainer": spec.trainer,
                    "model": spec.model,
                    "dataset_key": dataset_key,
                    "eval_dataset_id": spec.eval_dataset_id,
                    "metric": spec.metric,
                    "intervals_planned": spec.intervals,
                    "pool_size": spec.pool_size,
                    "top_n": spec.top_n,
                    "run_dir": spec.run_dir,
                    "config": dump(spec.config),
                    "plan": dump(spec.plan),
                    "versions": dump(spec.versions),
                    "status": "running",
                    "created_at": now,
                    "lease_owner": owner,
                    "lease_token": lease.token,
                    "lease_expires_at": now + timedelta(seconds=ttl_s),
                    "lease_ttl_s": ttl_s,
                },
            )
            self._database.make_partitions(connection, run_key, spec.run_id)
            self._database.analyze(connection, "runs", "datasets")
        return lease

    @retried
    def acquire(
        self,
        run_id: str,
        owner: str,
        ttl_s: float = DEFAULT_TTL_S,
        steal_if: Callable[[str], bool] | None = None,
    ) -> Lease:
        """Become the owner of a run that nobody owns, or whose owner's lease has run out.

        A live lease is taken only when ``steal_if(its owner)`` says that this owner is dead.
        Raises RunBusyError naming the owner, and NotFoundError.
        """
        with self._database.writing() as connection:
            run_key = run_row(connection, run_id).run_key
            held = connection.execute(
                text(
                    "SELECT lease_owner, lease_token, lease_expires_at FROM runs "
                    "WHERE run_key = :key"
                ),
                {"key": run_key},
            ).one()
            now = self._database.utc_now(connection)
            busy = RunBusyError(
                f"run {run_id} is being worked on by {held.lease_owner}, whose lease lasts until "
                f"{held.lease_expires_at} UTC; wait for it, or end that process and then "
                f"`edco resume {run_id}`"
            )
            if (
                held.lease_owner not in (None, owner)
                and held.lease_expires_at > now
                and not (steal_if is not None and steal_if(held.lease_owner))
            ):
                raise busy
            # Compare and set: of two that saw the same expired lease, or of one and an owner
            # that has just renewed it, only one gets through.
            taken = connection.execute(
                text(
                    "UPDATE runs SET lease_owner = :owner, lease_token = lease_token + 1, "
                    "lease_expires_at = :expires, lease_ttl_s = :ttl, status = 'running', "
                    "message = NULL, finished_at = NULL "
                    "WHERE run_key = :key AND lease_token = :token "
                    "AND (lease_expires_at IS NULL OR lease_expires_at = :seen)"
                ),
                {
                    "owner": owner,
                    "expires": now + timedelta(seconds=ttl_s),
                    "ttl": ttl_s,
                    "key": run_key,
                    "token": held.lease_token,
                    "seen": held.lease_expires_at,
                },
            )
            if taken.rowcount != 1:
                raise busy
        return Lease(run_id=run_id, run_key=run_key, token=held.lease_token + 1, owner=owner)

    @retried
    def renew(self, lease: Lease, ttl_s: float = DEFAULT_TTL_S) -> None:
        """Own the run for ``ttl_s`` seconds from now. Raises LeaseLostError."""
        with self._database.writing() as connection:
            held = hold(connection, lease)
            extend(connection, lease, held, self._database.utc_now(connection), ttl_s)

    @retried
    def release(self, lease: Lease, status: RunStatus, message: str | None = None) -> None:
        """Give the run up, saying how it ended; nothing is done for one that this lease gave up.

        Raises LeaseLostError.
        """
        with self._database.writing() as connection:
            given_up = connection.execute(
                text(
                    "SELECT 1 FROM runs WHERE run_key = :key AND lease_token = :token "
                    "AND lease_owner IS NULL"
                ),
                {"key": lease.run_key, "token": lease.token},
            ).first()
            if given_up:
                return
            hold(connection, lease)
            now = self._database.utc_now(connection)
            connection.execute(
                text(
                    "UPDATE runs SET status = :status, message = :message, finished_at = :at, "
                    "current_interval = NULL, current_stage = NULL, "
                    "lease_owner = NULL, lease_expires_at = NULL WHERE run_key = :key"
                ),
                {
                    "status": status,
                    "message": message,
                    "at": now if status in ("finished", "failed") else None,
                    "key": lease.run_key,
                },
            )

    @retried
    def interrupt_lost(
        self, is_dead: Callable[[str], bool], grace_s: float = DEFAULT_TTL_S
    ) -> list[LostRun]:
        """Mark runs whose owner is gone as interrupted, as it would have done itself.

        Gone is an owner whose lease ran out at least ``grace_s`` seconds ago (a machine that was
        asleep renews it first), or of whom ``is_dead`` says so.  It can write nothing more.
        """
        lost = []
        with self._database.writing() as connection:
            now = self._database.utc_now(connection)
            running = connection.execute(
                text(
                    "SELECT run_key, run_id, lease_owner, lease_token, lease_expires_at, "
                    "current_interval, current_stage FROM runs "
                    "WHERE status = 'running' ORDER BY run_key"
                )
            ).all()
            for run in running:
                owner, expires_at = run.lease_owner, run.lease_expires_at
                is_silent = owner is None or expires_at + timedelta(seconds=grace_s) <= now
                if not is_silent and not is_dead(owner):
                    continue
                # Compare and set, against an owner that has just renewed it after all.
                marked = connection.execute(
                    text(
                        "UPDATE runs SET status = 'interrupted', message = :message, "
                        "current_interval = NULL, current_stage = NULL, lease_owner = NULL, "
                        "lease_expires_at = NULL, lease_token = lease_token + 1 "
                        "WHERE run_key = :key AND lease_token = :token "
                        + ("AND lease_expires_at = :seen" if owner else "AND lease_owner IS NULL")
                    ),
                    {
                        "message": "its process ended without a word"
                        + (f" ({owner})" if owner else ""),
                        "key": run.run_key,
                        "token": run.lease_token,
                        **({"seen": expires_at} if owner else {}),
                    },
                )
                if marked.rowcount == 1:
                    lost.append(
                        LostRun(run.run_id, run.lease_owner, run.current_interval,
                                run.current_stage)
                    )  # fmt: skip
        return lost

    @retried
    def begin_stage(self, lease: Lease, interval: int, stage: Stage) -> bool:
        """Tell readers what the run is doing now; False, and nothing told, for a finished stage."""
        with self._fenced(lease) as connection:
            known = {"key": lease.run_key, "interval": interval, "stage": stage}
            if connection.execute(
                text(
                    "SELECT 1 FROM stages "
                    "WHERE run_key = :key AND interval = :interval AND stage = :stage"
                ),
                known,
            ).first():
                return False
            connection.execute(
                text(
                    "UPDATE runs SET current_interval = :interval, current_stage = :stage "
                    "WHERE run_key = :key"
                ),
                known,
            )
        return True

    @retried
    def find_run(self, prefix: str) -> str:
        """The run of that id, or the only one whose id begins so. Raises NotFoundError."""
        with self._database.reading() as connection:
            ids = list(
                connection.execute(
                    text("SELECT run_id FROM runs ORDER BY created_at DESC, run_key DESC")
                ).scalars()
            )
        if prefix in ids:
            return prefix
        matches = [run_id for run_id in ids if run_id.startswith(prefix)]
        if len(matches) == 1 and prefix:
            return str(matches[0])
        if not ids:
            raise NotFoundError(f"no run {prefix!r}: the ledger is empty; begin with edco run")
        if matches:
            raise NotFoundError(
                f"{prefix!r} fits {len(matches)} runs: {_some(matches)}; give more of the id"
            )
        close = get_close_matches(prefix, ids, n=_LISTED, cutoff=0.5) or ids
        raise NotFoundError(f"no run {prefix!r}; there is {_some(close)}; see all: edco runs")

    @retried
    def run_state(self, run_id: str) -> RunState:
        """The run as the ledger knows it now. Raises NotFoundError."""
        with self._database.reading() as connection:
            run_key = run_row(connection, run_id).run_key
            row = connection.execute(
                text(
                    "SELECT r.*, d.dataset_id FROM runs r "
                    "JOIN datasets d ON d.dataset_key = r.dataset_key WHERE r.run_key = :key"
                ),
                {"key": run_key},
            ).one()
        created_at = with_zone(row.created_at)
        assert created_at is not None
        return RunState(
            run_id=row.run_id,
            status=row.status,
            run_dir=row.run_dir,
            dataset_id=row.dataset_id,
            eval_dataset_id=row.eval_dataset_id,
            config=json.loads(row.config),
            plan=json.loads(row.plan),
            created_at=created_at,
            finished_at=with_zone(row.finished_at),
            message=row.message,
        )


def _some(run_ids: list[str]) -> str:
    more = len(run_ids) - _LISTED
    return ", ".join(run_ids[:_LISTED]) + (f" and {more} more" if more > 0 else "")
