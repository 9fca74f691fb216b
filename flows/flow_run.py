"""The Prefect flow run that carries out a run of ours: what people ask of it in the UI.

Nothing interrupts a stage: pausing, cancelling and whatever else ends a process are carried out at
the run's next safe point, where all that was done is kept.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import prefect.utilities.engine as prefect_engine
from prefect._internal import control_listener
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Failed, Running

from edco_core.errors import EdcoError, InputError
from flows import say_nothing_more
from flows.shown import Shown
from flows.slots import slot
from storage.address import absolute, masked

if TYPE_CHECKING:
    from types import FrameType

    from edco_core.config import Config

logger = logging.getLogger(__name__)

NO_SIGN_OF_LIFE = "no sign of life"
"""So begins the message of a run that the automation called crashed."""

_LOOK_EVERY_S = 10.0


def check_named(store_url: str | None, *, is_deployed: bool) -> None:
    """Raise InputError where a deployed run's ledger would go with the folder the run works in.

    Workers give each run a new one, and remove it at the end.
    """
    url = store_url or os.environ.get("EDCO_STORE")
    if is_deployed and (not url or absolute(url) != url):
        which = (
            f"the ledger {masked(url)} is relative to"
            if url
            else "no ledger is named: it would be in"
        )
        raise InputError(
            f"{which} a folder that Prefect removes when the run ends. Set EDCO_STORE where runs "
            "are carried out, such as duckdb:////home/me/edco.duckdb, or store.url."
        )


class FlowRun:
    """What is asked of this flow run from outside."""

    def __init__(self, context: FlowRunContext) -> None:
        assert context.flow_run is not None
        self.id = context.flow_run.id
        self.is_deployed = context.flow_run.deployment_id is not None
        self.shown = Shown(context.flow_run)
        self.outcome: State | None = None
        """The state the flow run is to end in."""
        self._suspension = context.flow_run_suspension_request
        self._is_cancelled = False
        self._place_in_parent = context.flow_run.parent_task_run_id
        self._parent: UUID | None = None

    @contextmanager
    def open(self) -> Iterator[FlowRun]:
        """Listen and show for this block."""
        if self.is_deployed:
            atexit.register(say_nothing_more)
        with self.shown.open(), self._watching():
            try:
                yield self
            except EdcoError as error:
                if not self.is_deployed:
                    raise
                logger.error(error)  # for whoever looks at the UI: one message, no traceback
                self.outcome = Failed(message=str(error))

    def run_id_for(self, config: Config) -> str:
        """The id of a new run: the same whenever this flow run is tried again."""
        return f"{config.run.name}-{self.id.hex[:8]}"

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a free device, where runners would otherwise start as many as they are sent."""
        if not self.is_deployed:
            yield
            return
        with slot(
            f"flow run {self.id}",
            on_wait=lambda holders: logger.info("waiting for a free device, held by %s", holders),
            check_stop=self.raise_if_stopped,
        ) as device:
            logger.info("device: %s", device)
            yield

    @property
    def is_sub_flow(self) -> bool:
        """Whether it is a run of a comparison."""
        return self._place_in_parent is not None

    def wants_stop(self) -> bool:
        """Whether somebody pressed "Pause" or "Cancel" in the UI, also of a flow run around it."""
        return self._is_cancelled or self._suspension.is_requested()

    def raise_if_stopped(self) -> None:
        """At a safe point: leave the flow as paused, or as cancelled."""
        self._suspension.raise_if_requested()
        if self._is_cancelled:
            control_listener._set_intent("cancel")
            raise TerminationSignal(signal.SIGTERM)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        done = threading.Event()
        context = contextvars.copy_context()

        def watch() -> None:
            while not done.wait(_LOOK_EVERY_S):
                self.look()

        thread = threading.Thread(target=context.run, args=(watch,), name="edco-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(_LOOK_EVERY_S)

    def look(self) -> None:
        """Ask the server what is wanted of this flow run; it is asked every ten seconds anyway."""
        try:
            with get_client(sync_client=True) as client:
                self._look(client)
        except Exception as error:  # the server is away; it is asked again
            logger.debug("the flow run's state is not known: %s", error)

    def _look(self, client: SyncPrefectClient) -> None:
        state = client.read_flow_run(self.id).state
        if state is None:
            return
        if state.is_crashed() and (state.message or "").startswith(NO_SIGN_OF_LIFE):
            # While the server was away it heard no heartbeats; this process is alive all the same.
            client.set_flow_run_state(
                self.id, Running(message="alive: the server was away for a while"), force=True
            )
        elif state.is_cancelling() and not self.is_deployed:
            self._is_cancelled = True  # no runner will end this process: it ends by itself
        elif self._place_in_parent is not None:
            if self._parent is None:
                self._parent = client.read_task_run(self._place_in_parent).flow_run_id
            assert self._parent is not None
            above = client.read_flow_run(self._parent).state
            if above is not None and (above.is_cancelling() or above.is_paused()):
                self._is_cancelled = True  # Prefect stops sub-flows with nothing


def current_flow_run() -> FlowRun:
    """The flow run this is called in."""
    context = FlowRunContext.get()
    assert context is not None
    return FlowRun(context)


@contextmanager
def deferring_sigterm(ask: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let ``ask`` take SIGTERM in Prefect's place, who would otherwise interrupt anything.

    A runner tells its child why it is about to end it (cancelled, or to go on elsewhere) only while
    the handler that Prefect knows as its own is in place.
    """
    theirs = prefect_engine._prefect_sigterm_handler
    prefect_engine._prefect_sigterm_handler = ask  # type: ignore[assignment]
    try:
        yield
    finally:
        prefect_engine._prefect_sigterm_handler = theirs


def raise_if_told_by_runner(number: int) -> None:
    """At a safe point after SIGTERM: let Prefect carry out what the runner intends."""
    if control_listener.get_intent() is not None:
        raise TerminationSignal(number)
