"""CurES: which prompts, and how many answers to each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_rewarded import CuresSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, selection_of
from edco_core.curriculum.pass_rates import beliefs_now, to_keep, told
from edco_core.curriculum.race import chances_to_win, race

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Ints, Selection


class CuresStrategy(Strategy[CuresSection]):
    """Prompts whose answers vary most, drawn (CurES, arXiv 2510.01037).

    rho(x) grows with exp(sqrt(p (1 - p)) / tau), p the mean of a Beta belief about the chance to
    answer x correctly.  Departures: the draw is without replacement (Gumbel top-N), as a curriculum
    holds a sample once; the belief is renewed once per interval, and kept over intervals with a
    ``discount`` instead of reset with each subset of the data; tau is 0.2 unless told otherwise
    (the paper leaves it open).  How answers are shared out among a step's prompts is
    ``edco_core.training.sampling.Allocated``.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings = self.settings
        prior = (settings.prior_correct, settings.prior_wrong)
        alpha, beta = beliefs_now(evidence, prior, settings.discount)
        logits = answer_weights(alpha / (alpha + beta)) / settings.temperature
        chosen, race_time = race(logits, num_samples, rng)
        ordinals = rng.permutation(chosen)
        beliefs = to_keep(alpha, beta, prior)
        return selection_of(
            evidence,
            ordinals,
            reason="variance_draw",
            facts={
                "rule": "cures",
                "temperature": settings.temperature,
                "prior": list(prior),
                "discount": settings.discount,
                "answers": "by gradients" if settings.gradient_terms else "by pass rates",
                "num_samples": num_samples,
                "pool_size": len(logits),
                "num_known": len(beliefs.ordinals),
                "race_time": race_time,
            },
            probabilities=chances_to_win(logits[ordinals], race_time),
            beliefs=beliefs,
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        alpha, beta = sample.belief or facts["prior"]
        mean = alpha / (alpha + beta)
        logits = answer_weights(np.array([mean])) / facts["temperature"]
        chance = float(chances_to_win(logits, facts["race_time"])[0])
        how = f"drawn with probability {chance:.3f}"
        if not sample.is_selected:
            how = f"not drawn; its probability was {chance:.3f}"
        return Explanation(f"{how}: {told(sample, facts['prior'])}", chance)


def answer_weights(chances: Floats, terms: Floats | None = None) -> Floats:
    """sigma of each prompt (arXiv 2510.01037): how much the gradient of one answer varies.

    ``chances`` (P,): p, to answer correctly.  ``terms`` (P, 3): mean |g|^2 of correct answers C and
    of wrong ones W, and the squared gap D between their mean gradients.  Then sigma^2 =
    p (1-p)^2 C + p^2 (1-p) W - p^2 (1-p)^2 D, never below 0; without terms sqrt(p (1-p)), which is
    the same with C = W = 1 and D = 0.
    """
    p, q = chances, 1 - chances
    if terms is None:
        terms = np.tile([1.0, 1.0, 0.0], (len(p), 1))
    correct, wrong, gap = terms.T
    variance = p * q**2 * correct + p**2 * q * wrong - (p * q) ** 2 * gap
    sigma: Floats = np.sqrt(np.maximum(variance, 0.0))
    return sigma


def split(total: int, weights: Floats, at_least: Ints) -> Ints:
    """Whole numbers that sum to ``total``, as near to proportional to the weights as can be.

    None is below its least, and those above theirs share what is left by their weights; fractions
    are rounded by largest remainder, the first of equal ones.  Weights that are all zero count as
    equal.
    """
    assert at_least.sum() <= total
    is_free = np.ones(len(weights), bool)
    while True:
        left = total - at_least[~is_free].sum()
        free = weights[is_free] if weights[is_free].sum() > 0 else np.ones(is_free.sum())
        shares = left * free / free.sum() if len(free) else free
        is_short = shares < at_least[is_free]
        if not is_short.any():
            break
        is_free[np.flatnonzero(is_free)[is_short]] = False
    exact = at_least.astype(np.float64)
    exact[is_free] = shares
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts
