"""CAMPUS: several orders from easy to hard, and at each interval the one that suits the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_strategies import CampusSection
from edco_core.curriculum.base import (
    Candidate,
    Explanation,
    Strategy,
    highest,
    rank_descending,
    selection_of,
)
from edco_core.curriculum.text_statistics import STATISTICS, statistics

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Selection

_MTLD = STATISTICS.index("mtld")
_ROWS_AT_ONCE = 65_536


class CampusStrategy(Strategy[CampusSection]):
    """The next slice of the order whose slice the current model finds easiest (CAMPUS, arXiv
    2509.13790).

    Perspectives are orders from easy to hard: ``length`` (characters of prompt and answer),
    ``mtld`` (lexical diversity of both), ``loss`` (under the current model) and ``learned``.  The
    competence s(t) = min(1, p^(t-T) + s(1) (p-1)) grows with t = 1 ... T; the slice of interval t
    is what lies between s(t-1) and s(t) of an order, and the perspective with the lowest mean
    loss (or perplexity) over its slice is taken.

    Open in the paper, and ours: T is the number of intervals; a slice is as long as the pacing
    says, and an interval trains on N of it, drawn uniformly and sorted from easy to hard; a slice
    shorter than N grows towards the easy end, and at the start of an order to its first N; orders
    are made anew at each interval, over the whole pool, so that slices passed by may come back.
    ``learned`` is our reading of a learned difficulty, not the paper's adversarially trained
    scorer: a linear regression of the current losses' ranks on ten statistics of the texts, which
    says how hard a text looks to be.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings, scores = self.settings, evidence.scores
        first, end = self.slice_at(evidence, num_samples)
        means: dict[str, float] = {}
        best, facts = np.arange(0), {}
        for perspective in settings.perspectives:
            difficulties, weights = _difficulties(evidence, perspective)
            places = highest(-difficulties, len(scores))[first:end]
            mean = float(scores[places].mean())
            if not means or mean < min(means.values()):
                best = places
                facts = {
                    "perspective": perspective,
                    "easiest": float(difficulties[places[0]]),
                    "hardest": float(difficulties[places[-1]]),
                    "weights": weights,
                }
            means[perspective] = mean
        drawn = np.sort(rng.permutation(len(best))[:num_samples])
        return selection_of(
            evidence,
            best[drawn],
            reason="slice_draw",
            facts={
                "rule": "campus",
                "num_samples": num_samples,
                "pool_size": len(scores),
                "first_place": first,
                "num_inside": end - first,
                "means": means,
                **facts,
            },
            probabilities=np.full(num_samples, num_samples / len(best)),
        )

    def slice_at(self, evidence: Evidence, num_samples: int) -> tuple[int, int]:
        """The slice's first place and the first behind it, of 0 to P."""
        before, now = (
            round(self.settings.competence(t, evidence.num_intervals) * len(evidence.scores))
            for t in (evidence.interval, evidence.interval + 1)
        )
        end = max(now, num_samples)
        return min(before, end - num_samples), end

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        last = facts["first_place"] + facts["num_inside"]
        slice_ = (
            f"the slice of '{facts['perspective']}' (places {facts['first_place'] + 1} to {last} "
            f"of {facts['pool_size']}, {facts['easiest']:.4g} to {facts['hardest']:.4g})"
        )
        chance = facts["num_samples"] / facts["num_inside"]
        if sample.is_selected:
            how = f"drawn from the {facts['num_inside']} in {slice_}, probability {chance:.3f}"
            return Explanation(how, chance)
        difficulty = _difficulty_of(sample, facts)
        if difficulty is None:
            return Explanation(f"not in {slice_}, or not drawn from it")
        if facts["easiest"] < difficulty < facts["hardest"]:
            how = f"not drawn from {slice_}; it has {difficulty:.4g}, its probability was"
            return Explanation(f"{how} {chance:.3f}", chance)
        if difficulty in (facts["easiest"], facts["hardest"]):
            return Explanation(f"at the edge of {slice_}, not in it or not drawn")
        return Explanation(f"not in {slice_}; it has {difficulty:.4g}", 0.0)


def _difficulties(evidence: Evidence, perspective: str) -> tuple[Floats, list[float] | None]:
    """Shape (P,), and the weights of the statistics where they were learned."""
    samples = evidence.samples
    if perspective == "length":
        return (samples.prompt_chars + samples.completion_chars).astype(np.float64), None
    if perspective == "loss":
        return evidence.scores, None
    if perspective == "mtld":
        return np.expm1(samples.statistics[:, _MTLD]), None
    weights = learned_weights(samples.statistics, evidence.scores)
    return _weighted(samples.statistics, weights), weights


def _difficulty_of(sample: Candidate, facts: dict[str, Any]) -> float | None:
    """One sample's difficulty in the perspective that was taken; None without its texts."""
    if facts["perspective"] == "length":
        return float(sample.prompt_chars + sample.completion_chars)
    if facts["perspective"] == "loss":
        return sample.scores[-1]
    if sample.prompt is None:
        return None
    row = statistics([sample.prompt], [sample.completion])
    if facts["perspective"] == "mtld":
        return float(np.expm1(row[0, _MTLD]))
    return float(_weighted(row, facts["weights"])[0])


def learned_weights(columns: Floats, losses: Floats) -> list[float]:
    """One weight for each of the statistics: ridge regression of the losses' ranks, 0 to 1.

    Rounded to six digits, so that the order does not depend on how a machine adds up.
    """
    _, ranks = rank_descending(losses)
    target = (len(ranks) - ranks) / max(1, len(ranks) - 1)
    spread = np.array([column.std() for column in columns.T])
    spread[spread == 0] = 1.0
    mean, num_columns = columns.mean(axis=0), columns.shape[1]
    squares, products = 1e-3 * len(columns) * np.eye(num_columns), np.zeros(num_columns)
    target -= target.mean()
    for start in range(0, len(columns), _ROWS_AT_ONCE):  # not a second copy of all of them
        part = slice(start, start + _ROWS_AT_ONCE)
        x = (columns[part] - mean) / spread
        squares += x.T @ x
        products += x.T @ target[part]
    weights = np.linalg.solve(squares, products) / spread
    return [float(f"{each:.6g}") for each in weights]


def _weighted(columns: Floats, weights: list[float]) -> Floats:
    total: Floats = np.zeros(len(columns))
    for column, weight in zip(columns.T, weights, strict=True):
        total = total + weight * column
    return total
