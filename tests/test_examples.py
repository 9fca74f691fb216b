"""Every example can be typed as it stands: only its data and model have to be there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from edco_core.config import Config, load_config, read_values
from edco_core.config_compare import comparison_of, is_comparison, load_comparison
from edco_core.training import make_plan
from flows.deployments import environment_of_runs

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_valid_configuration_with_arguments_trl_takes(path: Path) -> None:
    for config in configurations(path):
        plan = make_plan(
            config.training,
            num_intervals=config.curriculum.intervals,
            samples_per_interval=config.curriculum.count(10_000),
        )
        assert plan.total_steps > 0


def configurations(path: Path) -> list[Config]:
    """That of a run, or those of a comparison's runs."""
    if not is_comparison(read_values(path)):
        return [load_config(path)]
    return [arm.config for arm in comparison_of(load_comparison(path)).arms]


def test_prefect_yaml_deploys_flows_there_are_with_configurations_they_take() -> None:
    wanted = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    for each in wanted:
        module, name = each["entrypoint"].rsplit(".", 1)
        flow = getattr(importlib.import_module(module), name)
        flow.validate_parameters(each.get("parameters", {}))
        environment = each["work_pool"]["job_variables"]["env"]
        assert "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" in environment
        assert environment.items() <= environment_of_runs().items()
    assert {each["name"] for each in wanted} == {"nightly", "nightly-scores", "maintenance"}
