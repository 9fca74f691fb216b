"""The demo's configuration, data and base model, kept between benchmarks in the temporary folder.

The base model takes over a minute to train, and is the same every time.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest.mock import patch

import flows.demo
from edco_core.config import Config
from edco_core.demo_data import write_demo_data
from edco_core.demo_model import Recipe

CACHE = Path(tempfile.gettempdir()) / "edco-benchmarks"
"""Safe to delete at any time between benchmarks."""

QUICK_RECIPE = Recipe(hidden_size=64, num_layers=2, num_samples=500, num_steps=10)


def demo_config(*, quick: bool) -> Config:
    """The configuration ``edco demo`` runs, its data and model made; ``quick`` makes small ones."""
    folder = CACHE / ("quick" if quick else "demo")
    shutil.rmtree(folder / "data-0", ignore_errors=True)  # made in a second, and never outdated so
    with ExitStack() as stack:
        if quick:
            few = partial(write_demo_data, num_train=240, num_eval=60)
            stack.enter_context(patch("flows.demo.write_demo_data", few))
            stack.enter_context(patch("edco_core.demo_model.RECIPE", QUICK_RECIPE))
        return flows.demo.demo_config(folder, seed=0)
