"""Every example can be typed as it stands: only its data and model have to be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from edco_core.config import load_config
from edco_core.training.sft import make_plan

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_valid_configuration_with_arguments_trl_takes(path: Path) -> None:
    config = load_config(path)
    plan = make_plan(
        config.training,
        num_intervals=config.curriculum.intervals,
        samples_per_interval=config.curriculum.count(10_000),
    )
    assert plan.total_steps > 0
