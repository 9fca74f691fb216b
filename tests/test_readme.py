"""What the README and docs/ show is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import Edco

from storage import open_ledger, queries
from storage.views import VIEWS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [README, *(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md")))]
QUERIES = [sql for text in DOCS for sql in re.findall(r"```sql\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_every_query_can_be_asked_as_it_is_printed(sql: str, finished: Edco) -> None:
    ledger = open_ledger(f"duckdb:///{finished.folder / 'edco.duckdb'}", read_only=True)
    sample = ledger.query("SELECT max(sample_id) FROM samples")[1][0][0]
    given = {"run": "whole", "sample": sample, "min_streak": "1", "limit": "5", "name": "tiny"}
    names, _ = ledger.query(sql, {key: given[key] for key in re.findall(r"(?<!:):(\w+)", sql)})
    assert names


@pytest.mark.parametrize(
    "name",
    [
        "WHY_HISTORY",
        "WHY_INTERVALS",
        "TURNOVER",
        "INTERVALS",
        "NEVER_LEARNED",
        "NEVER_SOLVED",
        "SOLVED_AT_LAST",
    ],
)
def test_the_sql_behind_a_command_is_shown_as_it_is(name: str) -> None:
    assert getattr(queries, name).strip() in [sql.strip() for sql in QUERIES]


def test_every_view_is_listed() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert set(VIEWS) <= set(listed)


def test_every_command_is_listed() -> None:
    from flows.cli import app

    names = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    assert {name for name in names if f"edco {name}" not in README} == set()


def test_every_link_inside_the_project_leads_somewhere() -> None:
    for folder, text in [(ROOT, README), *((ROOT / "docs", text) for text in DOCS[1:])]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (folder / target).exists(), target
