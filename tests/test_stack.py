"""The topology of docker-compose.yml, without containers: started, used, and ended again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from edco_core.errors import EdcoError
from flows.stack import POOL, program, run_deployed, stack
from storage import open_ledger, queries


def processes_of(folder: Path) -> list[dict[str, Any]]:
    """Server, worker and all that they started, by what they have in their environment."""
    found = psutil.process_iter(["pid", "cmdline", "environ"])
    home = str(folder / "prefect")
    return [each.info for each in found if (each.info["environ"] or {}).get("PREFECT_HOME") == home]


@pytest.mark.slow
@pytest.mark.postgres
def test_a_deployed_run_goes_through_server_and_worker_into_postgres_and_nothing_stays_up(
    tiny_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = {
        **tiny_config,
        "run": {"name": "tiny", "output_dir": str(tmp_path / "runs")},
        "curriculum": {"intervals": 2, "top_n": 8},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    # Slots of devices lie there: another run on this machine is not waited for.
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    with stack(tmp_path) as running:
        # A ledger on Postgres, reached without a password in its address.
        assert "postgresql+psycopg://edco@/edco" in running.environment["EDCO_STORE"]
        run_deployed(running, tmp_path / "tiny.yaml")
        monkeypatch.setenv("PGPASSWORD", running.environment["PGPASSWORD"])
        ledger = open_ledger(running.environment["EDCO_STORE"], read_only=True)
        (run,) = queries.runs(ledger)
        assert len(processes_of(tmp_path)) >= 2
    assert (run["status"], run["intervals_done"], run["name"]) == ("finished", 2, "tiny")
    printed = capfd.readouterr()
    assert run["run_id"] in printed.out
    for told in ("score · interval 1", "train · interval 1", f"run {run['run_id']}: Completed"):
        assert told in printed.err
    secrets = (running.environment["PGPASSWORD"],)
    logs = "".join(path.read_text(errors="replace") for path in tmp_path.glob("logs/*.log"))
    assert not [secret for secret in secrets if secret in printed.out + printed.err + logs]
    assert processes_of(tmp_path) == []
    assert not Path(running.environment["EDCO_STORE"].partition("host=")[2]).exists()
    assert POOL == "edco"  # as in docker-compose.yml


def test_what_a_program_started_ends_with_it_and_an_early_end_is_told_with_its_last_words(
    tmp_path: Path,
) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import signal, subprocess, sys\n"
        "child = 'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); '"
        "'print(\"up\", flush=True); signal.pause()'\n"
        "subprocess.run([sys.executable, '-c', child])\n"
    )
    (tmp_path / "short.py").write_text("raise SystemExit('no such thing')\n")
    given = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with program("stubborn", "stubborn", environment=given, logs=tmp_path) as running:
        while "up" not in running.log.read_text():
            running.check_alive()
        (child,) = psutil.Process(running.process.pid).children()
    assert not child.is_running()
    with program("short", "short", environment=given, logs=tmp_path) as running:
        running.process.wait()
        with pytest.raises(EdcoError, match="the short ended with 1:\nno such thing"):
            running.check_alive()


@pytest.mark.postgres
def test_ctrl_c_while_it_starts_ends_everything(tmp_path: Path) -> None:
    # Not below pytest's own temporary folder, which no other user may enter: as root, the server
    # runs as one.
    with tempfile.TemporaryDirectory(prefix="edco-") as place:
        words = [sys.executable, "-m", "flows.stack", "--dir", str(tmp_path)]
        process = subprocess.Popen(
            words, env={**os.environ, "TMPDIR": place}, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Postgres is up")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 1, said
        assert said.endswith("stopped; everything is down again\n")
        assert "Traceback" not in said
        assert processes_of(tmp_path) == []
        assert list(Path(place).glob("edco-stack-*")) == []
