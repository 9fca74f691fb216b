"""``edco demo``, all of it, on less data and with a smaller model than a person gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from command_line import Edco

SMALL = """
from functools import partial
import edco_core.demo_model as demo_model
import flows.demo as demo
demo_model.RECIPE = demo_model.Recipe(hidden_size=32, num_layers=1, num_samples=300, num_steps=4)
demo.write_demo_data = partial(demo.write_demo_data, num_train=160, num_eval=80)
from flows.cli import main
main()
"""


@pytest.mark.slow
def test_the_demo_makes_what_it_needs_once_and_runs_four_intervals(
    new_edco: Callable[[], Edco],
) -> None:
    edco = new_edco()
    store = ("--store", "duckdb:///edco-demo/edco.duckdb")
    edco("demo", program=("-c", SMALL))
    made = (edco.folder / "edco-demo" / "base-model-0" / "model.safetensors").stat().st_mtime_ns
    (run,) = edco.json("runs", *store)
    assert (run["status"], run["intervals_done"], run["strategy"]) == ("finished", 4, "edco")
    said = edco("demo", program=("-c", SMALL)).stderr
    again = (edco.folder / "edco-demo" / "base-model-0" / "model.safetensors").stat().st_mtime_ns
    assert again == made
    assert len(edco.json("runs", *store)) == 2
    assert "Traceback" not in said
    assert "nanobind" not in said
