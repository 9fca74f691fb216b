"""Reading by SQL: any query on the views, or a view as a pandas frame."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from sqlalchemy import text

from edco_core.errors import InputError, LedgerError
from storage.part import LedgerPart, retried
from storage.streaming import TYPES_BY_NAME, Batches, Rows, Statement
from storage.views import VIEWS

if TYPE_CHECKING:
    import pandas as pd

# Quoted strings, quoted names and comments, in which a colon means nothing.
_QUOTED = re.compile(r"('(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/)", re.DOTALL)
_BOUND, _NAMED, _NUMBER = (
    re.compile(rf"(?<![:\w$\\]):({word})(?![:\w$])")
    for word in (r"[\w$]+", r"[^\W\d][\w$]*", r"\d[\w$]*")
)
"""What SQLAlchemy takes for a parameter: what is one, and a slice or struct: [:8], {'a':1}."""


class Reading(LedgerPart):
    """The query door, the same on both databases."""

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all that this thread reads inside the block be one transaction, of one moment.

        A DuckDB file is then opened once, and nobody else can open it to write until the end.
        """
        with self._database.snapshot():
            yield

    def end_snapshot(self) -> None:
        """Let go of the ledger before the block of ``snapshot`` ends, for something that lasts."""
        self._database.end_snapshot()

    @property
    def readers_block_writers(self) -> bool:
        """Whether a run has to wait while somebody reads: on DuckDB, for the file."""
        return self._database.readers_block_writers

    @retried
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
        with self.query_rows(sql, params, timeout_s) as (names, rows):
            return names, list(islice(rows, limit))

    @contextmanager
    def query_rows(
        self, sql: str, params: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> Iterator[tuple[list[str], Rows]]:
        """``query``, its rows to be read one by one inside the block, however many there are."""
        with self._statement(sql, params, timeout_s) as statement:
            names, rows = statement.rows()
            if names is None:
                raise InputError("the statement returns no rows; ask with SELECT")
            yield names, rows

    @contextmanager
    def query_batches(
        self, sql: str, params: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> Iterator[tuple[pa.Schema, Batches]]:
        """``query_rows`` as Arrow record batches of one schema, also when there are no rows."""
        with self._statement(sql, params, timeout_s) as statement:
            schema, batches = statement.batches()
            if schema is None:
                raise InputError("the statement returns no rows; ask with SELECT")
            yield schema, batches

    def view_schema(self, view: str) -> pa.Schema:
        """Names and types of a view's columns, the same on both databases. Raises InputError."""
        if view not in VIEWS:
            raise InputError(f"no view {view!r}{_meant(view, VIEWS)}; allowed: {_listed(VIEWS)}")
        # Asking the view itself would make Postgres plan for the partitions of all runs.
        sql = (
            "SELECT column_name, lower(data_type) FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = :view ORDER BY ordinal_position"
        )
        with self._database.reading() as connection:
            columns = connection.execute(text(sql), {"view": view}).all()
        return pa.schema([pa.field(name, TYPES_BY_NAME[kind]) for name, kind in columns])

    @contextmanager
    def view_batches(self, view: str, **equals: Any) -> Iterator[tuple[pa.Schema, Batches]]:
        """The rows of a view in which the named columns equal the given values, as Arrow batches.

        The same types on both databases; times are in UTC and say so. The order is not defined.
        Raises InputError for an unknown view or column.
        """
        with self._database.snapshot(), self._database.reading() as connection:
            schema = self.view_schema(view)
            columns = schema.names
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
            given = {name: value for name, value in equals.items() if value is not None}
            sql = f"SELECT * FROM {view}{where}"
            with self._database.statement(connection, sql, given) as statement:
                _, batches = statement.batches()
                yield schema, (batch.cast(schema) for batch in batches)

    @retried
    def frame(self, /, view: str, **equals: Any) -> pd.DataFrame:
        """A view as a pandas frame, only rows where the named columns equal the given values.

        ``frame("turnover", run_id="datacom-1")``. A column has the same type on both databases,
        with and without rows: integers and truth values are pandas's own that may be missing
        (``Int32``, ``boolean``), times are in UTC. Raises InputError for an unknown view or column.
        """
        with self.view_batches(view, **equals) as (schema, batches):
            table = pa.Table.from_batches(batches, schema)
        import pandas as pd

        kinds = {
            pa.int16(): pd.Int16Dtype(),
            pa.int32(): pd.Int32Dtype(),
            pa.int64(): pd.Int64Dtype(),
            pa.bool_(): pd.BooleanDtype(),
        }
        frame: pd.DataFrame = table.to_pandas(types_mapper=kinds.get)
        return frame

    @contextmanager
    def _statement(
        self, sql: str, params: Mapping[str, Any] | None, timeout_s: float | None
    ) -> Iterator[Statement]:
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
        with (
            database.reading() as connection,
            database.statement(connection, escaped, given, timeout_s) as statement,
        ):
            yield statement


def _parameters(sql: str) -> tuple[set[str], str]:
    """Names of the parameters, and the query with every other colon escaped for SQLAlchemy."""
    pieces = _QUOTED.split(sql)
    names: set[str] = set()
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            names.update(_NAMED.findall(piece))
        pieces[index] = (_BOUND if index % 2 else _NUMBER).sub(r"\\:\1", piece)
    return names, "".join(pieces)


def _meant(name: str, allowed: Any) -> str:
    close = get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
