"""Addresses of ledgers: what is allowed, and how to show one without its password."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from edco_core.errors import InputError

ALLOWED_URLS = (
    "duckdb:///FILE.duckdb (relative), duckdb:////ABSOLUTE/FILE.duckdb, "
    "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
)
_SECRET_KEYS = ("password", "sslpassword")


def masked(url: str) -> str:
    """The address without its password, fit for messages and logs."""
    try:
        parsed = make_url(url)
        is_cut = "@" in (parsed.host or "")  # a password with one in it
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        is_cut = True
    if is_cut:
        hidden = re.sub(r"^((?:[^:/@]*://)?[^:/@]*):.*@", r"\1:***@", url)
        return re.sub(rf"({'|'.join(_SECRET_KEYS)})=[^&]*", r"\1=***", hidden)
    query = {k: "***" if k in _SECRET_KEYS else v for k, v in parsed.query.items()}
    return parsed.set(query=query).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def parse_url(url: str) -> URL:
    """Check a ledger's address without touching anything.

    Raises InputError for another database, a ledger in memory, or options DuckDB would ignore.
    """

    def refuse(problem: str) -> InputError:
        return InputError(f"ledger address {masked(url)!r}: {problem}. Allowed: {ALLOWED_URLS}")

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise refuse("not an address SQLAlchemy can read") from error
    if "@" in (parsed.host or ""):
        raise refuse("a password with @ in it is written with %40 in its place")
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "postgresql+psycopg":
        return parsed
    if parsed.drivername != "duckdb":
        raise refuse(f"unknown kind of database {parsed.drivername!r}")
    if not parsed.database or parsed.database.startswith(":"):
        raise refuse("a ledger must be a file, to be there when the process has ended")
    if parsed.host or "?" in url:
        raise refuse("a DuckDB ledger takes a path (three slashes before it) and no options")
    return parsed


def absolute(url: str) -> str:
    """The address as it is understood in any working directory.  Raises InputError."""
    parsed = parse_url(url)
    if parsed.drivername != "duckdb":
        return url
    return address_of(Path(parsed.database or "").expanduser().resolve())


def address_of(path: Path) -> str:
    """The address of a DuckDB ledger in this file."""
    return f"duckdb:///{str(path).replace('%', '%25')}"


def is_secret(url: str) -> bool:
    """Whether an address holds a password, or may hold one."""
    try:
        return bool(secrets(parse_url(url)))
    except InputError:
        return masked(url) != url


def secrets(url: URL) -> list[str]:
    """What must never be shown."""
    values = [url.password, *(url.query.get(key) for key in _SECRET_KEYS)]
    return [value for value in values if isinstance(value, str) and value]
