"""How long the audit's questions take on large ledgers, and how many bytes a score takes there.

Each question is asked the way its command asks it (``open_snapshot``, then the function of
``storage.queries``), and as SQL on its view through ``Ledger.query``, as ``edco query`` does; both
in this process, and each time with new connections.  The files are in the system's cache, as
they are after a run; a first round that fills it is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.ledger_databases import Place, new_ledgers
from benchmarks.ledger_rows import make_pool, make_spec
from benchmarks.ledger_runs import say, write_run
from edco_core.records import Pool, RunSpec
from storage import Ledger, open_ledger, open_snapshot, queries, tables

BY_COMMAND: dict[str, Callable[[Ledger, str, str], Any]] = {
    "turnover": lambda ledger, run_id, _: queries.turnover(ledger, run_id),
    "why": queries.why,
    "persistent_samples": lambda ledger, run_id, _: queries.difficult(
        ledger, run_id, limit=100, min_streak=2
    ),
    "interval_summary": lambda ledger, run_id, _: queries.intervals(ledger, run_id),
}

BY_SQL = {
    "turnover": "SELECT * FROM turnover WHERE run_id = :run_id ORDER BY interval",
    "why": "SELECT * FROM sample_history WHERE run_id = :run_id AND sample_id = :sample_id "
    "ORDER BY interval",
    "persistent_samples": "SELECT * FROM persistent_samples WHERE run_id = :run_id "
    "ORDER BY times_selected DESC, longest_streak DESC, score_last DESC, sample_id LIMIT 100",
    "interval_summary": "SELECT * FROM interval_summary WHERE run_id = :run_id ORDER BY interval",
}

OPENING = "opening the ledger"
"""What every question begins with."""

SLOW_MS = 3000.0
"""A question that takes longer is asked three times only."""


@dataclass(frozen=True, slots=True)
class Form:
    """A run, alone in its ledger at first."""

    name: str
    pool_size: int
    intervals: int

    @property
    def num_scores(self) -> int:
        return self.pool_size * self.intervals


@dataclass(frozen=True, slots=True)
class Forms:
    """The large run, the smaller ones it is compared with, and what else its ledger gets."""

    large: Form
    smaller: tuple[Form, ...]
    others: Form
    num_others: int

    @property
    def among_others(self) -> str:
        return f"{self.large.name} + {self.num_others} runs"


Milliseconds = dict[str, dict[str, list[float]]]
"""By form and question, the repeats."""


@dataclass
class Found:
    """On one database."""

    by_command: Milliseconds = field(default_factory=dict)
    by_sql: Milliseconds = field(default_factory=dict)
    bytes_per_score: dict[str, float] = field(default_factory=dict)
    """By what is counted, on the large run alone."""
    loading_seconds: dict[str, float] = field(default_factory=dict)
    """By form, for what it is worth on a machine with other work."""


def measure_queries(
    all_places: tuple[Place, ...], forms: Forms, *, shard_rows: int, num_repeats: int
) -> dict[str, Found]:
    """By database; within a repeat, all forms in turns."""
    found = {}
    for place in all_places:
        answer = found[place.name] = Found()
        with new_ledgers(place) as new:
            asked: dict[str, tuple[str, RunSpec, Pool]] = {}
            for form in (forms.large, *forms.smaller):
                url = new()
                pool = make_pool(form.pool_size)
                open_ledger(url).register_pool(pool)
                before = place.ledger_bytes(url)
                asked[form.name] = (url, _load(place, url, form, shard_rows, answer), pool)
                if form is forms.large:
                    answer.bytes_per_score = {
                        "scores": place.table_bytes(url, "scores") / form.num_scores,
                        "selections": sum(
                            place.table_bytes(url, table)
                            for table in tables.metadata.tables
                            if table.startswith("select")
                        )
                        / form.num_scores,
                        "growth": (place.ledger_bytes(url) - before) / form.num_scores,
                    }
            say(f"{place.name}: asking")
            _ask_all(asked, num_repeats, answer)
            url, spec, pool = asked[forms.large.name]
            open_ledger(url).register_pool(make_pool(forms.others.pool_size))
            for number in range(forms.num_others):
                _load(place, url, forms.others, shard_rows, answer, number + 1)
            say(f"{place.name}: asking with {forms.num_others} more runs")
            _ask_all({forms.among_others: (url, spec, pool)}, num_repeats, answer)
    return found


def _load(
    place: Place, url: str, form: Form, shard_rows: int, found: Found, number: int = 0
) -> RunSpec:
    say(f"{place.name}: writing {form.name}, {form.num_scores} scores")
    spec = make_spec(number, form.pool_size, intervals=form.intervals)
    start = time.perf_counter()
    write_run(open_ledger(url), spec, shard_rows)
    seconds = found.loading_seconds.get(form.name, 0.0) + time.perf_counter() - start
    found.loading_seconds[form.name] = seconds
    return spec


def _ask_all(asked: dict[str, tuple[str, RunSpec, Pool]], num_repeats: int, found: Found) -> None:
    """Every question of every ledger, by both ways, in turns."""
    rng = np.random.default_rng(0)
    slow = set()
    for repeat in range(num_repeats + 1):
        for question in (OPENING, *BY_COMMAND):
            if question in slow and repeat > 3:
                continue
            for name, (url, spec, pool) in asked.items():
                ordinal = int(rng.integers(len(pool)))
                sample_id = str(pool.table["sample_id"][ordinal])
                by_command = _ms(_by_command, question, url, spec.run_id, sample_id)
                by_sql = _ms(_by_sql, question, url, spec.run_id, sample_id)
                if repeat == 0:  # fills caches
                    if max(by_command, by_sql) > SLOW_MS:
                        slow.add(question)
                    continue
                for kept, ms in ((found.by_command, by_command), (found.by_sql, by_sql)):
                    kept.setdefault(name, {}).setdefault(question, []).append(ms)


def _by_command(question: str, url: str, run_id: str, sample_id: str) -> int:
    with open_snapshot(url) as ledger:
        if question == OPENING:
            return 1
        return len(BY_COMMAND[question](ledger, run_id, sample_id))


def _by_sql(question: str, url: str, run_id: str, sample_id: str) -> int:
    ledger = open_ledger(url, read_only=True)
    if question == OPENING:
        return 1
    given = {"run_id": run_id, "sample_id": sample_id}
    sql = BY_SQL[question]
    names = {name: value for name, value in given.items() if f":{name}" in sql}
    return len(ledger.query(sql, names)[1])


def _ms(ask: Callable[[str, str, str, str], int], question: str, *given: str) -> float:
    start = time.perf_counter()
    num_rows = ask(question, *given)
    ms = 1000 * (time.perf_counter() - start)
    if num_rows == 0:
        raise RuntimeError(f"{question} has no answer on {given[1]}: nothing was measured")
    return ms
