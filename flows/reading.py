"""The reading commands: what each prints, over the queries of the ledger."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from typing import Any

from edco_core.errors import InputError
from flows.display import INTERVAL_COLUMNS, number, print_table
from storage import Ledger, queries

_TERMINAL_ROWS = 100
_SPARKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Answer:
    """Facts for ``--json``, and how to print them for people."""

    facts: Any
    lines: list[str]
    rows: list[dict[str, Any]]
    columns: dict[str, str]
    after: list[str]

    def print(self) -> None:
        for line in self.lines:
            print(line)
        if self.rows:
            print_table(self.rows, self.columns)
        for line in self.after:
            print(line)


def live_status(run: dict[str, Any]) -> str:
    """The status of a run; one that says it is running must have a live lease."""
    if run["status"] == "running" and not run["alive"]:
        return "lost (no sign of life)"
    if run["status"] == "running" and run["current_stage"] is not None:
        return f"running ({run['current_interval']} {run['current_stage']})"
    return str(run["status"])


def show_run(ledger: Ledger, prefix: str) -> Answer:
    """One run, interval by interval."""
    run_id = ledger.find_run(prefix)
    run = queries.run(ledger, run_id)
    rows = queries.intervals(ledger, run_id)
    evaluations = queries.evaluations(ledger, run_id)
    lines = [
        f"run       {run_id}  {live_status(run)}",
        f"model     {run['model']}  {run['trainer']}, strategy {run['strategy']}, "
        f"seed {run['seed']}",
        f"pool      {run['dataset_id']}  {run['pool_size']} samples, {run['top_n']} per interval",
        f"time      scoring {number(run['scoring_seconds'], 1)} s, training "
        f"{number(run['training_seconds'], 1)} s, evaluation "
        f"{number(run['evaluation_seconds'], 1)} s",
    ]
    if run["message"]:
        lines.append(f"message   {run['message']}")
    baseline = [e for e in evaluations if e["interval"] < 0 and e["category"] is None]
    after = [f"{e['metric']} before training: {e['value']:.3f}" for e in baseline]
    measured = [row for row in rows if row["metric"] is not None]
    if measured:
        best = max(measured, key=lambda row: row["metric"])
        after.append(
            f"best: {best['metric']:.3f} after interval {best['interval']}, "
            f"saved under {run['run_dir']}/checkpoints/interval-{best['interval']:03d}"
        )
    facts = {"run": run, "intervals": rows, "evaluations": evaluations}
    return Answer(facts, lines, rows, INTERVAL_COLUMNS, after)


def show_turnover(ledger: Ledger, prefix: str) -> Answer:
    """How each curriculum differs from the one before."""
    run_id = ledger.find_run(prefix)
    rows = queries.turnover(ledger, run_id)
    columns = {
        "interval": "interval", "n_selected": "selected", "n_entered": "entered",
        "n_first_time": "first-time", "n_returned": "returned", "n_stayed": "stayed",
        "n_left": "left", "jaccard": "jaccard",
    }  # fmt: skip
    return Answer(rows, [], rows, columns, [] if rows else ["no curriculum has been selected yet"])


def show_difficult(ledger: Ledger, prefix: str, limit: int, min_streak: int) -> Answer:
    """Samples selected again and again."""
    run_id = ledger.find_run(prefix)
    rows = queries.difficult(ledger, run_id, limit=limit, min_streak=min_streak)
    columns = {
        "sample_id": "sample", "times_selected": "selected", "longest_streak": "streak",
        "score_first": "first score", "score_last": "last score", "category": "category",
        "prompt": "prompt",
    }  # fmt: skip
    shown = [row | {"prompt": _one_line(row["prompt"], 70)} for row in rows]
    empty = f"no sample was selected {min_streak} intervals in a row"
    return Answer(rows, [], shown, columns, [] if rows else [empty])


def why_sample(ledger: Ledger, prefix: str, sample: str, interval: int | None) -> Answer:
    """Why a sample was in the curriculum of each interval, or why not."""
    run_id = ledger.find_run(prefix)
    facts = queries.why(ledger, run_id, sample, interval)
    found, history = facts["sample"], facts["history"]
    lines = [
        f"sample    {found['sample_id']}"
        + (f"  category {found['category']}" if found["category"] else "")
        + (f"  from {found['source']}" if found["source"] else ""),
        f"prompt    {_one_line(found['prompt'], 160)}",
        f"answer    {_one_line(found['completion'], 160)}",
    ]
    scores = [row["score"] for row in history]
    if len(scores) > 1:
        lines.append(f"score     {sparkline(scores)}  {scores[0]:.3f} → {scores[-1]:.3f}")
    for row in history:
        row["explanation"] = explain(row)
    columns = {
        "interval": "interval", "score": "score", "rank": "rank", "percentile": "percentile",
        "cutoff": "cutoff", "checkpoint_id": "checkpoint", "explanation": "why",
    }  # fmt: skip
    return Answer(facts, lines, history, columns, [])


def explain(row: dict[str, Any]) -> str:
    """One interval's decision about one sample, in words, from what the ledger stores."""
    rule = row["selection_facts"]
    if rule is None:
        return "scored; no curriculum has been selected yet"
    rank = f"rank {row['rank']} of {row['n_scored']}"
    if rule.get("rule") not in ("edco", "random"):  # a strategy that explains nothing more
        where = f"in, at position {row['position']}" if row["selected"] else "out"
        return f"{where}: {row['reason'] or 'not selected'} ({rank}, cutoff {row['cutoff']})"
    if row["selected"]:
        place = f"in, at position {row['position']}"
        if rule["rule"] == "random":
            return f"{place}: drawn uniformly, {rule['num_samples']} of {rule['pool_size']}"
        if rule["temperature"] == 0:
            return f"{place}: among the {rule['num_samples']} highest ({rank})"
        return f"{place}: drawn with probability {row['probability']:.3f} ({rank})"
    if rule["rule"] == "random":
        share = rule["num_samples"] / rule["pool_size"]
        return f"out: not drawn; every sample had probability {share:.3f}"
    if row["rank"] <= rule["num_skipped"]:
        return f"out: among the {rule['num_skipped']} highest, which skip_top leaves out ({rank})"
    if rule["temperature"] == 0:
        missed = row["cutoff"] - row["score"]
        return f"out: {missed:.4f} below the cutoff {row['cutoff']:.4f} ({rank})"
    # Only here is a strategy's formula needed; reading commands otherwise load no NumPy.
    import numpy as np

    from edco_core.curriculum.edco import inclusion_probability

    chance = float(inclusion_probability(np.array([row["score"]]), rule)[0])
    return f"out: not drawn; its probability was {chance:.3f} ({rank})"


def sparkline(values: list[float]) -> str:
    """Values as a row of bars, lowest to highest."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_SPARKS[round((v - low) / span * (len(_SPARKS) - 1))] for v in values)


def run_query(
    ledger: Ledger,
    sql: str,
    params: list[str],
    output: str,
    limit: int | None,
    timeout_s: float,
) -> None:
    """Run read-only SQL and write the rows in one of four formats to standard output."""
    writers = {"table": _as_table, "json": _as_json, "csv": _as_csv, "parquet": _as_parquet}
    if output not in writers:
        raise InputError(f"--format {output}: allowed are {', '.join(sorted(writers))}.")
    given = {}
    for param in params:
        name, separator, value = param.partition("=")
        if not separator or not name.isidentifier():
            raise InputError(f"-p {param}: expected name=value, for :name in the SQL.")
        given[name] = value  # text: the database knows what it is compared with
    if output == "table" and limit is None and sys.stdout.isatty():
        limit = _TERMINAL_ROWS + 1
        names, rows = ledger.query(sql, given, limit=limit, timeout_s=timeout_s)
        _as_table(names, rows[:_TERMINAL_ROWS])
        if len(rows) > _TERMINAL_ROWS:
            print(f"first {_TERMINAL_ROWS} rows; --limit 0 shows all", file=sys.stderr)
        return
    names, rows = ledger.query(sql, given, limit=limit or None, timeout_s=timeout_s)
    if output in ("json", "parquet") and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two columns are named {twice}: only one would be kept. Rename with AS.")
    writers[output](names, rows)


def _as_table(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    # By position: two columns of a result may have one name.
    print_table(
        [{str(i): value for i, value in enumerate(row)} for row in rows],
        {str(i): name for i, name in enumerate(names)},
    )


def _as_json(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    records = [dict(zip(names, map(queries.jsonable, row), strict=True)) for row in rows]
    print(json.dumps(records, indent=2, ensure_ascii=False))


def _as_csv(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def _as_parquet(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    if sys.stdout.isatty():
        raise InputError("--format parquet writes bytes; send them to a file: … > rows.parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    table = pa.table(dict(zip(names, map(pa.array, columns), strict=True)))
    pq.write_table(table, sys.stdout.buffer)


def _one_line(text: str | None, width: int) -> str:
    flat = " ⏎ ".join((text or "").split("\n"))
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"
