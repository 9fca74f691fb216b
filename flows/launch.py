"""Starting and resuming runs from the command line: checks first, then the flow, then what to
look at next."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edco_core.config import DEFAULT_STORE_URL, Config
from edco_core.errors import EdcoError, InputError, LeaseLostError, StopRequested
from flows import begin
from flows.display import interval_columns, print_table, say
from flows.reading import baseline_lines
from flows.server import prefect_api
from storage import is_secret, masked, open_ledger, queries

if TYPE_CHECKING:
    from flows.open_run import OpenRun
    from storage import Ledger

ConfigT = TypeVar("ConfigT", bound=Config)


def start_run(config: Config, store_url: str, run_id: str | None, *, offline: bool = False) -> str:
    """Check everything, enter the run into the ledger and carry it out; returns its id."""
    run_id = begin.new_run_id(config) if run_id is None else run_id
    _carry_out(begin.start(config, store_url, run_id), store_url, offline)
    return run_id


def resume_run(prefix: str, store_url: str, *, offline: bool = False) -> None:
    """Carry on a run; a finished one says so."""
    reading = open_ledger(store_url, read_only=True, on_wait=say)
    run_id = reading.find_run(prefix)
    if reading.run_state(run_id).status == "finished":
        say(f"run {run_id} is finished; see: {command('show', run_id, store_url)}")
        return
    _carry_out(lambda: begin.reopen(store_url, run_id), store_url, offline)


def without_address(config: ConfigT) -> ConfigT:
    """Prefect stores parameters and shows them; the ledger's address may hold a password."""
    return config.model_copy(update={"store": config.store.model_copy(update={"url": None})})


def _carry_out(own: Callable[[], OpenRun], store_url: str, offline: bool) -> None:
    began = time.perf_counter()
    with ExitStack() as stack:
        # The server starts in the background while torch, TRL and the model are loading.
        server = stack.enter_context(prefect_api(offline=offline))
        run = own()
        with run.stopping_on_signals(), run.owned():
            from prefect.exceptions import Pause, TerminationSignal

            from flows.finetune import finetune

            try:
                run.warm_up()
                if server is not None:
                    stack.enter_context(server.ready())
                run.check_stop()
                say(
                    f"run {run.run_id}: {run.plan.num_intervals} intervals of "
                    f"{run.plan.samples_per_interval} out of {len(run.pool)} samples, "
                    f"{run.plan.total_steps} steps; ready after {time.perf_counter() - began:.1f} s"
                )
                finetune(without_address(run.config), run.run_id)
            # From the UI; or SIGTERM while Prefect's own handler was in place.
            except (Pause, TerminationSignal) as error:
                _say_how_to_go_on(run.run_id, error, store_url)
                stopped = "paused" if isinstance(error, Pause) else "stopped"
                raise StopRequested(f"{stopped} by Prefect or by SIGTERM") from error
            except (LeaseLostError, InputError):
                raise  # resuming would change nothing
            except (Exception, KeyboardInterrupt) as error:
                _say_how_to_go_on(run.run_id, error, store_url)
                if (problem := _file_problem(error, run.run_dir)) is not None:
                    raise problem from error
                raise
    _print_result(run.ledger, run, store_url)


# The last two are how torch says that a file could not be written to its end.
_NO_ROOM = re.compile(
    r"No space left|File too large|Disk quota exceeded|"
    r"PytorchStreamWriter failed|inline_container\.cc.* unexpected pos"
)


def _file_problem(error: BaseException, run_dir: Path) -> EdcoError | None:
    """What the disk refused, in one message; None for errors of another kind."""
    if isinstance(error, EdcoError):
        return None
    if _NO_ROOM.search(str(error)):
        return EdcoError(
            f"{error}: there is no room left. Make room on the disks of {run_dir} and "
            f"{tempfile.gettempdir()} and try again; what was finished before is kept"
        )
    return EdcoError(str(error)) if isinstance(error, OSError) else None


def _say_how_to_go_on(run_id: str, error: BaseException, store_url: str) -> None:
    happened = "failed" if isinstance(error, Exception) else "interrupted"
    if isinstance(error, StopRequested):
        happened = "interrupted"
    say(f"run {run_id}: {happened}. To carry on: {command('resume', run_id, store_url)}")
    _say_what_to_set(store_url)


def _print_result(ledger: Ledger, run: OpenRun, store_url: str) -> None:
    rows = queries.intervals(ledger, run.run_id)
    known = queries.run(ledger, run.run_id)
    print_table(rows, interval_columns(rows, known), title=f"run {run.run_id}")
    for line in baseline_lines(queries.evaluations(ledger, run.run_id), known["metric"]):
        print(line)
    print(f"model: {run.run_dir / 'final'}")
    say("next:")
    for line in next_commands(ledger, run.run_id, store_url):
        say(f"  {line}")
    _say_what_to_set(store_url)


def next_commands(ledger: Ledger, run_id: str, store_url: str) -> list[str]:
    """Three commands worth typing after a run; each works when pasted."""
    commands = [command("difficult", run_id, store_url)]
    hardest = queries.difficult(ledger, run_id, limit=1)
    if hardest:
        sample_id = shlex.quote(hardest[0]["sample_id"])
        commands.append(command(f"why {run_id} {sample_id}", "", store_url))
    sql = (
        "SELECT interval, category, avg(score) AS mean_entropy, count(*) AS n "
        "FROM curriculum JOIN samples USING (dataset_id, sample_id) "
        "WHERE run_id = :run GROUP BY 1, 2 ORDER BY 1, 3 DESC"
    )
    commands.append(command(f'query "{sql}" -p run={run_id}', "", store_url))
    return commands


def command(verb: str, argument: str, store_url: str) -> str:
    """An ``edco`` command line for this ledger; ``$EDCO_STORE`` for an address with a password."""
    program = "edco" if shutil.which("edco") else _relative(Path(sys.argv[0]))
    if program.endswith(".py"):
        program = f"{shlex.quote(sys.executable)} -m flows.cli"
    words = [program, verb, *([argument] if argument else [])]
    if store_url != _default_store_url():
        words += ["--store", '"$EDCO_STORE"' if is_secret(store_url) else shlex.quote(store_url)]
    return " ".join(words)


def _say_what_to_set(store_url: str) -> None:
    if is_secret(store_url) and store_url != _default_store_url():
        say(f"  (EDCO_STORE: set it to {masked(store_url)}, with the password)")


def _default_store_url() -> str:
    return os.environ.get("EDCO_STORE") or DEFAULT_STORE_URL


def _relative(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
