"""What a judge has said before, and what that cost: one SQLite file in the run's folder."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "verdicts.sqlite"

_TABLE = """
CREATE TABLE IF NOT EXISTS verdicts (
    asked TEXT NOT NULL,
    settings TEXT NOT NULL,
    verdict INTEGER,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL
)
"""
_REFUSALS = "CREATE TABLE IF NOT EXISTS refusals (asked TEXT PRIMARY KEY)"
_INDEXES = (
    "CREATE INDEX IF NOT EXISTS by_content ON verdicts (asked) WHERE verdict IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS in_vain ON verdicts (asked) WHERE verdict IS NULL",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer of a judge."""

    is_right: bool | None
    """None: the judge answered, and said neither."""
    input_tokens: int
    output_tokens: int


class Verdicts:
    """Keeps every answer of a judge.  Without a folder, as long as this object lives.

    Texts are not in it: ``asked`` is a hash of all that decides a verdict.
    """

    def __init__(self, folder: Path | None) -> None:
        # Evaluation and training have their own connections, and a judge that takes its time may
        # be called by another thread than the one that made it.
        where = ":memory:" if folder is None else str(folder / FILE_NAME)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(where, timeout=60, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        with self._connection as connection:
            connection.execute(_TABLE)
            connection.execute(_REFUSALS)
            for index in _INDEXES:
                connection.execute(index)

    def find(self, asked: str) -> bool | None:
        """The verdict on the very same question; None where there is none."""
        row = self._connection.execute(
            "SELECT verdict FROM verdicts WHERE asked = ? AND verdict IS NOT NULL LIMIT 1", (asked,)
        ).fetchone()
        return None if row is None else bool(row[0])

    def add(self, asked: str, settings: str, verdict: Verdict) -> None:
        """Keep an answer; it stays, whatever happens to the process."""
        with self._connection as connection:
            connection.execute(
                "INSERT INTO verdicts VALUES (?, ?, ?, ?, ?)",
                (asked, settings, verdict.is_right, verdict.input_tokens, verdict.output_tokens),
            )

    def was_in_vain(self, asked: str) -> bool:
        """Whether the judge would not answer the very same question, or said neither."""
        sql = (
            "SELECT 1 FROM refusals WHERE asked = ? "
            "UNION ALL SELECT 1 FROM verdicts WHERE asked = ? AND verdict IS NULL LIMIT 1"
        )
        return self._connection.execute(sql, (asked, asked)).fetchone() is not None

    def add_refusals(self, asked: Iterable[str]) -> None:
        with self._connection as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO refusals VALUES (?)", [(each,) for each in asked]
            )

    def totals(self, settings: str) -> tuple[int, int, int]:
        """Answers, input tokens and output tokens under these settings, since the run began."""
        row = self._connection.execute(
            "SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0) "
            "FROM verdicts WHERE settings = ?",
            (settings,),
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])
