"""EDCO's selection: the samples the current model is least certain about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config import EdcoSection
from edco_core.config_curriculum_base import share_of
from edco_core.curriculum.base import (
    Candidate,
    Explanation,
    Ranking,
    Strategy,
    highest,
    selection_of,
)
from edco_core.curriculum.category_limit import full_categories, highest_within
from edco_core.curriculum.race import chances_to_win, race_time

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Ints, Selection

    Members = dict[str, Ints]
    """Categories that had their limit, and where their samples are."""


class EdcoStrategy(Strategy[EdcoSection]):
    """N samples by inference entropy (EDCO, arXiv 2601.03725, curriculum selection).

    ``temperature`` 0 is the paper's rule: the N highest, in descending order with ``preset:
    paper``.  A temperature above 0 departs from it: a draw without replacement by Gumbel top-N on
    z-scored entropies, ``z / temperature + Gumbel noise``, whose chance to be selected grows with
    entropy; towards infinity it becomes the uniform draw.  ``temperature_end`` moves it from
    interval to interval.  ``skip_top`` leaves out the samples of highest entropy as outliers (an
    option in the released code).

    Departures, too: no category gets more than ``max_category_share`` of N by score, as long as
    others have samples left; and ``random_share`` of N is drawn uniformly from the rest.
    """

    def ranking(self, scores: Floats, rng: np.random.Generator) -> Ranking | None:
        settings = self.settings
        if settings.unlike_a_ranking() is not None:
            return None
        if settings.temperature == 0:
            return Ranking(1.0, np.zeros(len(scores)))
        std = float(scores.std())
        slope = 1 / (std * settings.temperature) if std > 0 else 0.0
        return Ranking(slope, rng.gumbel(size=len(scores)))

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings, scores = self.settings, evidence.scores
        temperature = settings.temperature_at(evidence.interval)
        num_skipped = share_of(settings.skip_top, len(scores))
        num_random = share_of(settings.random_share, num_samples)
        is_candidate = np.ones(len(scores), bool)
        is_candidate[highest(scores, num_skipped)] = False
        # In the order of the pool, so that noise meets the same sample whatever its score.
        candidates = np.flatnonzero(is_candidate)
        facts: dict[str, Any] = {
            "rule": "edco",
            "temperature": temperature,
            "num_samples": num_samples,
            "pool_size": len(scores),
            "num_skipped": num_skipped,
        }
        keys = logits = scores[candidates]
        if temperature > 0:
            facts |= {"mean": float(keys.mean()), "std": float(keys.std())}
            logits = _logits(keys, facts)
            keys = logits + rng.gumbel(size=len(candidates))
        full: Members = {}
        full_codes: list[int] = []
        if settings.max_category_share is None:
            drawn = highest(keys, num_samples - num_random)
        else:
            most = max(1, share_of(settings.max_category_share, num_samples))
            names, codes = evidence.samples.categories.names, evidence.samples.categories.codes
            codes = codes[candidates]
            drawn = highest_within(keys, num_samples - num_random, codes, most)
            full_codes = full_categories(codes, drawn, most)
            full = _members(codes, full_codes, names)
            facts |= {"category_limit": most, "full": dict.fromkeys(full)}
        if temperature > 0:
            facts |= _races(logits, drawn, full)
        if num_random:
            others = np.setdiff1d(np.arange(len(candidates)), drawn, assume_unique=True)
            facts |= {"num_random": num_random, "random_chance": num_random / len(others)}
            drawn = np.concatenate([drawn, rng.permutation(others)[:num_random]])
        probabilities = None
        if temperature > 0:
            members = _members(codes[drawn], full_codes, names) if full_codes else {}
            probabilities = _chances(logits[drawn], facts, members)
        elif num_random:
            is_random = np.arange(num_samples) >= num_samples - num_random
            probabilities = np.where(is_random, facts["random_chance"], 1.0)
        chosen = candidates[drawn]
        if settings.order == "shuffled":
            order = rng.permutation(num_samples)
        else:
            order = np.lexsort((chosen, -scores[chosen]))
        return selection_of(
            evidence,
            chosen[order],
            reason="top_n" if temperature == 0 else "tempered_draw",
            facts=facts,
            probabilities=None if probabilities is None else probabilities[order],
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        num_by_score = facts["num_samples"] - facts.get("num_random", 0)
        is_full = sample.category in facts.get("full", {})
        at_limit = f"category '{sample.category}' had its limit of {facts.get('category_limit')}"
        if not sample.is_selected and sample.rank <= facts["num_skipped"]:
            skipped = f"among the {facts['num_skipped']} highest, which skip_top leaves out"
            return Explanation(f"{skipped} ({sample.place})", 0.0)
        if facts["temperature"] > 0:
            chance = inclusion_probability(
                np.array([sample.scores[-1]]), facts, np.array([sample.category], object)
            )
            how = f"drawn with probability {chance[0]:.3f} ({sample.place})"
            if not sample.is_selected:
                how = f"not drawn; its probability was {chance[0]:.3f} ({sample.place})"
                how += f"; {at_limit}" if is_full else ""
            return Explanation(how, float(chance[0]), by_score=True)
        random = facts.get("random_chance")
        if sample.is_selected:
            if sample.probability not in (None, 1.0):
                how = f"drawn at random from those not among the {num_by_score} highest"
                return Explanation(f"{how} ({sample.place})", random)
            return Explanation(f"among the {num_by_score} highest ({sample.place})", by_score=True)
        how = f"not among the {num_by_score} highest ({sample.place})"
        if "category_limit" in facts:
            how += f"; {at_limit}" if is_full else ""
        else:
            how += f", {sample.rank - facts['num_skipped'] - num_by_score} places short"
        if random is not None:
            how += f", and not drawn at random (probability {random:.3f})"
        return Explanation(how, random, by_score=True)


def inclusion_probability(
    scores: Floats, facts: dict[str, Any], categories: NDArray[Any] | None = None
) -> Floats:
    """Chance of samples with these scores to be in the curriculum, from a selection's facts.

    ``categories``, of the same shape: their names, where categories were limited.
    """
    full = facts.get("full", {})
    members = {} if categories is None else {n: np.flatnonzero(categories == n) for n in full}
    return _chances(_logits(scores, facts), facts, members)


def _members(codes: Ints, wanted: Iterable[int], names: Sequence[str]) -> Members:
    """Places of each category's samples, found for all categories in one pass."""
    by_code = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes + 1, minlength=len(names) + 1))  # -1: without a category
    return {names[code]: by_code[ends[code] : ends[code + 1]] for code in wanted}


def _races(logits: Floats, drawn: Ints, full: Members) -> dict[str, Any]:
    """ln t of the race; a category that had its limit ran one of its own."""
    is_drawn, is_free = np.zeros(len(logits), bool), np.ones(len(logits), bool)
    is_drawn[drawn] = True
    times = {}
    for name, members in full.items():
        is_free[members] = False
        times[name] = race_time(logits[members], int(is_drawn[members].sum()))
    common = race_time(logits[is_free], int(is_drawn[is_free].sum()))
    return {"race_time": common, "full": times} if full else {"race_time": common}


def _chances(logits: Floats, facts: dict[str, Any], members: Members) -> Floats:
    chances = chances_to_win(logits, facts["race_time"])
    for name, own in members.items():
        chances[own] = chances_to_win(logits[own], facts["full"][name])
    by_chance: float = facts.get("random_chance", 0.0)
    return chances + (1 - chances) * by_chance


def _logits(scores: Floats, facts: dict[str, Any]) -> Floats:
    if facts["std"] == 0:
        return np.zeros_like(scores)
    logits: Floats = (scores - facts["mean"]) / (facts["std"] * facts["temperature"])
    return logits
