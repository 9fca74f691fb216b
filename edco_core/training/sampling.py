"""How the answers of a step are come by: one class for each rule.

A rule asks for answers through a :class:`~edco_core.training.answers.StepAnswers` and says which of
them are trained on.  What it may decide by is what the step has seen so far, what was known before
the interval, and the step's own generator, so that a step that is sampled again comes out the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from trl import GRPOConfig

from edco_core.config import GrpoSection
from edco_core.config_training import DEFAULT_REDRAWS
from edco_core.curriculum.cures import answer_weights, split
from edco_core.errors import ConfigError
from edco_core.training.answers import StepAnswers

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints


class Sampling(ABC):
    """What a step asks for, and which of the answers it trains on."""

    measures_gradients = False
    """Whether the gradients of the answers are to be measured for the ledger."""

    @abstractmethod
    def sample(self, step: StepAnswers) -> Ints:
        """Ask, and return the places of the answers to train on: ascending, repeated to count
        again, G for each of the step's prompts unless ``answers_trained`` says otherwise."""

    def answers_trained(self, per_prompt: int) -> int:
        """Answers trained on for each of a step's prompts, of the G that were asked for."""
        return per_prompt

    def most_answers(self, num_prompts: int, per_prompt: int) -> int:
        """The most that a step may ask for; the least is G for each of its prompts."""
        return num_prompts * per_prompt


class Plain(Sampling):
    """G answers to each of the next prompts, all trained on."""

    def sample(self, step: StepAnswers) -> Ints:
        groups = step.draw(step.num_prompts)
        step.ask(groups, step.per_prompt)
        return step.of(groups)


def draw_wanted(
    step: StepAnswers,
    num_answers: int,
    is_wanted: Callable[[StepAnswers, int], bool],
    max_redraws: int,
) -> Ints:
    """As many groups as the step has prompts: those wanted, then others, each as they were drawn.

    Each prompt is asked for ``num_answers``; for those that are not wanted the next are drawn, at
    most ``max_redraws`` times.
    """
    wanted: list[int] = []
    for _ in range(1 + max_redraws):
        missing = step.num_prompts - len(wanted)
        if not missing:
            break
        groups = step.draw(missing)
        step.ask(groups, num_answers)
        wanted += [group for group in groups if is_wanted(step, group)]
    others = np.setdiff1d(np.arange(len(step.ordinals)), wanted)
    return np.concatenate([np.array(wanted, np.int64), others])[: step.num_prompts]


class Refill(Sampling):
    """Groups that are not wanted are passed over, and the next prompts asked instead.

    After DAPO's dynamic sampling (arXiv 2503.14476) and online difficulty filtering (arXiv
    2504.03380).  Departure: a step asks anew at most ``max_redraws`` times, and only for as many as
    it still lacks; then it takes what there is, in the order it was asked.
    """

    def __init__(self, is_wanted: Callable[[StepAnswers, int], bool], max_redraws: int) -> None:
        self._is_wanted = is_wanted
        self._max_redraws = max_redraws

    def sample(self, step: StepAnswers) -> Ints:
        return step.of(draw_wanted(step, step.per_prompt, self._is_wanted, self._max_redraws))

    def most_answers(self, num_prompts: int, per_prompt: int) -> int:
        return num_prompts * per_prompt * (1 + self._max_redraws)


class Screened(Sampling):
    """A few answers first; the rest of the G only where the few are not all worth the same.

    After SPEED-RL (arXiv 2506.09016): screening, then continuation, and both are trained on.
    Departures: what was screened is continued in the same step, where the paper carries it in a
    buffer to the next so that both kinds are generated together; and a step screens anew at most
    ``max_redraws`` times, then continues the first of those that it had passed over.
    """

    def __init__(self, num_screening: int, max_redraws: int) -> None:
        self._num_screening = num_screening
        self._max_redraws = max_redraws

    def sample(self, step: StepAnswers) -> Ints:
        kept = draw_wanted(step, self._num_screening, StepAnswers.has_signal, self._max_redraws)
        step.ask(np.sort(kept), step.per_prompt - self._num_screening)
        return step.of(kept)

    def most_answers(self, num_prompts: int, per_prompt: int) -> int:
        return num_prompts * (per_prompt + self._max_redraws * self._num_screening)


class OuterPairs(Sampling):
    """The answers that differ most, in pairs, and pairs of large advantage more often.

    After Shuffle-R1 (arXiv 2508.05612).  Pairwise trajectory sampling: a prompt's answers are
    ordered by advantage and paired from outside in, the highest with the lowest; the outer pairs
    are kept.  Batch shuffle: as many pairs as were kept are drawn from all of the step, with a
    chance that grows as |A1| + |A2|.  Departure: they are drawn with replacement, once for each
    step, where the paper draws several parts without.  Where no answer has an advantage the pairs
    stay as they are.
    """

    def __init__(self, keep_share: float) -> None:
        self._keep_share = keep_share

    def sample(self, step: StepAnswers) -> Ints:
        groups = step.draw(step.num_prompts)
        step.ask(groups, step.per_prompt)
        pairs: list[tuple[int, int]] = []
        for group in groups:
            places = step.of(group)
            order = places[np.argsort(step.advantages[places], kind="stable")]
            outer = self.answers_trained(step.per_prompt) // 2
            pairs += zip(order[:outer], order[::-1][:outer], strict=True)
        kept = np.array(pairs, np.int64)
        weights = np.abs(step.advantages[kept]).sum(axis=1)
        if weights.sum() > 0:
            kept = kept[step.rng.choice(len(kept), size=len(kept), p=weights / weights.sum())]
        return np.sort(kept.ravel())

    def answers_trained(self, per_prompt: int) -> int:
        return 2 * max(1, min(per_prompt // 2, round(self._keep_share * per_prompt / 2)))


class Allocated(Sampling):
    """The step's answers are shared out by how much each prompt's gradient is thought to vary.

    After CurES (arXiv 2510.01037): n_i = N sigma_i / sum of sigma, N = G for each prompt, by the
    chance p to answer correctly and, with ``gradient_terms``, measured gradients (see
    :func:`~edco_core.curriculum.cures.answer_weights`).  p is the mean of the belief that was
    stored with the selection; prompts of which nothing is known are asked ``cold_start`` times
    first, and what that tells joins the prior.  Whole numbers that keep N, at least one each.
    """

    def __init__(self, prior: tuple[float, float], cold_start: int, gradient_terms: bool) -> None:
        self._prior = prior
        self._cold_start = cold_start
        self.measures_gradients = gradient_terms

    def sample(self, step: StepAnswers) -> Ints:
        groups = step.draw(step.num_prompts)
        alpha, beta, is_known = self._beliefs(step)
        step.ask(groups[~is_known], min(self._cold_start, step.per_prompt))
        asked, correct = step.counts()
        chances = (alpha + correct) / (alpha + beta + asked)
        weights = answer_weights(chances, self._terms(step))
        counts = split(step.num_prompts * step.per_prompt, weights, np.maximum(asked, 1))
        step.ask(groups, counts - asked)
        return step.of(groups)

    def _beliefs(self, step: StepAnswers) -> tuple[Floats, Floats, Any]:
        """alpha and beta of each of the step's prompts, and whether it was known before."""
        alpha, beta = (np.full(len(step.ordinals), each) for each in self._prior)
        beliefs = step.known.beliefs if step.known is not None else None
        if beliefs is None or not len(beliefs.ordinals):
            return alpha, beta, np.zeros(len(step.ordinals), bool)
        places, is_known = _find(step.ordinals, beliefs.ordinals)
        alpha[is_known] = beliefs.alpha[places[is_known]]
        beta[is_known] = beliefs.beta[places[is_known]]
        return alpha, beta, is_known

    def _terms(self, step: StepAnswers) -> Floats | None:
        """Shape (prompts, 3): correct, wrong, gap; the mean where a prompt has none of its own."""
        known = step.known
        if not self.measures_gradients or known is None or known.gradients is None:
            return None
        assert known.measured is not None
        gradients = known.gradients
        measured = np.stack([gradients.correct, gradients.wrong, gradients.gap], axis=1)
        seen = [each[~np.isnan(each)] for each in measured.T]
        if not (len(seen[0]) and len(seen[1])):
            return None
        typical = [float(each.mean()) if len(each) else 0.0 for each in seen]
        terms = np.tile(typical, (len(step.ordinals), 1))
        places, is_known = _find(step.ordinals, known.measured)
        own = measured[places[is_known]]
        terms[is_known] = np.where(np.isnan(own), terms[is_known], own)
        return terms


def _find(wanted: Ints, among: Ints) -> tuple[Ints, Any]:
    """Where each is among others, which ascend, and whether it is."""
    places = np.minimum(np.searchsorted(among, wanted), len(among) - 1)
    return places, among[places] == wanted


def num_answers(settings: GrpoSection) -> int:
    """G, the answers to each prompt in a step."""
    return int(settings.args.get("num_generations", GRPOConfig.num_generations))


def build_sampling(settings: GrpoSection, curriculum: Any = None) -> Sampling:
    """The rule of these two sections; raises ConfigError for what does not go together."""
    per_prompt = num_answers(settings)
    kind = getattr(curriculum, "type", None)
    if settings.skip_without_signal:
        return Refill(StepAnswers.has_signal, settings.max_redraws or DEFAULT_REDRAWS)
    if kind == "difficulty_filter":
        low, high = curriculum.low, curriculum.high
        rates = [k / per_prompt for k in range(per_prompt + 1)]
        if not any(low < rate < high for rate in rates):
            raise ConfigError(
                f"curriculum.low, high: {low:g}, {high:g} came, and of {per_prompt} answers "
                "(training.args.num_generations) no share is between them, so that every prompt "
                f"would be passed over. Take one of {', '.join(f'{r:.3g}' for r in rates[1:-1])} "
                "in."
            )
        return Refill(lambda step, g: low < step.pass_rate(g) < high, curriculum.max_redraws)
    if kind == "speed":
        if curriculum.screening_answers >= per_prompt:
            raise ConfigError(
                f"curriculum.screening_answers: {curriculum.screening_answers} came, and a prompt "
                f"has {per_prompt} answers (training.args.num_generations). Allowed: 2 to "
                f"{per_prompt - 1}."
            )
        return Screened(curriculum.screening_answers, curriculum.max_redraws)
    if kind == "shuffle_r1":
        pairs = OuterPairs(curriculum.keep_share)
        _refuse_uneven_batches(settings, pairs.answers_trained(per_prompt), per_prompt)
        return pairs
    if kind == "cures":
        prior = (curriculum.prior_correct, curriculum.prior_wrong)
        return Allocated(prior, curriculum.cold_start, curriculum.gradient_terms)
    return Plain()


def _refuse_uneven_batches(settings: GrpoSection, num_trained: int, per_prompt: int) -> None:
    """Raise ConfigError where a part of the answers could not be dealt out evenly by TRL."""
    batch = settings.args.get("per_device_train_batch_size", GRPOConfig.per_device_train_batch_size)
    if isinstance(batch, int) and batch * num_trained % per_prompt:
        raise ConfigError(
            f"curriculum.keep_share: {num_trained} of {per_prompt} answers to a prompt are trained "
            f"on, which makes no whole number of a batch of {batch}. Use a multiple of "
            f"{per_prompt} as training.args.per_device_train_batch_size, or another keep_share."
        )
