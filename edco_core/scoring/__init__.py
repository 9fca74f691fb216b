"""Scorers: each gives every sample of a pool one number under the current checkpoint."""

from __future__ import annotations

from edco_core.scoring.prefix_entropy import PrefixEntropyScorer

SCORERS = {"prefix_entropy": PrefixEntropyScorer}

__all__ = ["SCORERS", "PrefixEntropyScorer"]
