"""What strategies are tried with: a pool and its past in memory, and a configuration for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from pydantic import TypeAdapter

from edco_core.config import CurriculumSection
from edco_core.curriculum import KnownEvidence
from edco_core.curriculum.evidence import Samples
from edco_core.records import RolloutGroups

SMOKE: dict[str, dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("strategies.yaml").read_text(encoding="utf-8")
)
"""Strategy to settings."""


def section_of(name: str, settings: dict[str, Any]) -> Any:
    """The curriculum section, without the sections beside it that a smoke configuration has."""
    return TypeAdapter(CurriculumSection).validate_python({**settings, "type": name})


def some_scores(num: int = 200, seed: int = 1) -> Any:
    return np.random.default_rng(seed).gamma(2.0, size=num)


def some_samples(size: int = 200) -> Samples:
    """In three categories of different sizes, with texts of all lengths."""
    rng = np.random.default_rng(5)
    vocabulary = [f"w{i}" for i in range(40)]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(1, 30))) for _ in range(2 * size)]
    table = pa.table(
        {
            "prompt": texts[:size],
            "completion": texts[size:],
            "prompt_chars": [len(text) for text in texts[:size]],
            "completion_chars": [len(text) for text in texts[size:]],
            "category": rng.choice(["a", "b", "c"], size, p=[0.6, 0.3, 0.1]).tolist(),
        }
    )
    return Samples(lambda names: table.select(list(names)))


def answered(ordinals: Any, seed: int = 0) -> RolloutGroups:
    """Four answers to each prompt, right by chance."""
    num = len(ordinals)
    n_correct = np.random.default_rng(seed).integers(0, 5, num)
    rates = n_correct / 4
    return RolloutGroups(
        steps=np.arange(num) // 4 + 1, ordinals=np.asarray(ordinals, np.int64),
        slots=np.arange(num) % 4, n=np.full(num, 4), n_correct=n_correct, reward_mean=rates,
        reward_std=np.sqrt(rates * (1 - rates)), advantage_abs_mean=2 * rates * (1 - rates),
        n_tokens_mean=np.ones(num), truncated_share=np.zeros(num),
    )  # fmt: skip


def some_evidence(intervals: int = 0, size: int = 200) -> KnownEvidence:
    """A pool before its interval of that number, and what happened before: draws of a fourth."""
    rng = np.random.default_rng(9)
    selections = [rng.permutation(size)[: max(1, size // 4)] for _ in range(intervals)]
    return KnownEvidence(
        some_scores(size, seed=1),
        interval=intervals,
        samples=some_samples(size),
        earlier_scores=[some_scores(size, seed=10 + each) for each in range(intervals)],
        earlier_selections=selections,
        earlier_rollouts=[answered(each, seed) for seed, each in enumerate(selections)],
    )
