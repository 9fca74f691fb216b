"""What a run costs beside its stages: Prefect, ledger, process; on the demo.

Overhead is the wall time from the moment a run says it is ready until its process is gone, less
the seconds the ledger has for its stages and evaluations.  So it holds Prefect's engine, the
ledger's writes at the end of each stage, the final model, the printed result, and the end of the
server and of Python.  Nothing is counted twice: the checkpoint stage's seconds hold the evaluation
before training, the training stage's hold no evaluation.  A stage's seconds also hold what it reads
and writes in the ledger on its way, so all calls of the ledger are shown apart.

Most of the overhead does not grow with the pool: some 40 ms for each of the ledger's calls, since
a DuckDB file is opened and let go of every time so that others can read during a run, and about
three seconds around the flow: Prefect's first request, the server's end, Python's end.  The demo is
short, so they weigh more in it than in a run of hours.

Start-up, from the start of the process until the run is ready, is shown apart too, against the
least a script could do: import TRL and load the same model with an adapter.  So are its parts, each
alone; the server starts while the rest goes on, so they may add up to more than the whole.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.demo_inputs import CACHE, demo_config
from benchmarks.measuring import Aim, Figure, Report
from storage import Ledger

READY = "ready after"
"""What a run says when it is ready, and the scripts below, too."""

_BARE_SCRIPT = """
import sys
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTTrainer
AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
print("ready after", file=sys.stderr, flush=True)
"""

_OUR_IMPORTS = """
import sys
import flows.launch, flows.open_run, flows.finetune, trl.trainer.sft_trainer
print("ready after", file=sys.stderr, flush=True)
"""

_SERVER = """
import sys
from flows.server import prefect_api
with prefect_api() as server, server.ready():
    print("ready after", file=sys.stderr, flush=True)
"""


def measure(*, quick: bool) -> Report:
    """Whole runs in processes of their own, in turns with the parts of their start-up."""
    config = demo_config(quick=quick)
    _time([sys.executable, "-c", _SERVER])  # makes Prefect's database, and fills the file cache
    runs, parts = [], []
    for _ in range(1 if quick else 3):
        with tempfile.TemporaryDirectory(prefix="edco-bench-") as name:
            folder = Path(name)
            values = config.model_dump(mode="json")
            values["run"]["output_dir"] = str(folder / "runs")
            (folder / "edco.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
            runs.append(_run(folder))
        parts.append(
            {
                "bare script": _time(
                    [sys.executable, "-c", _BARE_SCRIPT, values["model"]["name_or_path"]]
                )[0],
                "imports": _time([sys.executable, "-c", _OUR_IMPORTS])[0],
                "server": _time([sys.executable, "-c", _SERVER])[0],
            }
        )
    wall = [run["wall"] for run in runs]
    start_up = [run["start_up"] for run in runs]
    server = [part["server"] for part in parts]
    imports = [part["imports"] for part in parts]
    return Report(
        [
            Figure(
                "overhead",
                [r["wall"] - r["stages"] for r in runs],
                wall,
                "wall time after start-up",
                aim=Aim("≤", 0.05),
            ),
            Figure(
                "calls of the ledger", [r["ledger"] for r in runs], wall, "wall time after start-up"
            ),
            Figure(
                "start-up",
                start_up,
                [part["bare script"] for part in parts],
                "TRL imported, model loaded",
            ),
            Figure("imports alone", imports, start_up, "start-up"),
            Figure("Prefect server alone", server, start_up, "start-up"),
        ],
        {"runs": runs, "start_up_parts": parts},
    )


def _run(folder: Path) -> dict[str, Any]:
    """Carry out a run and ask its ledger; all values are seconds."""
    url = f"duckdb:///{folder / 'edco.duckdb'}"
    command = [sys.executable, "-m", "benchmarks.orchestration", str(folder / "ledger.json")]
    command += ["run", str(folder / "edco.yaml"), "--run-id", "bench", "--store", url]
    start_up, total = _time(command)
    rows = _query(url, "SELECT stage, sum(seconds) AS seconds FROM stages GROUP BY stage")
    stages = {row["stage"]: row["seconds"] for row in rows}
    (after_intervals,) = _query(
        url,
        "SELECT coalesce(sum(seconds), 0) AS seconds FROM evaluations "
        "WHERE category IS NULL AND interval >= 0",
    )
    evaluation = after_intervals["seconds"]
    calls = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    return {
        "start_up": start_up,
        "wall": total - start_up,
        "stages": sum(stages.values()) + evaluation,
        "ledger": sum(calls.values()),
        "by_stage": stages | {"evaluation": evaluation},
        "by_ledger_call": calls,
    }


def _query(url: str, sql: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "flows.cli", "query", sql, "--json", "--store", url]
    return list(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def _time(command: list[str]) -> tuple[float, float]:
    """Seconds until a process says it is ready, and until it is gone."""
    environment = {
        # A server of its own, as on a machine that has none; its database outlives this process.
        **{key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"},
        "PREFECT_HOME": str(CACHE / "prefect"),
    }
    start = time.perf_counter()
    ready, said = None, []
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if ready is None and READY in line:
                ready = time.perf_counter() - start
    total = time.perf_counter() - start
    if process.returncode != 0 or ready is None:
        raise RuntimeError(f"{command} failed ({process.returncode}):\n{''.join(said)}")
    return ready, total


def _time_ledger(seconds: dict[str, float]) -> None:
    """Add up what the main thread spends in each verb of the ledger, the outermost call only."""
    depth = 0

    def timed(name: str, verb: Any) -> Any:
        @functools.wraps(verb)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            if depth or threading.current_thread() is not threading.main_thread():
                return verb(*args, **kwargs)
            depth, start = 1, time.perf_counter()
            try:
                return verb(*args, **kwargs)
            finally:
                depth = 0
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

        return call

    before_a_run = {"register_pool", "create_run"}  # these are start-up
    for name in set(dir(Ledger)) - before_a_run:
        verb = getattr(Ledger, name)
        if not name.startswith("_") and callable(verb):
            setattr(Ledger, name, timed(name, verb))


if __name__ == "__main__":
    # ``edco`` with a watched ledger: the first argument is the file for what was seen.
    from flows.cli import main

    seconds: dict[str, float] = {}
    _time_ledger(seconds)
    facts, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    try:
        main()
    finally:
        Path(facts).write_text(json.dumps(seconds), encoding="utf-8")
