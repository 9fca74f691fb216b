"""A pool scored by one checkpoint, into the ledger: on a schedule, entropy through time.

In the ledger it is a run of one interval with trainer and strategy ``none``, so every view about
scores holds for it.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from edco_core.config import Config, parse_config
from edco_core.errors import ConfigError, InputError, NotFoundError
from edco_core.records import Checkpoint, Lease, Pool, RunSpec
from flows import begin
from flows.finetune import carry_out
from flows.flow_run import FlowRun, check_named, current_flow_run
from flows.lineage import with_parent
from flows.prepare import (
    check_ledger,
    check_writable,
    load_training_pool,
    package_versions,
    with_absolute_paths,
)
from flows.texts import withholding_texts
from storage import open_ledger, queries

if TYPE_CHECKING:
    from flows.open_run import OpenRun

logger = logging.getLogger(__name__)


@task(name="score", task_run_name="score", cache_policy=NO_CACHE)
def score(run_id: str) -> State | None:
    return carry_out("score_pool", run_id, 0)


@flow(name="score_pool", persist_result=False)
def score_pool(
    config: Config, checkpoint: str | None = None, when_finished: begin.WhenFinished = "skip"
) -> Any:
    """Score the pool once with one checkpoint, to follow its entropy through time.

    Args:
        config: What a configuration file holds; of it, model, data, scoring and store.
        checkpoint: Folder of an adapter or of a whole model; empty: the base model.
        when_finished: When these weights have scored this very data in the same way: skip, or
            score again.
    """
    withholding = withholding_texts(keep_texts=config.store.keep_texts)
    with current_flow_run().open() as flow_run, flow_run.slot(), withholding:
        check_named(config.store.url, is_deployed=flow_run.is_deployed)
        # torch, from here on.
        wanted = _prepare(config, checkpoint)
        known = None if when_finished == "again" else _find(wanted)
        if known is not None:
            flow_run.outcome = Completed(
                name="Skipped",
                message=f"run {known} holds the scores of these weights "
                f"({wanted.weights_sha256[:12]}) on this data "
                f"({wanted.pool.fingerprint[:12]}); nothing to do",
            )
            return flow_run.outcome
        from flows.open_run import carrying_out

        with carrying_out(lambda: _open(wanted, flow_run), flow_run, warm_up=False) as run:
            _keep_checkpoint(run, wanted)
            score(run.run_id)
        row = queries.intervals(run.ledger, run.run_id)[0]
        message = f"run {run.run_id}: mean {row['score_mean']:.4f}, median {row['score_p50']:.4f}"
        logger.info(message)
        flow_run.outcome = Completed(message=message)
    return flow_run.outcome


@dataclass(frozen=True, slots=True)
class _Wanted:
    config: Config
    store_url: str
    pool: Pool
    host: Any
    folder: Path
    weights_sha256: str
    base_model: str

    @property
    def identity(self) -> dict[str, str]:
        return {"weights": self.weights_sha256, "base_model": self.base_model}


def _prepare(config: Config, checkpoint: str | None) -> _Wanted:
    """Check and load everything; changes nothing.  Raises InputError and its kin."""
    store_url = config.store_url()
    config, parent = with_parent(with_absolute_paths(config), store_url)
    folder = None if not checkpoint else Path(checkpoint).expanduser().resolve()
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"checkpoint: '{checkpoint}' is no folder. Give one that holds an adapter or a model, "
            "such as runs/RUN_ID/final, or leave it empty for the base model."
        )
    check_writable(Path(config.run.output_dir), "run.output_dir")
    check_ledger(store_url)
    pool = load_training_pool(config)
    from edco_core.base_model import base_fingerprint, base_folder
    from edco_core.loading import ModelHost, check_model

    if parent is not None:
        parent.make()
    check_model(config.model)
    host = ModelHost(config.model, seed=config.run.seed)
    weights_sha256 = host.load_folder(folder)
    return _Wanted(
        config, store_url, pool, host, folder or base_folder(config.model), weights_sha256,
        base_fingerprint(config.model),
    )  # fmt: skip


def _find(wanted: _Wanted) -> str | None:
    """The finished run that holds these very scores."""
    if not begin.has_ledger(wanted.store_url):
        return None
    ledger = open_ledger(wanted.store_url, read_only=True)
    for row in queries.runs(ledger):
        found = (row["trainer"], row["status"], row["dataset_id"], row["name"])
        if found != (begin.NO_TRAINER, "finished", wanted.pool.fingerprint, wanted.config.run.name):
            continue
        with suppress(NotFoundError, ConfigError):  # removed meanwhile; of another version
            state = ledger.run_state(row["run_id"])
            same_settings = parse_config(state.config).scoring == wanted.config.scoring
            if same_settings and state.plan == wanted.identity:
                return str(row["run_id"])
    return None


def _open(wanted: _Wanted, flow_run: FlowRun) -> OpenRun:
    """The run of this flow run, new or, after a retry, the one it began."""
    from edco_core.training import Plan
    from flows.open_run import LEASE_TTL_S, OpenRun
    from flows.opening import take_over
    from flows.owner import this_process

    config, pool = wanted.config, wanted.pool
    run_id = f"{config.run.name}-scores-{flow_run.id.hex[:8]}"
    run_dir = Path(config.run.output_dir) / run_id
    ledger = open_ledger(wanted.store_url, busy_timeout_s=24 * 3600)
    is_known = run_id in {row["run_id"] for row in queries.runs(ledger)}
    if is_known and ledger.run_state(run_id).dataset_id != pool.fingerprint:
        raise InputError(
            f"{config.data.train}: the data is not what run {run_id} began with. Start another "
            "flow run."
        )
    if not is_known:
        ledger.register_pool(pool, keep_texts=config.store.keep_texts)
    spec = RunSpec(
        run_id=run_id,
        name=config.run.name,
        experiment=config.run.experiment,
        seed=config.run.seed,
        strategy="none",
        scorer=config.scoring.type,
        trainer=begin.NO_TRAINER,
        model=config.model.name_or_path,
        dataset_id=pool.fingerprint,
        eval_dataset_id=None,
        metric=None,
        intervals=1,
        pool_size=len(pool),
        top_n=0,
        run_dir=str(run_dir),
        config=config.for_ledger(),
        plan=wanted.identity,
        versions=package_versions(),
    )

    def take_lease() -> Lease:
        if is_known:
            return take_over(ledger, run_id)
        return ledger.create_run(spec, owner=this_process(), ttl_s=LEASE_TTL_S)

    plan = Plan(num_intervals=1, samples_per_interval=0, slots_per_step=1, steps_per_interval=0)
    run = OpenRun(ledger, run_id, take_lease, config, plan, pool, None, run_dir)
    run.host = wanted.host
    return run


def _keep_checkpoint(run: OpenRun, wanted: _Wanted) -> None:
    """Enter what is scored: the weights as they are."""
    start = time.perf_counter()
    if run.ledger.begin_stage(run.lease, 0, "checkpoint"):
        checkpoint = Checkpoint(0, 0, str(wanted.folder), wanted.weights_sha256)
        run.ledger.finish_checkpoint(run.lease, checkpoint, None, time.perf_counter() - start)
