"""What a person at a terminal sees: progress with a time estimate, and tables."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from edco_core.records import Alarm

logger = logging.getLogger(__name__)

_NARROWEST = 12
"""Of a column of text, in characters."""

OnProgress = Callable[[int, int], None]


def say(message: str, *, log: bool = True) -> None:
    """A line for people, on standard error: standard output is for results.

    In a flow run Prefect's log gets it as well, but for what must not be kept (``log=False``).
    """
    print(message, file=sys.stderr, flush=True)
    if log:
        logger.info(message)


@contextmanager
def progress(label: str) -> Iterator[OnProgress]:
    """A bar on standard error, silent when that is not a terminal; takes (done, total)."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    bar = Progress(
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def number(value: object, digits: int = 3) -> str:
    """A cell: floats to ``digits`` places (small ones to as many figures), nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        small = 0 < abs(value) < 10.0**-digits
        return f"{value:.{digits}g}" if small else f"{value:.{digits}f}"
    return str(value)


def print_table(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, title: str | None = None
) -> None:
    """Rows as a table on standard output; ``columns`` maps a key of the rows to its heading."""
    cells = [{key: number(row.get(key)) for key in columns} for row in rows]
    numbers = {k for k in columns if any(isinstance(row.get(k), int | float) for row in rows)}
    # A number is never broken in two: text is, then headings are, then each row is a block.
    content = {key: max([1, *(cell_len(row[key]) for row in cells)]) for key in columns}
    least = {key: n if key in numbers else min(n, _NARROWEST) for key, n in content.items()}
    whole = {key: max(n, cell_len(columns[key])) for key, n in content.items()}
    widths = {k: max([n, *map(cell_len, columns[k].split())]) for k, n in least.items()}
    # Piped output has no width of its own; a cut table would be worse than a long line.
    available = Console().width if sys.stdout.isatty() else 200
    room = available - 3 * len(columns) - 1
    if sum(whole.values()) <= room:
        widths = whole
    while sum(widths.values()) > room and (wide := [k for k in widths if widths[k] > least[k]]):
        widths[max(wide, key=widths.__getitem__)] -= 1
    if sum(least.values()) > room and len(columns) > 1:
        _print_records(cells, columns, title, available)
        return
    # As plain text: prompts hold [INST], which is markup to a table.
    table = Table(
        title=None if title is None else Text(title),
        title_justify="left", header_style="bold", box=box.SIMPLE,
    )  # fmt: skip
    for key, heading in columns.items():
        width, justify = (widths[key], "right") if key in numbers else (None, "left")
        table.add_column(
            Text(heading), justify=cast(Literal["left", "right"], justify), width=width,
            overflow="fold",
        )  # fmt: skip
    for row in cells:
        table.add_row(*(Text(row[key]) for key in columns))
    _plain_console(available, len(cells)).print(table, crop=False)


def _print_records(
    cells: Sequence[Mapping[str, str]], columns: Mapping[str, str], title: str | None, width: int
) -> None:
    """Rows that are wider than the screen, each as lines of heading and value."""
    if title is not None:
        print(title)
    console = _plain_console(width, len(cells) * (len(columns) + 2))
    for number_of_row, row in enumerate(cells, 1):
        print(f"\n{number_of_row} of {len(cells)}")
        block = Table(box=None, show_header=False, pad_edge=False)
        block.add_column(no_wrap=True)
        block.add_column(overflow="fold")
        for key, heading in columns.items():
            block.add_row(Text(f"  {heading}"), Text(row[key]))
        console.print(block, crop=False)


def _plain_console(width: int, num_lines: int) -> Console:
    """A dumb terminal's width is obeyed only where the height is given as well."""
    return Console(width=width, height=num_lines + 10)


def label_of(name: str) -> str:
    """A name of the configuration as words."""
    return name.replace("_", " ")


def mean_label(scorer: str) -> str:
    """What the mean of a pool's scores is the mean of."""
    if "entropy" in scorer:
        return "mean entropy"
    return "mean score" if ":" in scorer else f"mean {label_of(scorer)}"


def interval_columns(rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> dict[str, str]:
    """Headings for a run's intervals, of what there is to show; ``run`` as in ``run_summary``.

    How many were scored is shown only where some kept an older score.
    """
    named = {"score_mean": mean_label(run["scorer"]), "metric": run["metric"] or "metric"}
    columns = INTERVAL_COLUMNS | named
    left_out: set[str] = set()
    if not any((row["n_rescored"] or 0) < (row["n_scored"] or 0) for row in rows):
        left_out |= {"n_rescored", "recall_estimate"}
    if all(row["n_groups"] is None for row in rows):
        left_out |= {"policy_entropy", "reward_mean", "n_groups", "n_without_signal"}
    return {key: heading for key, heading in columns.items() if key not in left_out}


def collapse_alarm(intervals: Sequence[int], alarm_share: float) -> str:
    """The alarm, for people."""
    return (
        f"ALARM: the policy's entropy collapsed in interval {', '.join(map(str, intervals))}: "
        f"below {alarm_share:.0%} of the first interval's (training.entropy_alarm). More KL "
        "(args.beta), a lower learning rate or a wider curriculum (curriculum.temperature) slow "
        "that down."
    )


_AFTER_ALARM = {
    "warn": "nothing is changed",
    "temper": "the temperature is doubled from the next interval on",
    "fall_back_random": "curricula are drawn at random from the next interval on",
    "stop": "the run stops",
}
"""What comes of an alarm."""


def alarm_line(alarm: Alarm) -> str:
    """An alarm of the guard, for people."""
    return (
        f"ALARM {alarm.alarm}, interval {alarm.interval}: {alarm.message} "
        f"({_AFTER_ALARM[alarm.action]})"
    )


INTERVAL_COLUMNS = {
    "interval": "interval",
    "n_rescored": "scored",
    "recall_estimate": "recall",
    "score_mean": "mean",
    "cutoff": "cutoff",
    "n_entered": "entered",
    "n_first_time": "first-time",
    "n_returned": "returned",
    "n_stayed": "stayed",
    "n_left": "left",
    "train_loss": "train loss",
    "policy_entropy": "policy entropy",
    "reward_mean": "reward",
    "n_groups": "groups",
    "n_without_signal": "no signal",
    "metric": "metric",
}
