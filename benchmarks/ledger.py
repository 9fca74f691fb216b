"""The ledger on DuckDB and Postgres: writing, the audit's questions on large runs, memory, bytes.

Writing is measured against the engine's own bulk path (see ``ledger_writing``), questions against
an aim in milliseconds and against a run of a tenth the scores (``ledger_queries``), the peak memory
of writing against that of a tenth the scores (``ledger_memory``), and the bytes of a score against
its numbers side by side in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import repeat

import pyarrow as pa
from sqlalchemy import Double, SmallInteger, Text

from benchmarks.ledger_databases import Place, new_ledgers, places
from benchmarks.ledger_memory import peak_mib
from benchmarks.ledger_queries import BY_COMMAND, OPENING, Form, Forms, Found, measure_queries
from benchmarks.ledger_rows import make_pool
from benchmarks.ledger_runs import say
from benchmarks.ledger_writing import NAMES, Seconds, measure_writing
from benchmarks.measuring import Aim, Figure, Report
from storage import open_ledger, tables

P50_AIM_MS = 50.0


@dataclass(frozen=True, slots=True)
class Sizes:
    pool: int
    small_pool: int
    intervals: int = 20
    few_intervals: int = 2
    other_intervals: int = 5
    num_others: int = 2
    shard_rows: int = 65_536
    num_sqlalchemy: int = 5_000
    write_repeats: int = 3
    query_repeats: int = 7
    memory_repeats: int = 2


FULL = Sizes(pool=1_000_000, small_pool=100_000)
QUICK = Sizes(
    pool=20_000,
    small_pool=2_000,
    intervals=10,
    num_others=2,
    shard_rows=4_096,
    num_sqlalchemy=1_000,
    write_repeats=1,
    query_repeats=2,
    memory_repeats=1,
)


def measure_writes(*, quick: bool) -> Report:
    """``python -m benchmarks ledger_writing``."""
    sizes = QUICK if quick else FULL
    with places() as both:
        writing = measure_writing(
            both,
            pool_size=sizes.pool,
            shard_rows=sizes.shard_rows,
            num_repeats=sizes.write_repeats,
            num_sqlalchemy=sizes.num_sqlalchemy,
        )
    return Report(
        [f for name, s in writing.items() for f in _writing_figures(name, s, sizes.pool)],
        {
            "sizes": asdict(sizes),
            "writing_seconds": {name: asdict(seconds) for name, seconds in writing.items()},
        },
    )


def measure_questions(*, quick: bool) -> Report:
    """``python -m benchmarks ledger_queries``."""
    sizes = QUICK if quick else FULL
    forms = Forms(
        large=_form(sizes.pool, sizes.intervals),
        smaller=(_form(sizes.pool, sizes.few_intervals),),
        others=_form(sizes.small_pool, sizes.other_intervals),
        num_others=sizes.num_others,
    )
    with places() as both:
        asking = measure_queries(
            both, forms, shard_rows=sizes.shard_rows, num_repeats=sizes.query_repeats
        )
    return Report(
        [
            *(f for name, a in asking.items() for f in _query_figures(name, a, forms)),
            *(f for name, a in asking.items() for f in _byte_figures(name, a)),
        ],
        {
            "sizes": asdict(sizes),
            "queries": {name: asdict(answer) for name, answer in asking.items()},
        },
    )


def measure_memory(*, quick: bool) -> Report:
    """``python -m benchmarks ledger_memory``."""
    sizes = QUICK if quick else FULL
    with places() as both:
        memory = {place.name: _measure_memory(place, sizes) for place in both}
    return Report(
        [_memory_figure(name, peaks, sizes.pool) for name, peaks in memory.items()],
        {"sizes": asdict(sizes), "peak_memory_mib": memory},
    )


def _form(pool_size: int, intervals: int) -> Form:
    return Form(f"{_count(pool_size)} × {intervals}", pool_size, intervals)


def _writing_figures(database: str, seconds: Seconds, pool_size: int) -> list[Figure]:
    num_scores, num_selections = pool_size, max(1, pool_size // 4)

    def rates(num_rows: int, all_seconds: Sequence[float]) -> list[float]:
        return [num_rows / 1000 / each for each in all_seconds]

    engine = "Arrow insert" if database == "DuckDB" else "COPY, no indices"
    total = num_scores + num_selections
    ours = rates(total, [sum(verbs.values()) for verbs in seconds.ours])
    named = f"{database}: write {_count(num_scores)} scores + {_count(num_selections)} selections"
    unit = "k rows/s"
    figures = []
    for against, kept, aim in (
        (engine, seconds.engine, Aim("≥", 0.7)),
        (f"{engine}, by shard", seconds.engine_per_shard, None),
        ("COPY, our indices", seconds.engine_with_indices, None),
    ):
        if kept:
            alone = rates(total, [sum(parts.values()) for parts in kept])
            figures.append(Figure(named, ours, alone, against, unit, aim))
    figures.append(
        Figure(named, ours, rates(total, seconds.sqlalchemy), "SQLAlchemy executemany", unit)
    )
    for verbs, table, num_rows in (
        (("add_scores", "finish_scoring"), NAMES[0], num_scores),
        (("finish_scoring",), NAMES[0], num_scores),
        (("finish_selection",), NAMES[1], num_selections),
    ):
        figures.append(
            Figure(
                f"{database}: {' and '.join(verbs)}",
                rates(num_rows, [sum(each[verb] for verb in verbs) for each in seconds.ours]),
                rates(num_rows, [each[table] for each in seconds.engine]),
                f"{engine}, {table}",
                unit,
            )
        )
    return figures


def _query_figures(database: str, found: Found, forms: Forms) -> list[Figure]:
    figures = []
    for name in (forms.large.name, forms.among_others):
        for way, kept in (("", found.by_command), (", SQL", found.by_sql)):
            for question, ms in kept[name].items():
                if question == OPENING and kept is found.by_sql:
                    continue
                aim = None if question == OPENING else Aim("≤", 1)
                limit = list(repeat(P50_AIM_MS, len(ms)))
                against = f"aim of {P50_AIM_MS:g} ms"
                figures.append(
                    Figure(f"{database}: {question}{way}, {name}", ms, limit, against, "ms", aim)
                )
    for smaller in forms.smaller:
        linear = Aim("≤", forms.large.num_scores / smaller.num_scores)
        for question in BY_COMMAND:
            figures.append(
                Figure(
                    f"{database}: {question}, {forms.large.name}",
                    found.by_command[forms.large.name][question],
                    found.by_command[smaller.name][question],
                    smaller.name,
                    "ms",
                    linear,
                )
            )
    return figures


def _byte_figures(database: str, found: Found) -> list[Figure]:
    numbers = [
        8 if isinstance(column.type, Double) else 2 if isinstance(column.type, SmallInteger) else 4
        for column in tables.scores.columns
        if not isinstance(column.type, Text)
    ]
    in_all = found.bytes_per_score["scores"] + found.bytes_per_score["selections"]
    return [
        Figure(
            f"{database}: bytes of a score, {what}", [measured], [sum(numbers)], "its numbers", "B"
        )
        for what, measured in (
            ("alone", found.bytes_per_score["scores"]),
            ("selections too", in_all),
            ("the ledger's growth", found.bytes_per_score["growth"]),
        )
    ]


def _measure_memory(place: Place, sizes: Sizes) -> dict[str, list[float]]:
    """Peaks in MiB by number of scores; "0" is a process that opens a ledger and ends."""
    peaks: dict[str, list[float]] = {}
    with new_ledgers(place) as new:
        urls = {}
        for pool_size in (sizes.pool, 10 * sizes.pool):
            urls[pool_size] = new()
            open_ledger(urls[pool_size]).register_pool(make_pool(pool_size, with_texts=False))
            pa.default_memory_pool().release_unused()
        for number in range(sizes.memory_repeats):
            for pool_size, url in ((0, urls[sizes.pool]), *urls.items()):
                say(f"{place.name}: memory of writing {pool_size} scores")
                peak = peak_mib(url, number, pool_size, sizes.shard_rows)
                peaks.setdefault(str(pool_size), []).append(peak)
    return peaks


def _memory_figure(database: str, peaks: dict[str, list[float]], pool_size: int) -> Figure:
    return Figure(
        f"{database}: peak memory of writing {_count(10 * pool_size)} scores",
        peaks[str(10 * pool_size)],
        peaks[str(pool_size)],
        f"{_count(pool_size)} scores",
        "MiB",
        Aim("≤", 1.1),
    )


def _count(number: int) -> str:
    return f"{number / 1e6:g} M" if number >= 1_000_000 else f"{number / 1000:g} k"
