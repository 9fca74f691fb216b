"""``edco compare``: checks first, then the flow, then the table."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edco_core.config import Config
from edco_core.config_compare import CompareConfig
from edco_core.errors import StopRequested
from flows import begin
from flows.compare_plan import Cost, NotMeasuredError, Planned, check_runs, plan_comparison
from flows.compare_result import Result, read_result
from flows.display import say
from flows.launch import command, without_address
from flows.prepare import Inputs, check_ledger
from flows.server import prefect_api
from storage import open_ledger


def compare_strategies(
    config: CompareConfig, path: Path, store_url: str, *, offline: bool = False
) -> Result:
    """Carry out what is left of a comparison, and give its table, which the ledger gets as well."""
    began = time.perf_counter()
    check_ledger(store_url)
    again = command("compare", str(path), store_url)
    # For the runs, wherever they are carried out: Prefect must not see an address.
    os.environ["EDCO_STORE"] = store_url
    with ExitStack() as stack:
        server = stack.enter_context(prefect_api(offline=offline))
        from prefect.exceptions import FailedRun, Pause, TerminationSignal

        from flows import compare

        planned = compare.plan(config, store_url)
        done = list(compare.statuses(planned, store_url).values()).count("finished")
        say(
            f"{_summary(planned)}; {done} finished; ready after {time.perf_counter() - began:.1f} s"
        )
        if done < len(planned.runs):
            check_runs(planned, store_url)
            if server is not None:
                stack.enter_context(server.ready())
            try:
                compare.compare(without_address(config))
            except FailedRun:
                pass  # of some runs, which the table names
            except (Pause, TerminationSignal, StopRequested, KeyboardInterrupt) as error:
                say(f"interrupted; what is done is kept. To carry on: {again}")
                raise StopRequested(str(error) or "stopped by SIGINT") from error
        return compare.keep_result(planned, store_url)


def show_comparison(config: CompareConfig, store_url: str) -> Result:
    """The table of what is finished by now; nothing is run or written."""
    check_ledger(store_url)
    planned = _planned(config, store_url)
    return read_result(open_ledger(store_url, read_only=True, on_wait=say), planned)


def describe_comparison(config: CompareConfig, store_url: str) -> dict[str, Any]:
    """What a comparison comes to, for ``edco validate``, which measures nothing."""
    ledger = check_ledger(store_url)
    try:
        planned, is_measured = _planned(config, store_url), True
    except NotMeasuredError:
        planned, is_measured = _planned(config, store_url, measured=False), False
    check_runs(planned, store_url)
    facts: dict[str, Any] = {"comparison": _summary(planned), "metric": planned.metric}
    for arm in planned.arms:
        plan = arm.plan
        facts[arm.label] = arm.strategy
        if is_measured:
            facts[arm.label] += (
                f", {plan.num_intervals} intervals of {plan.samples_per_interval} "
                f"samples, {plan.total_steps} steps"
            )
        if is_measured and arm.planned_seconds is not None:
            facts[arm.label] += f", about {arm.planned_seconds:.0f} s"
    if not is_measured:
        facts["budget"] = "in seconds: 'edco compare' measures what the strategies cost, then plans"
    return facts | {"ledger": ledger}


_SOME_STEPS = 64
"""What a budget in seconds is taken for until it is measured, so that all else can be checked."""


def _planned(config: CompareConfig, store_url: str, *, measured: bool = True) -> Planned:
    from edco_core.config_compare import comparison_of
    from flows.calibrate import stored_cost

    comparison = comparison_of(config)
    known = begin.has_ledger(store_url)
    ledger = open_ledger(store_url, read_only=True, on_wait=say) if known else None

    def cost(each: Config, inputs: Inputs) -> Cost:
        if measured:
            return stored_cost(ledger, comparison.name, each, inputs)
        assert comparison.budget is not None
        assert comparison.budget.seconds is not None
        return Cost(step=comparison.budget.seconds / _SOME_STEPS, interval=0.0, scoring=0.0)

    return plan_comparison(comparison, store_url, cost)


def _summary(planned: Planned) -> str:
    return (
        f"{planned.comparison.name}: {len(planned.arms)} strategies × "
        f"{len(planned.comparison.seeds)} seeds = {len(planned.runs)} runs"
    )
