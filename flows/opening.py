"""Making a run that this process may own: a new one, or one that is in the ledger already."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from edco_core.base_model import base_fingerprint
from edco_core.checkpoints import write_atomically
from edco_core.config import Config, parse_config
from edco_core.errors import ConfigError, DataError, ModelError, RunExistsError
from edco_core.loading import ModelHost, pick_device
from edco_core.records import Lease
from edco_core.training import Plan, build_trainer
from flows.display import say
from flows.open_run import LEASE_TTL_S, OpenRun
from flows.owner import is_dead_on_this_machine, this_process
from flows.prepare import Prepared, load_pools, run_spec
from storage import Ledger


def create(
    open_ledger: Callable[[], Ledger], prepared: Prepared, run_id: str, host: ModelHost
) -> OpenRun:
    """A new run, which is in the ledger once it is owned; that raises RunExistsError.

    What can still be wrong with model, samples or training arguments is found out first, and
    leaves nothing behind.
    """
    identity = {"base_model": base_fingerprint(host.settings), "device": host.device.type}
    spec = run_spec(prepared, run_id, identity)
    run_dir = Path(spec.run_dir)
    trainer = build_trainer(
        prepared.config.training, prepared.pool, host, prepared.plan,
        curriculum=prepared.config.curriculum,
        run_id=run_id, run_dir=run_dir, seed=prepared.config.run.seed,
    )  # fmt: skip
    try:
        is_new = _made(run_dir)
    except OSError as error:
        raise ConfigError(
            f"run.output_dir: '{run_dir}' cannot be made ({error.strerror}). Give another folder."
        ) from error

    @contextmanager
    def leaving_nothing() -> Iterator[None]:
        try:
            yield
        except RunExistsError:
            raise  # the folder is the other run's
        except BaseException:
            if is_new:  # else another process's, which began the same run meanwhile
                shutil.rmtree(run_dir, ignore_errors=True)
            raise

    with leaving_nothing():
        trainer.prepare()
        ledger = open_ledger()
        for pool in (prepared.pool, prepared.eval_pool):
            if pool is not None:
                ledger.register_pool(pool, keep_texts=prepared.config.store.keep_texts)

    def enter() -> Lease:
        with leaving_nothing():
            lease = ledger.create_run(spec, owner=this_process(), ttl_s=LEASE_TTL_S)
        _write_config(run_dir, prepared.config)
        return lease

    run = OpenRun(
        ledger, run_id, enter, prepared.config, prepared.plan, prepared.pool, prepared.eval_pool,
        run_dir,
    )  # fmt: skip
    run.host, run.trainer = host, trainer
    return run


def _made(folder: Path) -> bool:
    """Make sure the folder is there; whether it was this process that made it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    return True


def reopen(ledger: Ledger, run_id: str) -> OpenRun:
    """A run that is in the ledger; owning it raises RunBusyError while another process does."""
    state = ledger.run_state(run_id)
    config = parse_config(state.config, source=f"configuration of run {run_id}")
    pool, eval_pool = load_pools(config)
    if pool.fingerprint != state.dataset_id:
        raise DataError(
            f"{config.data.train}: the data is not what run {run_id} began with (fingerprint "
            f"{pool.fingerprint}, was {state.dataset_id}). Restore the file, or start another run."
        )
    if (eval_pool.fingerprint if eval_pool else None) != state.eval_dataset_id:
        raise DataError(
            f"{config.data.eval}: the evaluation data is not what run {run_id} began with. Restore "
            "the file, or start another run."
        )
    if base_fingerprint(config.model) != state.plan["base_model"]:
        raise ModelError(
            f"{config.model.name_or_path}: the base model is not what run {run_id} began with. "
            "Restore its files (of a hub id, the revision), or start another run."
        )
    if (device := pick_device().type) != state.plan["device"]:
        say(f"began on {state.plan['device']}, goes on on {device}: the last bits will differ")
    plan_fields = {
        field.name: state.plan[field.name]
        for field in dataclasses.fields(Plan)
        if field.name in state.plan  # else the run is older than that field
    }
    return OpenRun(
        ledger, run_id, lambda: take_over(ledger, run_id), config, Plan(**plan_fields), pool,
        eval_pool, Path(state.run_dir),
    )  # fmt: skip


def take_over(ledger: Ledger, run_id: str) -> Lease:
    """The lease of a run that nobody works on; raises RunBusyError."""
    return ledger.acquire(
        run_id, owner=this_process(), ttl_s=LEASE_TTL_S, steal_if=is_dead_on_this_machine
    )


def _write_config(run_dir: Path, config: Config) -> None:
    text = yaml.safe_dump(config.for_ledger(), sort_keys=False, allow_unicode=True)
    write_atomically(run_dir / "config.yaml", text)
