"""A comparison as a Prefect flow: every run of it a fine-tune, one after another or some at once.

Which runs there are follows from the configuration, and which are done from the ledger: started
again, it carries on what was interrupted and skips what is finished.  A run that fails does not
stop the others; the table names it.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.exceptions import Pause, TerminationSignal
from prefect.states import Completed, Failed

from edco_core.config_compare import CompareConfig, comparison_of
from edco_core.errors import (
    EdcoError,
    GuardStop,
    LeaseLostError,
    LedgerBusyError,
    ModelError,
    RunBusyError,
    StopRequested,
)
from flows import begin
from flows.calibrate import calibrated
from flows.compare_child import Children
from flows.compare_plan import Planned, PlannedRun, plan_comparison
from flows.compare_result import Result, read_result
from flows.display import number, say
from flows.finetune import finetune
from flows.flow_run import check_named, current_flow_run
from flows.launch import without_address
from flows.shown import artifact_key, duration
from flows.signals import handled
from flows.texts import withholding_texts
from storage import Ledger, open_ledger, queries

logger = logging.getLogger(__name__)


@flow(name="compare", persist_result=False)
def compare(config: CompareConfig) -> Any:
    """Carry out every strategy with every seed, and test them against the random draw.

    Args:
        config: What a configuration file with a section ``compare`` holds.
    """
    withholding = withholding_texts(keep_texts=config.store.keep_texts)
    with current_flow_run().open() as flow_run, flow_run.slot(), stopping_on_signals(), withholding:
        check_named(config.store.url, is_deployed=flow_run.is_deployed)
        planned = plan(config, config.store_url())

        def check_stop() -> None:
            flow_run.look()  # the run that has just stopped may have known it first
            flow_run.raise_if_stopped()

        carry_out(planned, config.store_url(), check_stop)
        result = keep_result(planned, config.store_url())
        create_table_artifact(
            [
                {name: number(row[key]) for key, name in result.columns.items()}
                for row in result.shown
            ],
            key=artifact_key(f"compare-{planned.comparison.name}"),
            description="\n".join([result.title, *result.remarks]),
        )
        message = f"{result.num_finished} of {len(planned.runs)} runs are finished"
        is_done = result.num_finished == len(planned.runs)
        flow_run.outcome = Completed(message=message) if is_done else Failed(message=message)
    return flow_run.outcome


def plan(config: CompareConfig, store_url: str) -> Planned:
    """The runs of a comparison, after all that can be checked; raises InputError."""
    comparison = comparison_of(config)
    return plan_comparison(
        comparison,
        store_url,
        lambda each, inputs: calibrated(
            open_ledger(store_url, on_wait=say), comparison.name, each, inputs
        ),
    )


def keep_result(planned: Planned, store_url: str) -> Result:
    """The table of what is finished, also in the ledger."""
    ledger = open_ledger(store_url, on_wait=say)
    result = read_result(ledger, planned)
    ledger.keep_comparison(planned.comparison.name, result.records)
    return result


def statuses(planned: Planned, store_url: str) -> dict[str, str]:
    """The runs of a comparison that are in the ledger: id to status."""
    if not begin.has_ledger(store_url):
        return {}
    known = {
        row["run_id"]: row["status"]
        for row in queries.runs(open_ledger(store_url, read_only=True, on_wait=say))
    }
    return {run.run_id: known[run.run_id] for run in planned.runs if run.run_id in known}


def carry_out(planned: Planned, store_url: str, check_stop: Callable[[], None]) -> None:
    """All runs that are not finished; ``check_stop`` raises where Prefect wants this to end.

    Raises StopRequested at the first safe point after a signal.
    """
    known = statuses(planned, store_url)
    _refuse_other_base(planned, known, store_url)
    left = [run for run in planned.runs if known.get(run.run_id) != "finished"]
    if len(left) < len(planned.runs):
        say(f"{len(planned.runs) - len(left)} of {len(planned.runs)} runs are finished already")
    for run in left:
        if run.run_id not in known:
            begin.remove_unstarted(Path(run.config.run.output_dir) / run.run_id)
    told = _Progress(len(planned.runs), len(left), planned.comparison.parallel)
    ledger = open_ledger(store_url, on_wait=say) if left else None
    if planned.comparison.parallel == 1:
        for run in left:
            check_stop()
            try:
                problem = _carry_out_here(run, store_url, is_known=run.run_id in known)
            except StopRequested:
                check_stop()
                raise
            told.ended(run, problem, ledger)
        return
    with Children(planned.comparison.parallel, store_url) as children:
        for run, problem in children.carry_out(left, known):
            told.ended(run, problem, ledger)
            check_stop()


def _refuse_other_base(planned: Planned, known: Iterable[str], store_url: str) -> None:
    """Raise ModelError where runs of before began with other weights: they would be no pairs."""
    from edco_core.base_model import base_fingerprint

    now: dict[str, str] = {}
    for run in planned.runs:
        name = run.config.model.name_or_path
        if run.run_id not in known or name.startswith("run:"):  # whose checkpoint cannot change
            continue
        if name not in now:
            now[name] = base_fingerprint(run.config.model)
        plan = open_ledger(store_url, read_only=True, on_wait=say).run_state(run.run_id).plan
        if plan["base_model"] != now[name]:
            raise ModelError(
                f"{name}: run {run.run_id} of this comparison began with another base model. "
                "Restore its files, or give the comparison another name (run.experiment)."
            )


def _carry_out_here(run: PlannedRun, store_url: str, *, is_known: bool) -> str | None:
    """A run in this process, as a sub-flow; what went wrong, in words."""
    say(f"run {run.run_id}")
    try:
        if is_known:
            opened = begin.reopen(store_url, run.run_id)
        else:
            opened = begin.start(run.config, store_url, run.run_id)()
        with opened.stopping_on_signals(), opened.owned():
            opened.warm_up()
            finetune(without_address(opened.config), run.run_id)
    except GuardStop as error:
        return str(error)
    except (Pause, TerminationSignal) as error:
        raise StopRequested("stopped by Prefect or by SIGTERM") from error
    except (StopRequested, LedgerBusyError):
        raise
    except (RunBusyError, LeaseLostError) as error:
        return f"another process works on it: {error}"
    except EdcoError as error:
        return str(error)
    except Exception as error:
        logger.debug("run %s", run.run_id, exc_info=True)
        return f"{type(error).__name__}: {error}"
    return None


def stopping_on_signals() -> AbstractContextManager[None]:
    """Between runs, SIGINT and SIGTERM stop at once: everything is in the ledger by then."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise StopRequested(f"stopped by {signal.Signals(signum).name}")

    return handled(stop)


@dataclass
class _Progress:
    """Tells after each run how far the comparison is."""

    total: int
    left: int
    parallel: int
    began: float = field(default_factory=time.perf_counter)
    num_ended: int = 0

    def ended(self, run: PlannedRun, problem: str | None, ledger: Ledger | None) -> None:
        self.num_ended += 1
        words = f"failed: {problem}" if problem else "finished"
        if problem is None and ledger is not None:
            row = queries.run(ledger, run.run_id)
            words = f"{row['metric']} {number(row['last_metric'])}"
        left = self.left - self.num_ended
        line = f"{self.total - left} of {self.total}: {run.label}, seed {run.seed}: {words}"
        if left:
            each = (time.perf_counter() - self.began) / self.num_ended
            line += f"; about {duration(each * left)} left"
        say(line)
