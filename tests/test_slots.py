"""One deployed fine-tune per device, across processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.slots import devices, slot

_HOLD = """
import sys
from flows.slots import slot
with slot("another process", on_wait=print, check_stop=lambda: None) as name:
    print(name, flush=True)
    sys.stdin.read()
"""


class StopError(Exception):
    pass


def stop() -> None:
    raise StopError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def hold() -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_what_another_user_may_not_write_is_no_reason_to_fail(tmp_path: Path) -> None:
    folder = tmp_path / "edco-slots"
    folder.mkdir()
    (folder / "cpu.holder").mkdir()  # nobody can write there
    with slot("me", on_wait=print, check_stop=stop) as name:
        assert name == "cpu"


def test_a_machine_without_gpus_has_one_slot_and_the_second_waits_for_whoever_holds_it() -> None:
    process, name = hold()
    assert name == "cpu"
    heard: list[str] = []
    with pytest.raises(StopError), slot("me", on_wait=heard.append, check_stop=stop):
        raise AssertionError("the slot was taken twice")
    assert heard == ["another process"]
    process.communicate()
    with slot("me", on_wait=heard.append, check_stop=stop) as mine:
        assert mine == "cpu"


def test_a_slot_is_free_as_soon_as_its_process_was_killed() -> None:
    process, _ = hold()
    process.kill()
    process.communicate()
    with slot("me", on_wait=print, check_stop=stop) as mine:
        assert mine == "cpu"


def test_each_run_sees_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert devices() == ["2", "5"]
    process, theirs = hold()
    with slot("me", on_wait=print, check_stop=stop) as mine:
        assert {theirs, mine} == {"2", "5"}
        assert os.environ["CUDA_VISIBLE_DEVICES"] == mine
    process.communicate()
