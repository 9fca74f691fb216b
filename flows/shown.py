"""What a run shows in the Prefect UI: its name and tags, progress, a table and a chart, its log.

All of it is sent from a thread of its own: a server that is away costs a picture, never a training
step.
"""

from __future__ import annotations

import base64
import contextvars
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.logging.handlers import APILogHandler

from edco_core.collapse import collapsed
from edco_core.config import GrpoSection
from flows.display import OnProgress, alarm_line, number
from storage import queries

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from edco_core.config import Config
    from edco_core.records import Alarm, Checkpoint
    from flows.open_run import OpenRun

logger = logging.getLogger(__name__)

_OUR_PACKAGES = ("edco_core", "storage", "flows")
_PROGRESS_EVERY_S = 5.0
_LAST_WORDS_S = 10.0


class Shown:
    """What one flow run shows."""

    def __init__(self, flow_run: FlowRun) -> None:
        self._flow_run = flow_run
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edco-shown")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Send our packages' log to the server, and wait a moment for the last pictures."""
        handler = APILogHandler()
        loggers = [
            each
            for each in map(logging.getLogger, _OUR_PACKAGES)
            # A flow inside another: its lines are sent already.
            if not any(isinstance(sends, APILogHandler) for sends in each.handlers)
        ]
        levels = [each.level for each in loggers]
        for each in loggers:
            each.addHandler(handler)
            each.setLevel(logging.INFO)
        try:
            yield
        finally:
            self._wait()
            for each, level in zip(loggers, levels, strict=True):
                each.removeHandler(handler)
                each.setLevel(level)

    def label(self, run: OpenRun) -> None:
        """Name the flow run after the run, with tags to filter by."""
        config = run.config
        tags = {config.curriculum.type, config.training.type, f"run:{run.run_id}"}
        if config.run.experiment is not None:
            tags.add(f"experiment:{config.run.experiment}")

        def update() -> None:
            with get_client(sync_client=True) as client:
                client.update_flow_run(
                    self._flow_run.id, name=run.run_id, tags={*self._flow_run.tags, *tags}
                )

        self._show(update)

    @contextmanager
    def progress(self, label: str) -> Iterator[OnProgress]:
        """A progress artifact with a time estimate, written every few seconds.

        What is done sooner than that gets none.
        """
        began = last = time.perf_counter()
        writing: Future[None] | None = None
        artifact: list[UUID] = []
        newest = (0, 0)

        def write(done: int, total: int, left_s: float | None) -> None:
            share = 100.0 * done / max(1, total)
            left = "" if left_s is None else f", about {duration(left_s)} left"
            text = f"{label}: {done} of {total}{left}"
            if artifact:
                update_progress_artifact(artifact[0], share, description=text)
                return
            key = artifact_key(f"{label}-{self._flow_run.id.hex[:8]}")
            made = create_progress_artifact(share, key=key, description=text)
            assert isinstance(made, UUID)
            artifact.append(made)

        def on_progress(done: int, total: int) -> None:
            nonlocal last, newest, writing
            newest = (done, total)
            now = time.perf_counter()
            if now - last >= _PROGRESS_EVERY_S and (writing is None or writing.done()):
                left_s = (now - began) * (total - done) / done if done else None
                writing = self._show(lambda: write(done, total, left_s))
                last = now

        yield on_progress
        if writing is not None:
            self._show(lambda: write(*newest, None))
        logger.info("%s: %s of %s in %s", label, *newest, duration(time.perf_counter() - began))

    def show_interval(self, run: OpenRun, rows: queries.Rows, checkpoint: Checkpoint) -> None:
        """A table and a chart of all intervals so far, and where the files are."""
        facts = queries.run(run.ledger, run.run_id)
        alarms = run.ledger.alarms(run.run_id)

        def show() -> None:
            from flows.charts import interval_chart  # matplotlib, which takes a second

            key, run_id = artifact_key(run.run_id), run.run_id
            create_table_artifact(
                table(rows, run.config, alarms),
                key=f"{key}-intervals",
                description="\n\n".join(
                    [
                        f"Run {run_id}: scores, turnover and metric, interval by interval.",
                        *map(alarm_line, alarms),
                    ]
                ),
            )
            picture = base64.b64encode(interval_chart(rows, facts)).decode()
            create_image_artifact(
                f"data:image/png;base64,{picture}",
                key=f"{key}-chart",
                description=f"Run {run_id}, {len(rows)} of {run.plan.num_intervals} intervals.",
            )
            create_markdown_artifact(_where(run, checkpoint), key=f"{key}-files")

        self._show(show)

    def _show(self, write: Callable[[], object]) -> Future[None]:
        context = contextvars.copy_context()  # tells Prefect which task run it belongs to

        def attempt() -> None:
            try:
                context.run(write)
            except Exception as error:
                logger.warning("not shown in Prefect: %s: %s", type(error).__name__, error)

        return self._thread.submit(attempt)

    def _wait(self) -> None:
        try:
            self._thread.submit(lambda: None).result(timeout=_LAST_WORDS_S)
        except TimeoutError:
            logger.warning("the last pictures could not be sent to Prefect in time")
        self._thread.shutdown(wait=False, cancel_futures=True)


_TABLE = (
    "interval",
    "n_selected",
    "n_first_time",
    "n_returned",
    "n_stayed",
    "n_left",
    "jaccard",
    "cutoff",
    "score_mean",
    "score_p50",
    "score_p90",
    "score_max",
    "train_loss",
)
_OF_ROLLOUTS = (
    "policy_entropy", "collapsed", "reward_mean", "n_answers", "n_correct", "n_groups",
    "n_without_signal", "n_passed_over",
)  # fmt: skip


def table(
    rows: Sequence[dict[str, Any]], config: Config, alarms: Sequence[Alarm] = ()
) -> list[dict[str, str]]:
    """The cells of the table artifact, a row for each interval."""
    names: tuple[str, ...] = _TABLE
    metric = config.evaluation.metric.type if config.evaluation else "metric"
    cells = [dict(row) for row in rows]
    if isinstance(config.training, GrpoSection):
        names += _OF_ROLLOUTS
        entropies = [row["policy_entropy"] for row in rows]
        for row, is_collapsed in zip(
            cells, collapsed(entropies, config.training.entropy_alarm), strict=True
        ):
            row["collapsed"] = "ALARM" if is_collapsed else "no"
    if config.curriculum.guard is not None:
        names += ("alarms",)
        for row in cells:
            raised = [alarm.alarm for alarm in alarms if alarm.interval == row["interval"]]
            row["alarms"] = ", ".join(raised) or "none"
    return [
        {name: number(row.get(name)) for name in names} | {metric: number(row["metric"])}
        for row in cells
    ]


def duration(seconds: float) -> str:
    """``95`` as ``1 min 35 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def artifact_key(text: str) -> str:
    """Prefect allows small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _where(run: OpenRun, checkpoint: Checkpoint) -> str:
    run_id = run.run_id
    lines = [
        f"**Run `{run_id}`**, after {checkpoint.interval} of {run.plan.num_intervals} intervals",
        "",
        "| what | where |",
        "|---|---|",
        f"| checkpoint | `{checkpoint.path}` |",
        f"| its weights | sha256 `{checkpoint.weights_sha256}` |",
        f"| model, when finished | `{run.run_dir / 'final'}` |",
        f"| report | `edco report {run_id} -o {run_id}.html` |",
        f"| interval by interval | `edco show {run_id}` |",
        f"| why a sample | `edco why {run_id} SAMPLE_ID` |",
        f"| carry on | `edco resume {run_id}` |",
    ]
    return "\n".join(lines)
