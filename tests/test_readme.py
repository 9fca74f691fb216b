"""What the README shows is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import Edco

from storage import open_ledger
from storage.views import VIEWS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("sql", QUERIES, ids=range(len(QUERIES)))
def test_every_query_can_be_asked_as_it_is_printed(sql: str, finished: Edco) -> None:
    ledger = open_ledger(f"duckdb:///{finished.folder / 'edco.duckdb'}", read_only=True)
    names, _ = ledger.query(sql, {"run": "whole"})
    assert names


def test_every_view_is_listed() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert set(VIEWS) <= set(listed)


def test_every_command_is_listed() -> None:
    from flows.cli import app

    names = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    assert {name for name in names if f"edco {name}" not in README} == set()
