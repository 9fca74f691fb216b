"""Reading by SQL: any query on the views, or a view as a pandas frame."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from edco_core.errors import InputError, LedgerError
from storage.part import LedgerPart
from storage.views import VIEWS

if TYPE_CHECKING:
    import pandas as pd

# Quoted strings, quoted names and comments, in which a colon means nothing.
_QUOTED = re.compile(r"('(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/)", re.DOTALL)
_NAMED = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")


class Reading(LedgerPart):
    """The query door, the same on both databases."""

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of one SQL statement; ``:name`` stands for ``params["name"]``.

        At most ``limit`` rows. The database itself refuses to write: a DuckDB ledger must have
        been opened read-only for this, on Postgres the transaction is. Raises InputError for
        what the database cannot run, LedgerError after ``timeout_s`` seconds.
        """
        database = self._database
        if database.on_duckdb and not database.read_only:
            raise LedgerError("open the ledger with read_only=True to query it")
        given = dict(params or {})
        named, escaped = _parameters(sql)
        for name in sorted(named - given.keys()):
            raise InputError(f"the query has :{name} but no value for it; add -p {name}=VALUE")
        for name in sorted(given.keys() - named):
            raise InputError(
                f"the query has no :{name}; "
                + (f"it has {', '.join(sorted(named))}" if named else "it has no parameters")
            )
        with database.reading() as connection:
            return database.run_sql(connection, escaped, given, limit, timeout_s)

    def frame(self, view: str, **equals: Any) -> pd.DataFrame:
        """A view as a pandas frame, only rows where the named columns equal the given values.

        ``frame("turnover", run_id="datacom-1")``. Raises InputError for an unknown view or column.
        """
        if view not in VIEWS:
            raise InputError(f"no view {view!r}{_meant(view, VIEWS)}; allowed: {_listed(VIEWS)}")
        with self._database.reading() as connection:
            columns = list(connection.execute(text(f"SELECT * FROM {view} LIMIT 0")).keys())
            for name in equals:
                if name not in columns:
                    raise InputError(
                        f"view {view} has no column {name!r}{_meant(name, columns)}; "
                        f"allowed: {_listed(columns)}"
                    )
            conditions = [
                f"{name} IS NULL" if value is None else f"{name} = :{name}"
                for name, value in equals.items()
            ]
            where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
            rows = connection.execute(
                text(f"SELECT * FROM {view}{where}"),
                {name: value for name, value in equals.items() if value is not None},
            ).all()
        import pandas as pd

        return pd.DataFrame.from_records([tuple(row) for row in rows], columns=columns)


def _parameters(sql: str) -> tuple[set[str], str]:
    """Names of the parameters, and the query with every other colon escaped for SQLAlchemy."""
    pieces = _QUOTED.split(sql)
    names: set[str] = set()
    for index, piece in enumerate(pieces):
        if index % 2:
            pieces[index] = _NAMED.sub(r"\\:\1", piece)
        else:
            names.update(_NAMED.findall(piece))
    return names, "".join(pieces)


def _meant(name: str, allowed: Any) -> str:
    close = get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
