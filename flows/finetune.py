"""The loop of the paper as a Prefect flow: checkpoint → scoring → selection → training interval.

Tasks take ids and look the rest up; Prefect's result cache is off, because the ledger decides what
is done.  torch is imported when there is work to do, and not before: runners load this file to
register, cancel and clean up, and a run that waits for a slot holds no memory.
"""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.states import Cancelled, Completed

from edco_core.config import Config
from flows.begin import WhenFinished, find_work
from flows.flow_run import check_named, current_flow_run
from flows.texts import withholding_texts

logger = logging.getLogger(__name__)


@task(name="checkpoint", task_run_name="checkpoint · interval {interval}", cache_policy=NO_CACHE)
def checkpoint(run_id: str, interval: int) -> State | None:
    return carry_out("take_checkpoint", run_id, interval)


@task(name="score", task_run_name="score · interval {interval}", cache_policy=NO_CACHE)
def score(run_id: str, interval: int) -> State | None:
    return carry_out("score_pool", run_id, interval)


@task(name="select", task_run_name="select · interval {interval}", cache_policy=NO_CACHE)
def select(run_id: str, interval: int) -> State | None:
    return carry_out("select_curriculum", run_id, interval)


@task(name="train", task_run_name="train · interval {interval}", cache_policy=NO_CACHE)
def train(run_id: str, interval: int) -> State | None:
    return carry_out("train_interval", run_id, interval)


@task(name="finish", task_run_name="finish", cache_policy=NO_CACHE)
def finish(run_id: str) -> State | None:
    return carry_out("finish", run_id)


@flow(name="finetune", persist_result=False)
def finetune(
    config: Config, run_id: str | None = None, when_finished: WhenFinished = "skip"
) -> Any:
    """Fine-tune under a curriculum the model itself chooses, interval by interval.

    Args:
        config: What a configuration file holds.
        run_id: Names a new run, or the run to carry on; empty: found by configuration and data.
        when_finished: When a run with this configuration has been finished on this very data:
            skip, or train again.
    """
    withholding = withholding_texts(keep_texts=config.store.keep_texts)
    with current_flow_run().open() as flow_run, flow_run.slot(), withholding:
        check_named(config.store.url, is_deployed=flow_run.is_deployed)
        work = find_work(config, run_id, flow_run.run_id_for(config), when_finished)
        logger.info(work.reason)
        if work.own is None:
            flow_run.outcome = Completed(name="Skipped", message=work.reason)
            return flow_run.outcome
        # torch, from here on.
        from flows.open_run import carrying_out

        with carrying_out(work.own, flow_run) as run:
            for interval in range(run.plan.num_intervals):
                checkpoint(run.run_id, interval)
                score(run.run_id, interval)
                select(run.run_id, interval)
                train(run.run_id, interval)
            finish(run.run_id)
        flow_run.outcome = Completed(message=f"run {run.run_id}: see {run.run_dir / 'final'}")
    return flow_run.outcome


def carry_out(stage: str, run_id: str, *interval: int) -> State | None:
    """A function of flows/stages.py on the run of that id; paused, its task run says so."""
    from flows import open_run, stages

    try:
        run = open_run.get_open_run(run_id)
        with withholding_texts(keep_texts=run.config.store.keep_texts):
            getattr(stages, stage)(run, *interval)
    except Pause:
        return Cancelled(name="Suspended", message="stopped where it can go on: resume the run")
    return None
