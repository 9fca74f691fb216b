"""What all parts of the ledger share: the database, keys, and the fenced transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from edco_core.errors import LeaseLostError, NotFoundError
from edco_core.records import Lease
from storage.engine import Database


class LedgerPart:
    """Base of the groups of verbs that together are ``Ledger``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _fenced(self, lease: Lease) -> Iterator[Connection]:
        """A writing transaction of the run's owner; raises LeaseLostError for anybody else.

        The lease is renewed at its end as well, so that one write longer than the lease does not
        lose it: on Postgres nobody else gets at the run's row meanwhile, on DuckDB at the file.
        """
        with self._fenced_to_the_end(lease) as connection:
            yield connection
            _extend(connection, lease, self._database.utc_now(connection))

    @contextmanager
    def _fenced_to_the_end(self, lease: Lease) -> Iterator[Connection]:
        """The owner's last transaction, which gives the lease up."""
        with self._database.writing() as connection:
            _hold(connection, lease)
            yield connection

    def _renew(self, lease: Lease, ttl_s: float) -> None:
        with self._fenced_to_the_end(lease) as connection:
            _extend(connection, lease, self._database.utc_now(connection), ttl_s)


def _hold(connection: Connection, lease: Lease) -> None:
    """Lock the run's row until the end of the transaction, if this owner still has it."""
    held = connection.execute(
        text(
            "UPDATE runs SET lease_token = lease_token WHERE run_key = :key "
            "AND lease_token = :token AND lease_owner = :owner"
        ),
        {"key": lease.run_key, "token": lease.token, "owner": lease.owner},
    )
    if held.rowcount != 1:
        raise LeaseLostError(
            f"run {lease.run_id} is no longer owned by this process ({lease.owner}); "
            "nothing was written. See who has it: edco runs"
        )


def _extend(
    connection: Connection, lease: Lease, now: datetime, ttl_s: float | None = None
) -> None:
    """Let a held lease last its time from now on, and never less than it would have."""
    known = connection.execute(
        text("SELECT lease_ttl_s, lease_expires_at FROM runs WHERE run_key = :key"),
        {"key": lease.run_key},
    ).one()
    ttl_s = known.lease_ttl_s if ttl_s is None else ttl_s
    connection.execute(
        text(
            "UPDATE runs SET lease_ttl_s = :ttl, lease_expires_at = :expires WHERE run_key = :key"
        ),
        {
            "ttl": ttl_s,
            "expires": max(known.lease_expires_at, now + timedelta(seconds=ttl_s)),
            "key": lease.run_key,
        },
    )


def run_row(connection: Connection, run_id: str) -> Any:
    """The run's keys and sizes. Raises NotFoundError."""
    row = connection.execute(
        text("SELECT run_key, dataset_key, pool_size FROM runs WHERE run_id = :run_id"),
        {"run_id": run_id},
    ).first()
    if row is None:
        raise NotFoundError(f"no run {run_id!r} in the ledger; see what there is: edco runs")
    return row


def dump(value: Any) -> str:
    """JSON with sorted keys: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # a NumPy scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON: {value!r}")


def with_zone(moment: datetime | None) -> datetime | None:
    """A stored time, which is UTC without saying so."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def next_key(connection: Connection, table: str, column: str) -> int:
    """The key of a new row; the caller holds the lock of that table's keys."""
    return int(
        connection.execute(text(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}")).scalar_one()
    )
