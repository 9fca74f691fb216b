"""The reading commands: what each prints, over the queries of the ledger."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from edco_core.collapse import collapsed
from edco_core.retention import num_bytes
from flows.display import alarm_line, collapse_alarm, interval_columns, number, print_table
from flows.texts import with_texts
from storage import Ledger, queries
from storage.queries import Rows

_NO_TEXT = "(text not kept in the ledger)"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found: facts for ``--json``, rows for ``--csv``, and how people see it."""

    facts: Any
    rows: Rows
    columns: dict[str, str]
    """Of the rows people see: key to heading."""
    shown: Sequence[dict[str, Any]] | None = None
    """The rows people see, where they are not ``rows`` themselves."""
    lines: Sequence[str] = ()
    after: Sequence[str] = ()

    def print(self) -> None:
        """For people."""
        for line in self.lines:
            print(line)
        if self.rows:
            print_table(self.rows if self.shown is None else self.shown, self.columns)
        for line in self.after:
            print(line)

    def print_csv(self) -> None:
        """For programs: every column, with its names also where there are no rows."""
        writer = csv_writer(sys.stdout)
        writer.writerow(self.rows.columns)
        writer.writerows([cell(row[name]) for name in self.rows.columns] for row in self.rows)


class _Lines:
    """Ends lines with a line feed, as programs on Unix expect it."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


def csv_writer(file: IO[str]) -> Any:
    """A writer that quotes carriage returns, which the standard one does for its own line ends."""
    return csv.writer(_Lines(file), lineterminator="\r\n")


def cell(value: Any) -> Any:
    """A value as CSV holds it: what ``--json`` gives, lists and objects as JSON."""
    value = queries.jsonable(value)
    if isinstance(value, (bool, dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return value


def live_status(run: dict[str, Any]) -> str:
    """The status of a run; one that says it is running must have a live lease."""
    if run["status"] == "running" and not run["alive"]:
        return "lost (no sign of life)"
    if run["status"] == "running" and run["current_stage"] is not None:
        return f"running ({run['current_interval']} {run['current_stage']})"
    return str(run["status"])


def show_runs(ledger: Ledger) -> Answer:
    """All runs."""
    rows = queries.runs(ledger)
    columns = {
        "run_id": "run", "status": "status", "strategy": "strategy", "intervals": "intervals",
        "pool_size": "pool", "top_n": "top N", "metric": "metric", "last_metric": "last",
        "best_metric": "best", "created_at": "created",
    }  # fmt: skip
    shown = [
        row
        | {
            "status": live_status(row),
            "intervals": f"{row['intervals_done']}/{row['intervals_planned']}",
            "created_at": str(row["created_at"])[:16].replace("T", " "),
        }
        for row in rows
    ]
    empty = "there is no run yet; begin with: edco run CONFIG"
    return Answer(rows, rows, columns, shown, after=[] if rows else [empty])


def _after(checkpoint: int) -> str:
    """Where a checkpoint is from; they are numbered by the interval that begins with them."""
    return f"after interval {checkpoint - 1}" if checkpoint else "as it began"


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
    if run["parent_run_id"] is not None:
        lines.insert(2, f"parent    {run['parent_run_id']}, {_after(run['parent_interval'])}")
    if run["message"]:
        lines.append(f"message   {run['message']}")
    after = baseline_lines(evaluations, run["metric"])
    measured = [row for row in rows if row["metric"] is not None]
    if measured:
        best = max(measured, key=lambda row: row["metric"])
        saved = ledger.checkpoint(run_id, best["interval"] + 1)
        where = f", saved as {saved.path}" if saved else ""
        after.append(f"best: {best['metric']:.3f} after interval {best['interval']}{where}")
    scored = [row for row in rows if row["n_scored"]]
    if any(row["n_rescored"] < row["n_scored"] for row in scored):
        share = sum(row["n_rescored"] for row in scored) / sum(row["n_scored"] for row in scored)
        found = [row["recall_estimate"] for row in scored if row["recall_estimate"] is not None]
        after.append(
            f"scored: {share:.1%} of what scoring everything would have been; recall of what that "
            f"would have selected, by audit: {min(found):.3f} at the lowest"
        )
    after += _rollout_lines(rows, _entropy_alarm(ledger, run_id))
    usage = _judge_usage(ledger, run_id, rows)
    if usage is not None:
        after.append(
            f"judge: {usage['num_requests']} answers judged, {usage['input_tokens']} tokens read "
            f"and {usage['output_tokens']} written, cost {usage['cost']:.4g}"
        )
    alarms = ledger.alarms(run_id)
    after += map(alarm_line, alarms)
    checkpoints = [_with_size(row) for row in queries.checkpoints(ledger, run_id)]
    if checkpoints:
        after.append(_on_disk(checkpoints))
    facts = {
        "run": run, "intervals": rows, "evaluations": evaluations, "checkpoints": checkpoints,
        "judge": usage,
        "alarms": [asdict(alarm) for alarm in alarms],
    }  # fmt: skip
    return Answer(facts, rows, interval_columns(rows, run), lines=lines, after=after)


def _rollout_lines(rows: Sequence[dict[str, Any]], alarm_share: float) -> list[str]:
    """What was sampled in reinforcement learning, and whether the policy's entropy collapsed."""
    sampled = [row for row in rows if row["n_groups"]]
    if not sampled:
        return []
    total = {
        name: sum(row[name] for row in sampled)
        for name in ("n_answers", "n_correct", "n_groups", "n_without_signal", "n_passed_over")
    }
    line = (
        f"rollouts: {total['n_answers']} answers sampled, "
        f"{total['n_correct'] / total['n_answers']:.1%} right; {total['n_without_signal']} of "
        f"{total['n_groups']} groups without signal"
    )
    if total["n_passed_over"]:
        line += f"; {total['n_passed_over']} groups were passed over and not trained on"
    lines = [line]
    is_collapsed = collapsed([row["policy_entropy"] for row in sampled], alarm_share)
    if any(is_collapsed):
        which = [row["interval"] for row, each in zip(sampled, is_collapsed, strict=True) if each]
        lines.append(collapse_alarm(which, alarm_share))
    return lines


def _judge_usage(
    ledger: Ledger, run_id: str, rows: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """What judges were asked and cost until the last interval that is finished."""
    done = [row["interval"] for row in rows if row["status"] == "done"]
    facts = ledger.stage_facts(run_id, done[-1], "training") if done else None
    return (facts or {}).get("judge")


def _entropy_alarm(ledger: Ledger, run_id: str) -> float:
    training = ledger.run_state(run_id).config.get("training") or {}
    return float(training.get("entropy_alarm") or 0.0)


def baseline_lines(evaluations: list[dict[str, Any]], metric: str | None) -> list[str]:
    """What was measured before training; of further metrics also the newest value."""
    whole = [each for each in evaluations if each["category"] is None]
    lines = []
    for first in (each for each in whole if each["interval"] < 0):
        line = f"{first['metric']} before training: {first['value']:.3f}"
        last = max(
            (each for each in whole if each["metric"] == first["metric"]),
            key=lambda each: each["interval"],
        )
        if first["metric"] != metric and last is not first:  # the metric has its own column
            line += f", after interval {last['interval']}: {last['value']:.3f}"
        lines.append(line)
    return lines


def _with_size(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Whether its files are here, and their size."""
    folder = Path(checkpoint["path"])
    there = checkpoint["removed_at"] is None and folder.is_dir()
    return checkpoint | {"on_disk": there, "num_bytes": num_bytes(folder) if there else 0}


def _on_disk(checkpoints: Sequence[dict[str, Any]]) -> str:
    here = [row for row in checkpoints if row["on_disk"]]
    num_removed = sum(row["removed_at"] is not None for row in checkpoints)
    num_missing = len(checkpoints) - len(here) - num_removed
    megabytes = sum(row["num_bytes"] for row in here) / 1e6
    names = ("start" if row["interval"] == 0 else str(row["interval"] - 1) for row in here)
    line = f"checkpoints on disk: {megabytes:.1f} MB, after interval {', '.join(names) or 'none'}"
    line += f"; {num_removed} removed (run.keep_checkpoints)" if num_removed else ""
    return line + (f"; {num_missing} not found here" if num_missing else "")


def show_turnover(ledger: Ledger, prefix: str) -> Answer:
    """How each curriculum differs from the one before."""
    run_id = ledger.find_run(prefix)
    rows = queries.turnover(ledger, run_id)
    columns = {
        "interval": "interval", "n_selected": "selected", "n_entered": "entered",
        "n_first_time": "first-time", "n_returned": "returned", "n_stayed": "stayed",
        "n_left": "left", "jaccard": "jaccard",
    }  # fmt: skip
    empty = "no curriculum has been selected yet"
    return Answer(rows, rows, columns, after=[] if rows else [empty])


def show_difficult(
    ledger: Ledger, prefix: str, limit: int, min_streak: int, never_learned: bool
) -> Answer:
    """Samples selected again and again; with ``never_learned``, those it did not help."""
    run_id = ledger.find_run(prefix)
    rows = queries.difficult(
        ledger, run_id, limit=limit, min_streak=min_streak, never_learned=never_learned
    )
    rows = Rows(rows.columns, with_texts(ledger, run_id, rows))
    columns = {
        "sample_id": "sample", "times_selected": "selected", "longest_streak": "streak",
        "score_first": "first score", "score_last": "last score", "category": "category",
        "prompt": "prompt",
    }  # fmt: skip
    shown = [row | {"prompt": one_line(row["prompt"], 70)} for row in rows]
    empty = f"no sample was selected {min_streak} intervals in a row"
    if never_learned:
        empty += " without its score falling"
    return Answer(rows, rows, columns, shown, after=[] if rows else [empty])


def one_line(text: str | None, width: int) -> str:
    flat = _NO_TEXT if text is None else " ⏎ ".join(text.splitlines())
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"
