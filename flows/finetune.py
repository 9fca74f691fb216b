"""The loop of the paper as a Prefect flow: checkpoint → scoring → selection → training interval.

Tasks take ids and look the rest up; Prefect's result cache is off, because the ledger decides what
is done.
"""

from __future__ import annotations

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import stages
from flows.open_run import get_open_run


@task(name="checkpoint", task_run_name="checkpoint · interval {interval}", cache_policy=NO_CACHE)
def checkpoint(run_id: str, interval: int) -> None:
    with get_open_run(run_id).withholding_texts() as run:
        stages.take_checkpoint(run, interval)


@task(name="score", task_run_name="score · interval {interval}", cache_policy=NO_CACHE)
def score(run_id: str, interval: int) -> None:
    with get_open_run(run_id).withholding_texts() as run:
        stages.score_pool(run, interval)


@task(name="select", task_run_name="select · interval {interval}", cache_policy=NO_CACHE)
def select(run_id: str, interval: int) -> None:
    with get_open_run(run_id).withholding_texts() as run:
        stages.select_curriculum(run, interval)


@task(name="train", task_run_name="train · interval {interval}", cache_policy=NO_CACHE)
def train(run_id: str, interval: int) -> None:
    with get_open_run(run_id).withholding_texts() as run:
        stages.train_interval(run, interval)


@flow(name="finetune", flow_run_name="{run_id}", validate_parameters=False)
def finetune(run_id: str, num_intervals: int) -> None:
    """Fine-tune under a curriculum the model itself chooses, interval by interval."""
    # Signals again: Prefect has put its own handler for SIGTERM.
    with get_open_run(run_id).withholding_texts() as run, run.stopping_on_signals():
        for interval in range(num_intervals):
            checkpoint(run_id, interval)
            score(run_id, interval)
            select(run_id, interval)
            train(run_id, interval)
        stages.finish(run)
