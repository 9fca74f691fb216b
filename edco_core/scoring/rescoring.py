"""Selective rescoring: which samples are scored again, and how much of the curriculum that finds.

Pure maths.  A strategy selects the N samples with the highest *key*, ``slope * score + offset``
(:class:`~edco_core.curriculum.base.Ranking`): the plain top N has offset 0, a tempered draw the
noise it is going to draw, which is known beforehand.  So both ask the same question: whose key is
among the N highest?  Few samples leave it open.  The others keep their last score, and what is
counted is **recall**: the share of the curriculum that scoring everything would have selected and
that is selected now.

An interval goes in rounds.  First a random share of the pool is scored, the *audit*.  How its
scores changed forecasts everybody's: mean and spread, by level, by trend and by whether the sample
was trained on since.  From that follows each sample's *risk*: the chance that its last score puts
it on the wrong side.  *Candidates* are all samples but those of lowest risk, whose risks together
stay within what the target recall allows to lose; and those trained on since their last score that
are likely to be selected again, so that hardly any is trained on twice for one score.  They are the
second round.  Audited samples that are no candidates are a random draw from all that are not, so
they tell without bias what leaving the others out costs.  Where that is too much the candidates are
widened, and at the end everything is scored.  (Since the first estimate that suffices ends it, the
one that is kept is a little high: by 0.01 on pools of some thousands, by 0.03 where N is 100.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.curriculum import Ranking
    from edco_core.records import Floats, Ints, ScoreHistory

    Bools = NDArray[np.bool_]

_LOSSES_ALLOWED = (0.7, 0.3, 0.1)
"""Of the recall that may be lost: what the forecast may give up in each round of candidates."""
_PAIRS_PER_BIN = 20
_MAX_BINS = 20
_NUM_PARTS = 5
_MIN_AUDITED = 2 * _NUM_PARTS
"""With fewer audited samples nothing can be forecast."""
_LOGISTIC_PER_STD = np.sqrt(3.0) / np.pi


@dataclass(frozen=True, slots=True)
class Rescored:
    """How an interval's rescoring ended."""

    recall_estimate: float
    """1.0 where everything was scored."""
    facts: dict[str, Any]
    """Sizes of audit and rounds, for the ledger."""


def rescore(
    score: Callable[[Ints], Floats],
    history: ScoreHistory,
    is_trained_since: Bools,
    ranking_of: Callable[[Floats], Ranking],
    num_selected: int,
    *,
    audit_share: float,
    target_recall: float,
    rng: np.random.Generator,
) -> Rescored:
    """Score what has to be scored, round by round; ``score`` takes ordinals, ascending.

    ``is_trained_since`` (P,) says who was in a curriculum since its last score.  ``ranking_of``
    makes the keys: their slope depends on how far scores spread, their noise is always the same.
    The same arguments and the same scores give the same rounds, so that a stage that was killed
    can be done again from what is stored.  No sample comes twice.
    """
    size = len(history.scores)
    num_audited = min(size, max(1, round(audit_share * size)))
    is_audited = np.zeros(size, dtype=bool)
    is_audited[rng.permutation(size)[:num_audited]] = True
    audited = np.flatnonzero(is_audited)
    scores = history.scores.copy()
    is_scored = np.zeros(size, dtype=bool)
    rounds: list[int] = []

    def take(is_wanted: Bools) -> None:
        wanted = np.flatnonzero(is_wanted & ~is_scored)
        if len(wanted):
            scores[wanted] = score(wanted)
            is_scored[wanted] = True
            rounds.append(len(wanted))

    take(is_audited)
    estimate = RecallEstimate(0.0, 0.0)
    if num_audited >= _MIN_AUDITED:
        forecast = forecast_scores(history, is_trained_since, audited, scores[audited])
        risks = _risks(history.scores, forecast, ranking_of(scores), num_selected)
        again = is_trained_since & risks.is_likely_selected
        for allowed in _LOSSES_ALLOWED:
            is_candidate = again | risks.beyond((1 - target_recall) * num_selected * allowed)
            take(is_candidate)
            others = np.flatnonzero(is_audited & ~is_candidate)
            estimate = estimate_recall(
                history.scores, forecast.means, scores, is_scored, others, ranking_of, num_selected
            )
            if estimate.cautious >= target_recall:
                break
    if estimate.cautious < target_recall:
        take(np.ones(size, dtype=bool))
        estimate = RecallEstimate(1.0, 1.0)
    return Rescored(estimate.recall, {"audited": num_audited, "rounds": rounds})


@dataclass(frozen=True, slots=True)
class Forecast:
    """What every sample's score is expected to be now: arrays (P,) by ordinal."""

    means: Floats
    stds: Floats


def forecast_scores(
    history: ScoreHistory, is_trained_since: Bools, audited: Ints, scores: Floats
) -> Forecast:
    """From how the audited samples' scores changed, how everybody's did.

    An audited sample's forecast comes from the other audited ones (in five parts), so that it
    misses the sample's true score as all others' do.
    """
    everybody = np.arange(len(history.scores))
    means, stds = _forecast(history, is_trained_since, audited, scores, everybody)
    # In no order that the scores or the pool could have.
    parts = np.arange(len(audited)) % _NUM_PARTS
    for part in range(_NUM_PARTS):
        others, own = parts != part, audited[parts == part]
        means[own], stds[own] = _forecast(
            history, is_trained_since, audited[others], scores[others], own
        )
    floor = 1e-3 * float(history.scores.std()) + 1e-12
    return Forecast(means, np.maximum(stds, floor))


def _forecast(
    history: ScoreHistory, is_trained_since: Bools, known: Ints, scores: Floats, wanted: Ints
) -> tuple[Floats, Floats]:
    """Means and spreads of the samples ``wanted``, from the scores of those known.

    The change of a score is taken in bins of like level and interpolated between them, apart for
    samples trained on since their last score.  What the change before that (trend) explains of the
    rest is taken off by least squares.
    """
    levels, trends = history.scores, _trends(history)
    changes = scores - levels[known]
    means, stds = np.empty(len(wanted)), np.empty(len(wanted))
    for kind in (True, False):
        pairs = is_trained_since[known] == kind
        if pairs.sum() < _PAIRS_PER_BIN:  # too few of one kind: all tell about it
            pairs = np.ones(len(known), dtype=bool)
        told, change = known[pairs], changes[pairs]
        change_by_level = _Bins(levels[told], change)
        trend_by_level = _Bins(levels[told], trends[told])
        unlike = trends[told] - trend_by_level.means(levels[told])
        rest = change - change_by_level.means(levels[told])
        # As if so many samples more had shown none.
        ridge = _PAIRS_PER_BIN * float(unlike.var()) + 1e-12
        steepness = float(unlike @ rest) / (float(unlike @ unlike) + ridge)
        spread_by_level = _Bins(levels[told], rest - steepness * unlike)
        of_kind = is_trained_since[wanted] == kind
        level = levels[wanted[of_kind]]
        trend = trends[wanted[of_kind]] - trend_by_level.means(level)
        means[of_kind] = level + change_by_level.means(level) + steepness * trend
        stds[of_kind] = spread_by_level.stds(level)
    return means, stds


def _trends(history: ScoreHistory) -> Floats:
    """The last change of each score, per interval; 0 where there was none."""
    intervals = history.scored_at_interval - history.earlier_scored_at_interval
    changes = (history.scores - history.earlier_scores) / np.maximum(intervals, 1)
    trends: Floats = np.nan_to_num(changes)
    return trends


class _Bins:
    """Means and spreads of values over equally many samples of like level."""

    def __init__(self, levels: Floats, values: Floats) -> None:
        order = np.argsort(levels, kind="stable")
        num_bins = int(np.clip(len(order) // _PAIRS_PER_BIN, 1, _MAX_BINS))
        bins = np.array_split(order, num_bins)
        self._centres = np.array([levels[each].mean() for each in bins])
        self._means = np.array([values[each].mean() for each in bins])
        self._stds = np.array([values[each].std() for each in bins])

    def means(self, levels: Floats) -> Floats:
        found: Floats = np.interp(levels, self._centres, self._means)
        return found

    def stds(self, levels: Floats) -> Floats:
        found: Floats = np.interp(levels, self._centres, self._stds)
        return found


@dataclass(frozen=True, slots=True)
class _Risks:
    """Chances, by ordinal, that a last score puts a sample on the wrong side."""

    chances: Floats
    is_in: Bools
    """Whether the last score would select it."""
    is_likely_selected: Bools

    def beyond(self, num_lost: float) -> Bools:
        """All samples but those of lowest risk whose risks add up to ``num_lost``.

        Counted apart for samples in and out: one wrongly in costs another its place, so the loss is
        the larger of the two sums, not both.
        """
        is_candidate = np.ones(len(self.chances), dtype=bool)
        for side in (self.is_in, ~self.is_in):
            members = np.flatnonzero(side)
            members = members[np.argsort(self.chances[members], kind="stable")]
            is_candidate[members[np.cumsum(self.chances[members]) <= num_lost]] = False
        return is_candidate


def _risks(scores: Floats, forecast: Forecast, ranking: Ranking, num_selected: int) -> _Risks:
    keys = ranking.keys(forecast.means)
    # A logistic of the same spread has heavier tails than the normal, and needs no table.
    scales = np.maximum(ranking.slope * forecast.stds * _LOGISTIC_PER_STD, 1e-12)

    def chances(threshold: float) -> Floats:
        above: Floats = 1.0 / (1.0 + np.exp(np.clip((threshold - keys) / scales, -50.0, 50.0)))
        return above

    low, high = float(keys.min()) - 1.0, float(keys.max()) + 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if chances(middle).sum() > num_selected else (low, middle)
    is_in = ranking.keys(scores) >= high
    above = chances(high)
    return _Risks(np.where(is_in, 1 - above, above), is_in, above >= 0.5)


@dataclass(frozen=True, slots=True)
class RecallEstimate:
    """What the audit says of the samples that were left out."""

    recall: float
    """Unbiased for a given set of candidates."""
    cautious: float
    """As if half a sample more had been missed: a small audit that finds none proves little."""


def estimate_recall(
    last_scores: Floats,
    expected_scores: Floats,
    scores: Floats,
    is_scored: Bools,
    audited_others: Ints,
    ranking_of: Callable[[Floats], Ranking],
    num_selected: int,
) -> RecallEstimate:
    """The share of what scoring everything would select that is selected.

    ``scores`` (P,) are new where ``is_scored`` and last ones elsewhere.  ``audited_others`` are the
    audited samples that are no candidates: a random draw from all that are none, of which those not
    scored are as many times more.  Each of them shows for its like the true score, the one it would
    have been judged by, and the one that was expected; what is expected of the samples not scored
    is corrected by how far it was off for these (a difference estimator).
    """
    is_left = ~is_scored
    num_left = int(is_left.sum())
    if num_left == 0:
        return RecallEstimate(1.0, 1.0)
    if len(audited_others) == 0:  # nothing is known of them
        return RecallEstimate(0.0, 0.0)
    weight = num_left / len(audited_others)
    now = ranking_of(scores)
    keys = now.keys(scores)
    selected_from = _threshold(keys, np.ones(len(keys)), num_selected)
    # As if everybody had been scored, for the spread, which decides how far noise reaches.
    surprises = scores[audited_others] - expected_scores[audited_others]
    likely = scores.copy()
    likely[is_left] = expected_scores[is_left] + np.resize(surprises, num_left)
    then = ranking_of(likely)
    true_keys, expected_keys = then.keys(scores), then.keys(expected_scores)
    true_from = _threshold(
        np.concatenate(
            [
                true_keys[is_scored], expected_keys[is_left],
                true_keys[audited_others], expected_keys[audited_others],
            ]
        ),
        np.repeat(
            [1.0, 1.0, weight, -weight],
            [is_scored.sum(), num_left, len(audited_others), len(audited_others)],
        ),
        num_selected,
    )  # fmt: skip
    is_true = is_scored & (true_keys >= true_from)
    crowded_out = int((is_true & (keys < selected_from)).sum())
    would_be_out = now.keys(last_scores)[audited_others] < selected_from
    num_missed = int((is_true[audited_others] & would_be_out).sum())
    lost = crowded_out + weight * num_missed
    cautiously = crowded_out + num_left * (num_missed + 0.5) / (len(audited_others) + 1)
    return RecallEstimate(
        recall=max(0.0, 1 - lost / num_selected), cautious=max(0.0, 1 - cautiously / num_selected)
    )


def _threshold(keys: Floats, weights: Floats, num_selected: int) -> float:
    """The highest key from which on the weights of all that are no lower make ``num_selected``."""
    order = np.argsort(-keys, kind="stable")
    enough = np.cumsum(weights[order]) >= num_selected - 1e-9
    return float(keys[order[int(np.argmax(enough)) if enough.any() else -1]])
