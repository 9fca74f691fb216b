"""Strategies: each turns the scores of a pool into the next curriculum.

A new strategy is one file with one class (see :class:`~edco_core.curriculum.base.Strategy`), one
settings section in ``edco_core/config_strategies.py`` and one line in ``STRATEGIES``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edco_core.curriculum.adarft import AdarftStrategy
from edco_core.curriculum.answer_complexity import AnswerComplexityStrategy
from edco_core.curriculum.base import (
    Candidate,
    Explanation,
    Ranking,
    Strategy,
    derive_generator,
    generator_from,
    selection_of,
)
from edco_core.curriculum.campus import CampusStrategy
from edco_core.curriculum.cures import CuresStrategy
from edco_core.curriculum.dump import DumpStrategy
from edco_core.curriculum.dynamic_ppl import DynamicPplStrategy
from edco_core.curriculum.edco import EdcoStrategy
from edco_core.curriculum.entropy_band import EntropyBandStrategy
from edco_core.curriculum.evidence import Evidence, KnownEvidence
from edco_core.curriculum.first_scores import FirstScoresStrategy
from edco_core.curriculum.guarded import select_guarded
from edco_core.curriculum.late_learned import LateLearnedStrategy
from edco_core.curriculum.length import LengthStrategy
from edco_core.curriculum.loss_reweighting import LossReweightingStrategy
from edco_core.curriculum.mopps import MoppsStrategy
from edco_core.curriculum.pass_rate_band import PassRateBandStrategy
from edco_core.curriculum.pcl import PclStrategy
from edco_core.curriculum.random import RandomStrategy
from edco_core.curriculum.sec import SecStrategy
from edco_core.curriculum.stages import StagesStrategy
from edco_core.curriculum.vcrl import VcrlStrategy
from edco_core.own import load_class

if TYPE_CHECKING:
    import numpy as np

    from edco_core.records import Alarm, Selection

STRATEGIES: Mapping[str, type[Strategy[Any]]] = {
    "adarft": AdarftStrategy,
    "answer_complexity": AnswerComplexityStrategy,
    "campus": CampusStrategy,
    "cures": CuresStrategy,
    "difficulty_filter": PassRateBandStrategy,
    "dump": DumpStrategy,
    "dynamic_ppl": DynamicPplStrategy,
    "edco": EdcoStrategy,
    "entropy_band": EntropyBandStrategy,
    "late_learned": LateLearnedStrategy,
    "length": LengthStrategy,
    "loss_reweighting": LossReweightingStrategy,
    "mopps": MoppsStrategy,
    "pcl": PclStrategy,
    "perplexity": FirstScoresStrategy,
    "random": RandomStrategy,
    "sec": SecStrategy,
    "shuffle_r1": PassRateBandStrategy,
    "speed": PassRateBandStrategy,
    "stages": StagesStrategy,
    "static_entropy": FirstScoresStrategy,
    "vcrl": VcrlStrategy,
}


def build_strategy(settings: Any) -> Strategy[Any]:
    """The strategy of a ``curriculum`` section."""
    return strategy_class(settings.type)(settings)


def strategy_class(name: str) -> type[Strategy[Any]]:
    """That of a ``type``, which may be ``module:attribute``.

    Raises ConfigError where the latter is not there.
    """
    return STRATEGIES.get(name) or load_class(name, Strategy)


def choose_curriculum(
    section: Any,
    evidence: Evidence,
    num_samples: int,
    rng: np.random.Generator,
    *,
    seed: int,
    alarms: Sequence[Alarm] = (),
) -> Selection:
    """The next curriculum of a ``curriculum`` section, under its guard if it has one.

    ``seed`` is the run's; ``alarms`` are those in the ledger.
    """
    if section.guard is None:
        return build_strategy(section).select(evidence, num_samples, rng)
    return select_guarded(
        build_strategy, section, evidence, num_samples, rng, seed=seed, alarms=alarms
    )


__all__ = [
    "STRATEGIES",
    "Candidate",
    "Evidence",
    "Explanation",
    "KnownEvidence",
    "Ranking",
    "Strategy",
    "build_strategy",
    "choose_curriculum",
    "derive_generator",
    "generator_from",
    "selection_of",
    "strategy_class",
]
