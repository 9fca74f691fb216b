"""Strategies: each turns the scores of a pool into the next curriculum.

A new strategy is one file with one class (see :class:`~edco_core.curriculum.base.Strategy`), one
settings section in ``edco_core/config_curriculum.py`` and one line in ``STRATEGIES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edco_core.curriculum.base import Ranking, Strategy, derive_generator, generator_from
from edco_core.curriculum.edco import EdcoStrategy
from edco_core.curriculum.evidence import Evidence, KnownEvidence
from edco_core.curriculum.random import RandomStrategy
from edco_core.own import load_class

STRATEGIES: Mapping[str, type[Strategy[Any]]] = {
    "edco": EdcoStrategy,
    "random": RandomStrategy,
}


def build_strategy(settings: Any) -> Strategy[Any]:
    """The strategy of a ``curriculum`` section."""
    found = STRATEGIES.get(settings.type) or load_class(settings.type, Strategy)
    return found(settings)


__all__ = [
    "STRATEGIES",
    "Evidence",
    "KnownEvidence",
    "Ranking",
    "Strategy",
    "build_strategy",
    "derive_generator",
    "generator_from",
]
