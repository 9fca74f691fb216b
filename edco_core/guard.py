"""The guard's alarms: pure functions of numbers that the ledger has after an interval.

Each looks for one way in which a dynamic curriculum goes wrong, and says what it saw; what comes of
it is decided from the alarms in the ledger alone (edco_core/curriculum/guarded.py), so that a run
carried on, and a replay, decide the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edco_core.collapse import collapsed
from edco_core.config_curriculum_base import ENTROPIES
from edco_core.config_guard import GuardSection
from edco_core.records import Alarm

if TYPE_CHECKING:
    from edco_core.records import BoolArray, Floats, Ints

HARDLY_NEW = 0.01
"""A curriculum with a smaller share of first-time samples has next to nobody new."""

SURE = 2.0
"""Standard errors by which the control must be behind: its samples are few."""

_STRATA = 4


@dataclass(frozen=True, slots=True)
class Measurement:
    """The run's metric after an interval (-1: before training), on n samples."""

    interval: int
    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far scores have fallen since the first interval, on samples that began alike."""

    trained: float
    """Mean over samples that were trained on."""
    control: float
    """Mean over samples that never were."""
    error: float
    """Standard error of their difference."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known after the training of an interval."""

    interval: int
    metric: str | None
    measured: Sequence[Measurement]
    """Oldest first; of this interval the last one, if it was evaluated."""
    jaccard: float | None
    """Of this curriculum and the one before."""
    n_selected: int
    n_first_time: int
    n_ever: int
    """Samples selected so far."""
    pool_size: int
    """Without the control."""
    category_shares: Mapping[str, tuple[float, float]]
    """Category to its share of this curriculum and of the pool."""
    scorer: str
    score_means: Sequence[float]
    """Of the pool, at each interval so far."""
    policy_entropies: Sequence[float | None] = ()
    """Of reinforcement learning, in each interval so far."""
    policy_entropy_share: float = 0.0
    """``training.entropy_alarm``."""
    progress: Progress | None = None
    earlier: Sequence[Alarm] = ()
    """Of the run so far."""


def alarms_of(settings: GuardSection, watched: Watched, *, is_last: bool) -> list[Alarm]:
    """What is wrong after an interval; after the last one nothing but a warning comes of it.

    Nor is a run stopped again by what goes on since it was: whoever resumed it has seen that.
    """
    found = (
        _accuracy(settings, watched),
        _stuck(settings, watched),
        _coverage(settings, watched),
        _category(settings, watched),
        _entropy(settings, watched),
        _policy_entropy(watched),
        _control(settings, watched),
    )
    alarms = []
    for each in found:
        if each is None:
            continue
        goes_on = settings.on_alarm == "stop" and _was_on(each.name, watched)
        action = "warn" if is_last or goes_on else settings.on_alarm
        alarms.append(
            Alarm(watched.interval, each.name, each.value, each.threshold, action, each.message)
        )
    return alarms


def _was_on(name: str, watched: Watched) -> bool:
    """Whether an alarm went off the last time that it was looked at."""
    before = watched.measured[-2].interval if name == "accuracy" else watched.interval - 1
    return any(alarm.alarm == name and alarm.interval == before for alarm in watched.earlier)


@dataclass(frozen=True, slots=True)
class _Finding:
    name: str
    value: float
    threshold: float
    message: str


def _accuracy(settings: GuardSection, watched: Watched) -> _Finding | None:
    """The metric fell: further below its best than chance explains.

    A share p of right answers to n samples has the standard error sqrt(p (1 - p) / n); the limit is
    so many of them below the best.  The best of several is high by chance as well, and both are
    measured on the same samples, which makes their difference more certain: the limit is a rule,
    not a test.
    """
    if settings.accuracy_errors is None or len(watched.measured) < 2:
        return None
    now = watched.measured[-1]
    best = max(watched.measured[:-1], key=lambda each: each.value)
    if now.interval != watched.interval:
        return None
    share = min(1.0, max(0.0, best.value))
    error = math.sqrt(share * (1 - share) / best.n)
    # A best of 1 has no such error; one sample less is none to speak of.
    limit = best.value - max(settings.accuracy_errors * error, 1 / best.n)
    if now.value >= limit:
        return None
    return _Finding(
        "accuracy", now.value, limit,
        f"{watched.metric} fell to {now.value:.3f} from {best.value:.3f} "
        f"{_after(best.interval)}; {settings.accuracy_errors:g} standard errors of {best.n} "
        f"samples allow {limit:.3f}",
    )  # fmt: skip


def _stuck(settings: GuardSection, watched: Watched) -> _Finding | None:
    """The same samples again, while others have never been selected."""
    if settings.stuck_jaccard is None or watched.jaccard is None:
        return None
    if watched.jaccard < settings.stuck_jaccard or watched.n_ever >= watched.pool_size:
        return None
    if watched.n_first_time > HARDLY_NEW * watched.n_selected:
        return None
    return _Finding(
        "stuck", watched.jaccard, settings.stuck_jaccard,
        f"the curriculum is stuck: it shares {watched.jaccard:.3f} (Jaccard) with the one before, "
        f"{watched.n_first_time} of {watched.n_selected} samples are new, and "
        f"{watched.pool_size - watched.n_ever} of the pool were never selected",
    )  # fmt: skip


def _coverage(settings: GuardSection, watched: Watched) -> _Finding | None:
    """Much less of the pool was ever selected than random draws would have reached.

    k draws of N out of P reach 1 - (1 - N/P)^k of it on average.
    """
    num_intervals = watched.interval + 1
    if settings.least_coverage is None or num_intervals < settings.coverage_after:
        return None
    covered = watched.n_ever / watched.pool_size
    by_chance = 1 - (1 - watched.n_selected / watched.pool_size) ** num_intervals
    limit = settings.least_coverage * by_chance
    if covered >= limit:
        return None
    return _Finding(
        "coverage", covered, limit,
        f"{1 - covered:.1%} of the pool were never selected in {num_intervals} intervals; random "
        f"draws would have left {1 - by_chance:.1%}",
    )  # fmt: skip


def _category(settings: GuardSection, watched: Watched) -> _Finding | None:
    """One category takes over: it has much of what the others have in the pool."""
    if settings.category_gain is None or not watched.category_shares:
        return None
    gain = settings.category_gain
    above = {
        name: selected - (of_pool + gain * (1 - of_pool))
        for name, (selected, of_pool) in watched.category_shares.items()
    }
    name = max(above, key=lambda each: (above[each], each))
    if above[name] <= 0:
        return None
    selected, of_pool = watched.category_shares[name]
    return _Finding(
        "category", selected, selected - above[name],
        f"category '{name}' has {selected:.1%} of the curriculum and {of_pool:.1%} of the pool",
    )  # fmt: skip


def _entropy(settings: GuardSection, watched: Watched) -> _Finding | None:
    """The pool's mean entropy collapsed; of scores that are entropies only."""
    if settings.entropy_share is None or watched.scorer not in ENTROPIES:
        return None
    first, now = watched.score_means[0], watched.score_means[-1]
    if not collapsed(watched.score_means, settings.entropy_share)[-1]:
        return None
    return _Finding(
        "entropy", now, settings.entropy_share * first,
        f"the pool's mean entropy is {now:.3g}, below {settings.entropy_share:.0%} of the first "
        f"interval's ({first:.3g})",
    )  # fmt: skip


def _policy_entropy(watched: Watched) -> _Finding | None:
    """The same of the answers that reinforcement learning samples."""
    known = [each for each in watched.policy_entropies if each is not None]
    if not known or watched.policy_entropies[-1] is None:
        return None
    if not collapsed(known, watched.policy_entropy_share)[-1]:
        return None
    return _Finding(
        "policy_entropy", known[-1], watched.policy_entropy_share * known[0],
        f"the policy's entropy is {known[-1]:.3g}, below {watched.policy_entropy_share:.0%} of the "
        f"first interval's ({known[0]:.3g})",
    )  # fmt: skip


def _control(settings: GuardSection, watched: Watched) -> _Finding | None:
    """Trained samples are learned by heart: those that never are do not follow."""
    progress = watched.progress
    if settings.control_progress is None or progress is None or progress.trained <= 0:
        return None
    limit = settings.control_progress * progress.trained
    if limit - progress.control <= SURE * progress.error:
        return None
    return _Finding(
        "control", progress.control, limit,
        f"scores of the control samples fell by {progress.control:.3g} since the first interval, "
        f"those of trained samples like them by {progress.trained:.3g}",
    )  # fmt: skip


def _after(interval: int) -> str:
    return "before training" if interval < 0 else f"after interval {interval}"


def progress_of(
    first: Floats, now: Floats, is_control: BoolArray, trained: Ints
) -> Progress | None:
    """How far trained and control samples have come; None where there is nothing to compare.

    ``first`` and ``now``: shape (P,), scores at the first interval and at this one; ``trained``:
    ordinals, without the control.  A curriculum picks high scores, which would fall by themselves
    when part of them is chance: so samples are compared within quarters of the first scores, and
    the quarters weigh as much as the trained samples in them.  A few control samples vary little by
    chance, so their variance is taken over all quarters, and is no less than that of the trained.
    """
    fallen = first - now
    stratum = np.searchsorted(np.quantile(first, [0.25, 0.5, 0.75]), first, side="left")
    is_trained = np.zeros(len(first), dtype=bool)
    is_trained[trained] = True
    pairs = [(fallen[is_trained & (stratum == k)], fallen[is_control & (stratum == k)])
             for k in range(_STRATA)]  # fmt: skip
    pairs = [(ours, control) for ours, control in pairs if len(ours) and len(control)]
    if sum(len(control) for _, control in pairs) < 2:
        return None
    of_trained = _variance([ours for ours, _ in pairs])
    of_control = max(of_trained, _variance([control for _, control in pairs]))
    shares = np.array([len(ours) for ours, _ in pairs], np.float64)
    shares /= shares.sum()
    errors = [of_trained / len(ours) + of_control / len(control) for ours, control in pairs]
    return Progress(
        float(shares @ [ours.mean() for ours, _ in pairs]),
        float(shares @ [control.mean() for _, control in pairs]),
        math.sqrt(float(shares**2 @ errors)),
    )


def _variance(groups: Sequence[Floats]) -> float:
    """Within groups, of all together; 0 where none has two members."""
    degrees = sum(len(each) - 1 for each in groups)
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in groups)
    return squares / degrees if degrees else 0.0
