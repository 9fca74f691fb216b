"""From a configuration, or a run's id, to a run that this process can own.

The command line and deployed flows come in here.  Whatever can be checked is checked before a run
exists; what is returned then makes or reopens it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edco_core.config import Config, parse_config
from edco_core.errors import ConfigError, InputError, NotFoundError
from flows.display import say
from flows.prepare import (
    Inputs,
    check_ledger,
    check_new_folder,
    check_run_id,
    check_texts,
    complete,
    load_inputs,
)
from storage import db_current, open_ledger, queries
from storage.engine import Database

if TYPE_CHECKING:
    from flows.open_run import OpenRun
    from storage import Ledger

Own = Callable[[], "OpenRun"]
"""Makes or reopens the run, so that it can be owned."""

WhenFinished = Literal["skip", "again"]

NO_TRAINER = "none"
"""The trainer of a run that only scored a pool (flows/score_pool.py)."""


def new_run_id(config: Config) -> str:
    """The run's name and the time, and enough at random that two never meet."""
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{config.run.name}-{moment}-{secrets.token_hex(2)}"


def start(config: Config, store_url: str, run_id: str) -> Own:
    """Check all that can be checked in a second; raises InputError and its kin.

    Until the run is made, which checks the rest, nothing is written anywhere.
    """
    _check_free(config, store_url, run_id)
    return _create(load_inputs(config, store_url), store_url, run_id)


def reopen(store_url: str, run_id: str) -> OpenRun:
    """A run that is in the ledger, to be owned and carried on."""
    reading = open_ledger(store_url, read_only=True, on_wait=say)
    if queries.run(reading, run_id)["trainer"] == NO_TRAINER:
        raise InputError(
            f"run {run_id} only scores a pool, and nothing is left to train. Start the flow "
            "score_pool again; scores that are there are kept."
        )
    from flows import opening

    return opening.reopen(_own_ledger(store_url), run_id)


def remove_unstarted(folder: Path) -> None:
    """Remove what a process left that was killed before its run was in the ledger.

    With a configuration or checkpoints in it, it is a run's, perhaps of another ledger.
    """
    if folder.is_dir() and not {"config.yaml", "checkpoints"} & {p.name for p in folder.iterdir()}:
        shutil.rmtree(folder)


def _check_free(config: Config, store_url: str, run_id: str) -> None:
    check_run_id(run_id)
    check_ledger(store_url, run_id)
    check_new_folder(Path(config.run.output_dir) / run_id)


def _create(inputs: Inputs, store_url: str, run_id: str) -> Own:
    check_texts(inputs, store_url)

    def create() -> OpenRun:
        # torch, TRL and PEFT: seconds, while a Prefect server may be starting.
        from edco_core.loading import ModelHost
        from flows import opening

        prepared = complete(inputs)
        if prepared.parent is not None:
            prepared.parent.make()
        host = ModelHost(prepared.config.model, seed=prepared.config.run.seed)
        host.load_base()
        return opening.create(lambda: _own_ledger(store_url), prepared, run_id, host)

    return create


def _own_ledger(store_url: str) -> Ledger:
    """The ledger as a run uses it: it would rather wait for a long query than fail."""
    return open_ledger(store_url, busy_timeout_s=24 * 3600, on_wait=say)


@dataclass(frozen=True, slots=True)
class Work:
    """What a deployed flow run is to do."""

    run_id: str
    reason: str
    """In words, for the log and the flow run's state."""
    own: Own | None
    """None: there is nothing to do."""


def find_work(config: Config, run_id: str | None, own_id: str, when_finished: WhenFinished) -> Work:
    """A new run, one to carry on, or none: what the ledger says about this configuration.

    A run is carried on when ``run_id`` names it, when it is this flow run's own (``own_id``; a
    retry), or, where no run is named, when it was begun with the same configuration on the same
    data and base model.  The same, but finished, is skipped unless ``when_finished`` is "again".
    """
    from flows.open_run import get_open_run, is_open

    if run_id is not None and is_open(run_id):
        return Work(run_id, f"run {run_id}, opened here", lambda: get_open_run(run_id))
    store_url = config.store_url()
    known = _known_runs(store_url)
    for named in (run_id, own_id):
        if named is not None and named in known:
            return _carry_on(store_url, named, known[named], "named" if run_id else "a retry")
    inputs = load_inputs(config, store_url)
    own_id = run_id or own_id
    for same_id, status in () if run_id else known.items():
        if not _is_same(store_url, same_id, inputs):
            continue
        if status != "finished":
            return _carry_on(store_url, same_id, status, "same configuration, same data")
        if when_finished == "skip":
            return Work(
                same_id,
                f"run {same_id} is finished and had the same configuration and the same data "
                f"({inputs.pool.fingerprint[:12]}); nothing to do",
                None,
            )
        break  # the newest of these is finished: whatever was left before it was given up
    if run_id is None:  # what an earlier try of this flow run left that was killed
        remove_unstarted(Path(inputs.config.run.output_dir) / own_id)
    _check_free(inputs.config, store_url, own_id)
    reason = f"new run {own_id} on data {inputs.pool.fingerprint[:12]}"
    return Work(own_id, reason, _create(inputs, store_url, own_id))


def _carry_on(store_url: str, run_id: str, status: str, why: str) -> Work:
    if status == "finished":
        return Work(run_id, f"run {run_id} is finished; nothing to do", None)
    reason = f"run {run_id} ({why}) is {status} and carried on"
    return Work(run_id, reason, lambda: reopen(store_url, run_id))


def has_ledger(store_url: str) -> bool:
    """Whether there is one to read."""
    return Database(store_url, read_only=True).exists() and db_current(store_url) is not None


def _known_runs(store_url: str) -> dict[str, str]:
    """Runs that train: id to status, newest first; nothing where there is no ledger yet."""
    if not has_ledger(store_url):
        return {}
    rows = queries.runs(open_ledger(store_url, read_only=True, on_wait=say))
    return {row["run_id"]: row["status"] for row in rows if row["trainer"] != NO_TRAINER}


def _is_same(store_url: str, run_id: str, inputs: Inputs) -> bool:
    try:
        state = open_ledger(store_url, read_only=True, on_wait=say).run_state(run_id)
    except NotFoundError:  # removed meanwhile
        return False
    if inputs.parent is not None and not inputs.parent.folder.is_dir():
        return False
    eval_id = inputs.eval_pool.fingerprint if inputs.eval_pool else None
    if (state.dataset_id, state.eval_dataset_id) != (inputs.pool.fingerprint, eval_id):
        return False
    try:
        stored = parse_config(state.config)  # with the defaults of what is newer than the run
    except ConfigError:
        return False
    wanted = inputs.config
    if stored.model.revision != wanted.model.revision:  # perhaps that of a hub's commit
        unpinned = stored.model.model_copy(update={"revision": wanted.model.revision})
        if unpinned != wanted.model:
            return False
        from edco_core.base_model import pinned

        wanted = wanted.model_copy(update={"model": pinned(wanted.model)})
    if stored.for_ledger() != wanted.for_ledger():
        return False
    from edco_core.base_model import base_fingerprint

    return bool(state.plan["base_model"] == base_fingerprint(wanted.model))
