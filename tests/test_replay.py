"""Selections made again from the ledger: the same, or the first difference."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest
from command_line import Edco


@pytest.fixture
def copied(finished: Edco, tmp_path: Path) -> Edco:
    """The finished run's ledger, free to be tampered with."""
    shutil.copy(finished.folder / "edco.duckdb", tmp_path)
    return Edco(tmp_path, finished.environment)


def test_every_selection_of_a_run_can_be_made_again_to_the_last_sample(finished: Edco) -> None:
    rows = finished.json("replay", "whole")["intervals"]
    assert [row["result"] for row in rows] == ["identical"] * 3
    assert {row["overlap"] for row in rows} == {1.0}


def test_a_score_that_was_changed_afterwards_is_found_out(copied: Edco) -> None:
    with duckdb.connect(str(copied.folder / "edco.duckdb")) as ledger:
        ledger.execute("UPDATE scores SET score = score + 5 WHERE interval = 1 AND rank > 70")
    output = copied("replay", "whole", "--json", expect=1).stdout
    assert output.count('"result": "identical"') == 2
    assert "differs from position" in output


def test_another_strategy_shows_what_it_would_have_picked_and_is_no_failure(
    finished: Edco,
) -> None:
    paper = finished.json("replay", "whole", "--strategy", "edco", "--set", "preset=paper")
    sql = (
        "SELECT interval, avg(CASE WHEN rank <= 20 THEN 1.0 ELSE 0 END) AS overlap "
        "FROM curriculum GROUP BY 1 ORDER BY 1"
    )
    top = finished("query", sql, "--format", "csv").stdout
    told = [float(line.split(",")[1]) for line in top.splitlines()[1:]]
    assert [row["overlap"] for row in paper["intervals"]] == pytest.approx(told)


def test_an_unknown_strategy_or_setting_is_refused_with_what_is_allowed(finished: Edco) -> None:
    assert (
        "Did you mean 'edco'?" in finished("replay", "whole", "--strategy", "edc", expect=2).stderr
    )
    unknown = finished("replay", "whole", "--set", "temprature=2", expect=2).stderr
    assert "curriculum.temprature: unknown key" in unknown


def test_other_intervals_than_were_carried_out_are_refused(finished: Edco) -> None:
    refused = finished("replay", "whole", "--set", "intervals=9", expect=2).stderr
    assert "each is selected again" in refused
