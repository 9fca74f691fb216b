"""Trainers: one interval each, on TRL.

A new trainer is one file with one class (see
:class:`~edco_core.training.interval.IntervalTrainer`), one settings section in
``edco_core/config_training.py`` and one line in ``TRAINERS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edco_core.training.grpo import GrpoTrainer
from edco_core.training.interval import IntervalTrainer, Plan
from edco_core.training.sampling import build_sampling
from edco_core.training.sft import SftTrainer

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.records import Pool

TRAINERS: Mapping[str, type[GrpoTrainer] | type[SftTrainer]] = {
    "grpo": GrpoTrainer,
    "sft": SftTrainer,
}


def make_plan(settings: Any, *, num_intervals: int, samples_per_interval: int) -> Plan:
    """What a ``training`` section comes to; raises ConfigError for arguments TRL does not take."""
    return TRAINERS[settings.type].make_plan(
        settings, num_intervals=num_intervals, samples_per_interval=samples_per_interval
    )


def build_trainer(
    settings: Any,
    pool: Pool,
    host: ModelHost,
    plan: Plan,
    *,
    curriculum: Any = None,
    run_id: str,
    run_dir: Path,
    seed: int,
) -> IntervalTrainer[Any]:
    """The trainer of a ``training`` section; nothing is done before ``prepare``.

    The ``curriculum`` section may say how answers are sampled in reinforcement learning.
    """
    return TRAINERS[settings.type](
        settings, pool, host, plan,
        curriculum=curriculum, run_id=run_id, run_dir=run_dir, seed=seed,
    )  # fmt: skip


__all__ = ["TRAINERS", "IntervalTrainer", "Plan", "build_sampling", "build_trainer", "make_plan"]
