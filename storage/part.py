"""What all parts of the ledger share: the database, keys, the fenced transaction, and what
happens when a connection is lost in the middle of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import Connection, text

from edco_core.errors import LeaseLostError, LedgerError, NotFoundError
from edco_core.records import Lease
from storage.connecting import ConnectionLostError
from storage.engine import Database

Part = TypeVar("Part", bound="LedgerPart")
Given = ParamSpec("Given")
Result = TypeVar("Result")

_ATTEMPTS = 5
"""A statement that brings the server down is not sent to it for ever."""


class AlreadyKeptError(LedgerError):
    """What came is in the ledger already; nothing was written."""


def retried(
    verb: Callable[Concatenate[Part, Given], Result],
) -> Callable[Concatenate[Part, Given], Result]:
    """Carry a verb out again, from its beginning, when the server ended its connection.

    For verbs of one transaction, which is gone or done as a whole, and not for generators.  When
    the connection was lost while committing, only the ledger can tell which: a verb then finds its
    own rows there already.  It has to go on from that, or to raise AlreadyKeptError, which here
    means that it had succeeded.
    """

    @wraps(verb)
    def until_answered(part: Part, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        maybe_done = False
        for left in reversed(range(_ATTEMPTS)):
            try:
                return verb(part, *args, **kwargs)
            except ConnectionLostError as error:
                if not left:
                    raise
                maybe_done = maybe_done or error.committing
                part._database.tell(
                    f"the connection to the ledger {part._database.address} was lost; "
                    "connecting again"
                )
            except AlreadyKeptError:
                if not maybe_done:
                    raise
                return cast(Result, None)
        raise AssertionError("every attempt returns or raises")

    return until_answered


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
        with self._database.writing() as connection:
            held = hold(connection, lease)
            yield connection
            extend(connection, lease, held, self._database.utc_now(connection))


def hold(connection: Connection, lease: Lease) -> Any:
    """Lock the run's row until the end of the transaction, if this owner still has it.

    How long the lease is and lasts. Raises LeaseLostError.
    """
    held = connection.execute(
        text(
            "UPDATE runs SET lease_token = lease_token WHERE run_key = :key "
            "AND lease_token = :token AND lease_owner = :owner "
            "RETURNING lease_ttl_s, lease_expires_at"
        ),
        {"key": lease.run_key, "token": lease.token, "owner": lease.owner},
    ).first()
    if held is None:
        raise LeaseLostError(
            f"run {lease.run_id} is no longer owned by this process ({lease.owner}); "
            "nothing was written. See who has it: edco runs"
        )
    return held


def extend(
    connection: Connection, lease: Lease, held: Any, now: datetime, ttl_s: float | None = None
) -> None:
    """Let a held lease last its time from now on, and never less than it would have."""
    ttl_s = held.lease_ttl_s if ttl_s is None else ttl_s
    connection.execute(
        text(
            "UPDATE runs SET lease_ttl_s = :ttl, lease_expires_at = :expires WHERE run_key = :key"
        ),
        {
            "ttl": ttl_s,
            "expires": max(held.lease_expires_at, now + timedelta(seconds=ttl_s)),
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
