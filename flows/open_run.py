"""A run that this process owns: its lease, its data, its warm model, and the wish to stop."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from prefect.exceptions import CancelledRun, Pause, TerminationSignal

from edco_core.config import Config
from edco_core.curriculum import Strategy, build_strategy
from edco_core.curriculum.evidence import Samples, samples_of
from edco_core.errors import (
    EdcoError,
    LeaseLostError,
    LedgerBusyError,
    StopRequested,
)
from edco_core.evaluation import Evaluator
from edco_core.loading import ModelHost
from edco_core.records import Evaluation, Lease, Pool, RunStatus
from edco_core.scoring import Scorer, build_scorer
from edco_core.training import IntervalTrainer, Plan, build_trainer
from flows.display import OnProgress, progress, say
from flows.flow_run import FlowRun, deferring_sigterm, raise_if_told_by_runner
from flows.signals import handled
from flows.texts import withholding_texts
from storage import Ledger

logger = logging.getLogger(__name__)

LEASE_TTL_S = 60.0
_RENEW_EVERY_S = LEASE_TTL_S / 4
_PATIENCE_WHEN_STOPPING_S = 5.0

_open_runs: dict[str, OpenRun] = {}


def get_open_run(run_id: str) -> OpenRun:
    """The run of that id this process owns: how Prefect tasks get from an id to live things."""
    return _open_runs[run_id]


def is_open(run_id: str) -> bool:
    """Whether this process owns the run."""
    return run_id in _open_runs


class OpenRun:
    """One run, owned.  Heavy things are made when first used and kept warm after that."""

    lease: Lease
    """Of a run that is owned."""

    def __init__(
        self, ledger: Ledger, run_id: str, take_lease: Callable[[], Lease], config: Config,
        plan: Plan, pool: Pool, eval_pool: Pool | None, run_dir: Path,
    ) -> None:  # fmt: skip
        self.ledger = ledger
        self.run_id = run_id
        self._take_lease = take_lease
        self.config = config
        self.plan = plan
        self.pool = pool
        self.run_dir = run_dir
        self.flow_run: FlowRun | None = None
        """The Prefect flow run that is carrying this out."""
        self._eval_pool = eval_pool
        self._stop_signal: signal.Signals | None = None
        self._lease_error: EdcoError | None = None

    @cached_property
    def host(self) -> ModelHost:
        return ModelHost(self.config.model, seed=self.config.run.seed)

    @cached_property
    def scorer(self) -> Scorer[Any]:
        return build_scorer(
            self.config.scoring, self.pool, self.host,
            seed=self.config.run.seed, cache_dir=self.run_dir,
        )  # fmt: skip

    @cached_property
    def samples(self) -> Samples:
        """The pool as strategies see it; what they read of its texts is kept for the next time."""
        return samples_of(self.pool)

    @cached_property
    def strategy(self) -> Strategy[Any]:
        return build_strategy(self.config.curriculum)

    @cached_property
    def trainer(self) -> IntervalTrainer[Any]:
        return build_trainer(
            self.config.training, self.pool, self.host, self.plan,
            curriculum=self.config.curriculum,
            run_id=self.run_id, run_dir=self.run_dir, seed=self.config.run.seed,
        )  # fmt: skip

    @cached_property
    def _evaluator(self) -> Evaluator | None:
        if self._eval_pool is None or self.config.evaluation is None:
            return None
        return Evaluator(
            self.config.evaluation, self._eval_pool, self.host,
            seed=self.config.run.seed, cache_dir=self.run_dir,
        )  # fmt: skip

    def evaluate(self, interval: int) -> Evaluation | None:
        """Measure the host's weights, where this configuration evaluates that interval."""
        last = interval == self.config.curriculum.intervals - 1
        due = interval < 0 or last or (interval + 1) % self._evaluate_every == 0
        if self._evaluator is None or not due:
            return None
        label = "evaluation · start" if interval < 0 else f"evaluation · interval {interval}"
        with self.progress(label) as on_progress:
            return self._evaluator.evaluate(interval, on_progress)

    @property
    def _evaluate_every(self) -> int:
        return self.config.evaluation.every if self.config.evaluation else 1

    def warm_up(self) -> None:
        """Load the base model and the tokenised pool now, so that no stage pays for them."""
        self.host.load_base()
        self.trainer.prepare()

    def renew_lease(self) -> None:
        """Make sure that the run is still ours; raises LeaseLostError."""
        self.ledger.renew(self.lease, LEASE_TTL_S)

    def should_stop(self) -> bool:
        paused = self.flow_run is not None and self.flow_run.wants_stop()
        return paused or self._stop_signal is not None or self._lease_error is not None

    def check_stop(self) -> None:
        """A safe point: raise why the run is not to go on, or is not ours any more."""
        if self._lease_error is not None:
            raise self._lease_error
        if self.flow_run is not None:
            self.flow_run.raise_if_stopped()
        if self._stop_signal is not None:
            raise_if_told_by_runner(self._stop_signal)
            if self.flow_run is not None and self.flow_run.is_sub_flow:
                self.flow_run.look()  # the signal may come of a comparison that was cancelled
                self.flow_run.raise_if_stopped()
            raise StopRequested(f"stopped by {self._stop_signal.name}")

    @contextmanager
    def shown_progress(self, label: str) -> Iterator[OnProgress]:
        """A progress bar, on the terminal and in Prefect."""
        with ExitStack() as stack:
            bars = [stack.enter_context(progress(label))]
            if self.flow_run is not None:
                bars.append(stack.enter_context(self.flow_run.shown.progress(label)))

            def on_progress(done: int, total: int) -> None:
                for update in bars:
                    update(done, total)

            yield on_progress

    @contextmanager
    def progress(self, label: str) -> Iterator[OnProgress]:
        """A progress bar that is a safe point at every update."""
        with self.shown_progress(label) as update:

            def on_progress(done: int, total: int) -> None:
                update(done, total)
                self.check_stop()

            yield on_progress

    @contextmanager
    def stopping_on_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM ask for a stop at the next safe point; a second SIGINT insists."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self._stop_signal is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop_signal = signal.Signals(number)
            # Not logged: the signal may have come while the log's own lock was held.
            say(
                f"{self._stop_signal.name}: stopping at the next safe point; what is done is kept",
                log=False,
            )
            self.ledger.wait_at_most(_PATIENCE_WHEN_STOPPING_S)

        with handled(ask), deferring_sigterm(ask):
            yield

    @contextmanager
    def _renewing_lease(self) -> Iterator[None]:
        done = threading.Event()

        def renew() -> None:
            while not done.wait(_RENEW_EVERY_S):
                try:
                    self.renew_lease()
                except LeaseLostError as error:
                    self._lease_error = error
                    return
                except Exception as error:  # the ledger is busy or away for now
                    logger.warning("the lease could not be renewed; trying again: %s", error)

        thread = threading.Thread(target=renew, name="edco-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _record_end(self, status: RunStatus, message: str) -> None:
        """A ledger that cannot take it must not hide why the run ended; the lease runs out."""
        with suppress(EdcoError):
            self.ledger.release(self.lease, status, message)

    @contextmanager
    def owned(self) -> Iterator[OpenRun]:
        """Hold the lease for this block and record how it ended.

        Only here is the lease taken: whoever listens to signals by then leaves none behind.
        """
        self.lease = self._take_lease()
        _open_runs[self.run_id] = self
        try:
            keep_texts = self.config.store.keep_texts
            with self._renewing_lease(), withholding_texts(keep_texts=keep_texts):
                yield self
        except LeaseLostError:
            raise  # the run is another process's now; its record is not ours to write
        except LedgerBusyError:
            raise  # all patience is spent; the lease runs out by itself
        except (StopRequested, KeyboardInterrupt) as error:
            self._record_end("interrupted", str(error) or "stopped by SIGINT")
            raise
        except Pause:
            self._record_end("interrupted", "paused in Prefect")
            raise
        except TerminationSignal:
            self._record_end("interrupted", "stopped by Prefect")
            raise
        except BaseException as error:
            self._record_end("failed", f"{type(error).__name__}: {error}")
            raise
        else:
            self.ledger.release(self.lease, "finished")
        finally:
            del _open_runs[self.run_id]


@contextmanager
def carrying_out(
    own: Callable[[], OpenRun], flow_run: FlowRun, *, warm_up: bool = True
) -> Iterator[OpenRun]:
    """Own a run, unless this process does already, and let the flow run speak for it."""
    run = own()
    with ExitStack() as stack:
        # Also where the command line did so already: Prefect has put its own handler since.
        stack.enter_context(run.stopping_on_signals())
        if not is_open(run.run_id):
            stack.enter_context(run.owned())
        run.flow_run = flow_run
        flow_run.shown.label(run)
        if warm_up:
            run.warm_up()
        try:
            yield run
        except CancelledRun:  # of a task that was paused
            run.check_stop()
            raise
