"""A model and data named by their ids on the hub, down to the network and back."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Edco
from hub import Hub, serving
from test_resume import KILLED, everything


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.mark.slow
def test_a_run_with_hub_ids_ends_as_one_with_local_files_though_the_hub_moves_on(
    hub: Hub,
    finished: Edco,
    new_edco: Callable[[], Edco],
    tiny_model: Path,
    tiny_config: dict[str, Any],
    log_files: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    model = {file.name: file.read_bytes() for file in tiny_model.iterdir()}
    commit = hub.push("models", "acme/tiny", model)
    train, test = (file.read_bytes() for file in log_files)
    hub.push("datasets", "acme/logs", {"train.jsonl": train, "test.jsonl": test})
    edco = new_edco()
    ours = {name: value for name, value in edco.environment.items() if not name.startswith("HF_")}
    ours |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "cache")}
    edco = replace(edco, environment=ours)
    config = {
        **tiny_config,
        "model": {**tiny_config["model"], "name_or_path": "acme/tiny"},
        "data": {"train": "acme/logs", "eval": "acme/logs"},
    }
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))

    start = ("run", "edco.yaml", "--run-id", "whole")
    edco("selection", "2", *start, program=KILLED, expect=-signal.SIGKILL)
    weights = model["model.safetensors"]
    hub.push("models", "acme/tiny", {**model, "model.safetensors": weights[:-1] + b"!"})
    edco("resume", "whole")

    assert everything(edco, "whole") == everything(finished, "whole")
    asked = [path for path in hub.asked if path.endswith("model.safetensors")]
    assert asked
    assert all(f"/acme/tiny/resolve/{commit}/" in path for path in asked)
