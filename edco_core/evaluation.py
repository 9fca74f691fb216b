"""Evaluation: answers to the held-out samples, and what share of them is right."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edco_core.config import EvaluationSection
from edco_core.records import Evaluation, Measured, Pool
from edco_core.scoring.answering import Answering
from edco_core.scoring.batches import MemoryLimit, plan_batches

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.records import Floats, Ints
    from edco_core.scoring.answering import Judged

_DRAWN_FROM = 2**31
"""Added to the interval: random numbers other than those the pool is scored with."""


class Evaluator:
    """Measures one evaluation set: greedy answers by the run's metric, drawn ones by pass@k."""

    def __init__(
        self,
        settings: EvaluationSection,
        pool: Pool,
        host: ModelHost,
        *,
        seed: int = 0,
        cache_dir: Path | None = None,
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._answering = Answering(
            pool, host, settings.metric,
            max_new_tokens=settings.max_new_tokens, cache_dir=cache_dir,
        )  # fmt: skip
        self._categories: list[str | None] = pool.table.column("category").to_pylist()
        self._memory = MemoryLimit()

    def evaluate(self, interval: int, on_progress: Callable[[int, int], None]) -> Evaluation:
        """Answer every sample with the host's weights, and say what share is right.

        ``on_progress`` gets (answers given, answers in all) after each batch.
        """
        start = time.perf_counter()
        drawn = self._settings.pass_at_k
        num_samples = len(self._categories)
        total = num_samples * (1 if drawn is None else 1 + drawn.k)
        right_P = self._count(
            self._answering.num_tokens(1),
            self._answering.answer_greedily,
            lambda done: on_progress(done, total),
        )
        value, by_category = self._shares(right_P.astype(np.float64))
        further: list[Measured] = []
        if drawn is not None:
            draw = partial(
                self._answering.draw,
                sampling=drawn,
                seed=self._seed,
                interval=_DRAWN_FROM + interval + 1,
            )
            right_P = self._count(
                self._answering.num_tokens(drawn.k),
                draw,
                lambda done: on_progress(num_samples + done, total),
            )
            for k in drawn.reported:
                found = self._shares(pass_at_k(right_P, num_drawn=drawn.k, k=k))
                further.append(Measured(f"pass@{k}", found[0], num_samples, found[1]))
        return Evaluation(
            interval=interval,
            metric=self._settings.metric.type,
            value=value,
            n=num_samples,
            by_category=by_category,
            seconds=time.perf_counter() - start,
            further=tuple(further),
        )

    def _count(
        self,
        num_tokens: Ints,
        answer: Callable[[Sequence[int]], Judged],
        on_progress: Callable[[int], None],
    ) -> Ints:
        """Shape (P,): right answers to each sample."""
        right_P = np.zeros(len(num_tokens), dtype=np.int64)
        num_done = 0
        for batch in plan_batches(num_tokens, max_batch_tokens=self._settings.max_batch_tokens):
            width = int(num_tokens[batch[0]])
            parts = self._memory.in_parts(batch.tolist(), width, answer)
            is_correct_BK = np.concatenate([part.is_correct_BK for part in parts])
            right_P[batch] = is_correct_BK.sum(axis=1)
            num_done += is_correct_BK.size
            on_progress(num_done)
        return right_P

    def _shares(self, values_P: Floats) -> tuple[float, dict[str, tuple[float, int]]]:
        """The mean of all samples, and of each category with its size."""
        groups: dict[str, list[float]] = defaultdict(list)
        for category, value in zip(self._categories, values_P.tolist(), strict=True):
            if category is not None:
                groups[category].append(value)
        by_category = {c: (sum(g) / len(g), len(g)) for c, g in sorted(groups.items())}
        return sum(values_P.tolist()) / len(values_P), by_category


def pass_at_k(num_right: Ints, *, num_drawn: int, k: int) -> Floats:
    """Shape (P,): the chance that one of k answers is right, without bias.

    Of n drawn answers c are right; the share of all choices of k among the n that hold a right one
    is 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, equation 1).
    """
    assert k <= num_drawn
    of_count = [
        1 - math.comb(num_drawn - right, k) / math.comb(num_drawn, k)
        for right in range(num_drawn + 1)
    ]
    return np.array(of_count, dtype=np.float64)[num_right]
