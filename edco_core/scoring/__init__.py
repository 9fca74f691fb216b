"""Scorers: each gives every sample of a pool one number under the current checkpoint.

A new scorer is one file with one class (see :class:`~edco_core.scoring.base.Scorer`), one settings
section in ``edco_core/config_scoring.py`` and one line in ``SCORERS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edco_core.own import load_class
from edco_core.scoring.base import Scorer, as_shard
from edco_core.scoring.full_entropy import FullEntropyScorer
from edco_core.scoring.loss import LossScorer, PerplexityScorer
from edco_core.scoring.pass_rate import PassRateScorer
from edco_core.scoring.prefix_entropy import PrefixEntropyScorer
from edco_core.scoring.reference_prefix_entropy import ReferencePrefixEntropyScorer
from edco_core.scoring.vllm_engine import check_vllm

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.records import Pool

SCORERS: Mapping[str, type[Scorer[Any]]] = {
    "full_entropy": FullEntropyScorer,
    "loss": LossScorer,
    "pass_rate": PassRateScorer,
    "perplexity": PerplexityScorer,
    "prefix_entropy": PrefixEntropyScorer,
    "reference_prefix_entropy": ReferencePrefixEntropyScorer,
}


def build_scorer(
    settings: Any, pool: Pool, host: ModelHost, *, seed: int, cache_dir: Path | None = None
) -> Scorer[Any]:
    """The scorer of a ``scoring`` section; nothing is computed before its first use.

    ``cache_dir`` is the run's own folder, if there is a run.
    """
    found = SCORERS.get(settings.type) or load_class(settings.type, Scorer)
    return found(settings, pool, host, seed=seed, cache_dir=cache_dir)


def check_engine(settings: Any) -> None:
    """Raise ConfigError where what is to generate is not here; takes a second at most."""
    if getattr(settings, "engine", None) == "vllm":
        check_vllm(settings)


__all__ = ["SCORERS", "Scorer", "as_shard", "build_scorer", "check_engine"]
