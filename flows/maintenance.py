"""The upkeep of a ledger as a Prefect flow, to be scheduled; ``edco maintenance`` does the same."""

from __future__ import annotations

import os
from dataclasses import asdict

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext

from edco_core.config import DEFAULT_STORE_URL
from edco_core.errors import InputError
from flows import upkeep
from flows.begin import has_ledger
from flows.flow_run import check_named
from flows.upkeep import Deed
from storage import is_secret, masked


@task(name="sweep leases", cache_policy=NO_CACHE, persist_result=False)
def sweep_leases(store: str) -> list[Deed]:
    return upkeep.sweep_leases(store)


@task(name="remove checkpoints", cache_policy=NO_CACHE, persist_result=False)
def remove_checkpoints(store: str) -> list[Deed]:
    return upkeep.remove_checkpoints(store)


@task(name="vacuum ledger", cache_policy=NO_CACHE, persist_result=False)
def vacuum_ledger(store: str) -> list[Deed]:
    return upkeep.vacuum_when_idle(store)


@flow(name="maintenance", persist_result=False)
def maintenance(
    store: str | None = None,
) -> list[Deed]:
    """Mark lost runs as interrupted, remove checkpoints that may go, vacuum the ledger.

    Args:
        store: Ledger URL without a password; empty: $EDCO_STORE of the worker.
    """
    if store is not None and is_secret(store):
        raise InputError(
            f"store: {masked(store)} holds a password, which Prefect would show. Leave it empty, "
            "and set EDCO_STORE where the flow is carried out."
        )
    context = FlowRunContext.get()
    flow_run = None if context is None else context.flow_run
    check_named(store, is_deployed=flow_run is not None and flow_run.deployment_id is not None)
    url = store or os.environ.get("EDCO_STORE") or DEFAULT_STORE_URL
    steps = (sweep_leases, remove_checkpoints, vacuum_ledger) if has_ledger(url) else ()
    deeds = [deed for step in steps for deed in step(url)]
    create_table_artifact(
        [asdict(deed) for deed in deeds],
        key="maintenance",
        description=f"What was done to {masked(url)} and the folders of its runs.",
    )
    return deeds
