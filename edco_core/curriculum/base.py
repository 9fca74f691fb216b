"""What every strategy is given and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from edco_core.errors import InputError
from edco_core.records import STAGES, Selection, Stage

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Beliefs, Floats, Ints


class Settings(Protocol):
    """A ``curriculum`` section."""

    @property
    def type(self) -> str: ...


SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Keys of which a strategy selects the N highest: ``slope * score + offset``."""

    slope: float
    """At least 0."""
    offsets: Floats
    """Shape (P,), by ordinal: zeros, or the noise of a draw."""

    def keys(self, scores: Floats) -> Floats:
        """Shape (P,)."""
        return self.slope * scores + self.offsets


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sample when a curriculum was selected, as the ledger tells it afterwards."""

    is_selected: bool
    scores: tuple[float, ...]
    """Of all intervals up to that one."""
    rank: int
    pool_size: int
    probability: float | None
    """Kept with a selected sample where something was drawn."""
    reason: str | None
    """Of a selected sample."""
    category: str | None
    prompt_chars: int
    completion_chars: int
    prompt: str | None
    """None where the ledger has no texts."""
    completion: str | None
    answers: tuple[tuple[int, int] | None, ...] = ()
    """Of the intervals before: how many it got, and how many were correct; None: not asked."""
    belief: tuple[float, float] | None = None
    """alpha and beta, where the strategy keeps beliefs and this one is not its prior."""

    @property
    def place(self) -> str:
        """Where its score is, for people."""
        return f"rank {self.rank} of {self.pool_size}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a sample is in a curriculum, or out of it."""

    how: str
    probability: float | None = None
    """Its chance to be selected, where chance decides."""
    by_score: bool = False
    """Whether a higher score would have brought it in, so that the distance says something."""


class Strategy(ABC, Generic[SettingsT]):
    """Scores and what came before in, curriculum out: no store, no clock, no global seed.

    ``choose`` is all a strategy must have.  The same evidence, count and generator give the same
    selection; ties are broken by sample id, which is the order of the pool.  What a strategy wants
    to remember it returns with the selection (``state``) and finds in the next interval's evidence;
    it keeps nothing itself.  ``beliefs`` are for the trainer, and for people.
    """

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

    @abstractmethod
    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        """The next curriculum: ``num_samples`` (N, 1 <= N <= P) distinct samples of the pool.

        ``evidence.scores`` has shape (P,), one finite number per sample, indexed by ordinal.
        """

    def ranking(self, scores: Floats, rng: np.random.Generator) -> Ranking | None:
        """What ``choose`` selects the N highest of, given the same arguments; None: not that way.

        Selective rescoring needs it, to tell beforehand whom another score could bring in or out.
        Strategies that have it are named in ``RANKING_STRATEGIES`` (config_scoring.py).
        """
        return None

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        """Why a sample is in or out, from ``Selection.facts`` and what the ledger has of it."""
        if not sample.is_selected:
            return Explanation(f"not selected ({sample.place})", by_score=True)
        if sample.probability is None:
            return Explanation(str(sample.reason))
        how = f"drawn with probability {sample.probability:.3f} ({sample.place})"
        return Explanation(how, sample.probability)

    def select(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        """``choose`` with its input checked; raises InputError for scores no rule can order."""
        scores = evidence.scores
        if not np.isfinite(scores).all():
            bad = np.flatnonzero(~np.isfinite(scores))
            raise InputError(
                f"{len(bad)} of {len(scores)} scores are not finite (first at ordinal {bad[0]}); "
                "a curriculum needs finite scores. Score the pool again with another dtype."
            )
        if not 1 <= num_samples <= len(scores):
            raise InputError(
                f"{num_samples} samples cannot be selected from a pool of {len(scores)}; "
                f"allowed: 1 to {len(scores)}."
            )
        made = self.choose(evidence, num_samples, rng)
        if ":" not in self.settings.type:
            return made
        _check_own(self.settings.type, made.ordinals, num_samples, len(scores))
        # ``edco why`` finds the class again by its name.
        return replace(made, facts={**made.facts, "rule": self.settings.type})


def derive_generator(
    seed: int, interval: int, stage: Stage
) -> tuple[np.random.Generator, dict[str, Any]]:
    """The generator of one stage of one interval, and the record it can be made from again."""
    record = {"bit_generator": "PCG64", "seed_sequence": [seed, interval, STAGES.index(stage)]}
    return generator_from(record), record


def generator_from(record: dict[str, Any]) -> np.random.Generator:
    """The generator a record of ``derive_generator`` stands for, as it was before any draw."""
    seed = np.random.SeedSequence(record["seed_sequence"])
    return np.random.Generator(np.random.PCG64(seed))


def selection_of(
    evidence: Evidence,
    ordinals: Ints,
    *,
    reason: str,
    facts: dict[str, Any],
    probabilities: Floats | None = None,
    state: dict[str, Any] | None = None,
    beliefs: Beliefs | None = None,
) -> Selection:
    """The selection of these samples, in training order, with their scores and ranks."""
    scores = evidence.scores[ordinals]
    return Selection(
        ordinals=ordinals.astype(np.int64),
        scores=scores,
        ranks=ranks_of(evidence.scores, ordinals),
        probabilities=probabilities,
        reason=reason,
        cutoff=float(scores.min()),
        facts=facts,
        state=state or {},
        beliefs=beliefs,
    )


def _check_own(name: str, ordinals: Ints, num_samples: int, pool_size: int) -> None:
    """Raise InputError where a user's own strategy did not select what it was asked for."""
    told = f"{name} was asked for {num_samples} different samples of 0 to {pool_size - 1}"
    found = np.asarray(ordinals)
    if found.shape != (num_samples,) or found.dtype.kind != "i":
        raise InputError(f"{told}, as whole numbers, and gave {found.dtype} of {found.shape}.")
    in_order = np.sort(found)
    if in_order[0] < 0 or in_order[-1] >= pool_size:
        raise InputError(f"{told}, and gave {in_order[0]} to {in_order[-1]}.")
    again = in_order[1:][in_order[1:] == in_order[:-1]]
    if len(again):
        raise InputError(f"{told}, and gave {again[0]} more than once.")


def highest(keys: Floats, num: int) -> Ints:
    """Shape (num,): where the highest keys are, descending; equal ones in the order of the pool."""
    found = np.arange(len(keys) if num else 0)
    if 0 < num < len(keys):
        cut = np.partition(keys, len(keys) - num)[len(keys) - num]
        above = np.flatnonzero(keys > cut)
        found = np.concatenate([above, np.flatnonzero(keys == cut)[: num - len(above)]])
    return found[np.argsort(-keys[found], kind="stable")]


def ranks_of(scores: Floats, ordinals: Ints) -> Ints:
    """Shape of ``ordinals``: their ranks among all scores, 1 = highest, ties by sample id."""
    ascending = np.sort(scores)
    by_score = np.argsort(scores[ordinals])  # neighbours are found much faster in turn
    asked = scores[ordinals][by_score]
    not_above = np.searchsorted(ascending, asked, side="right")
    if (ascending[not_above - 2] == asked)[not_above > 1].any():
        return rank_descending(scores)[1][ordinals]
    ranks = np.empty(len(ordinals), dtype=np.int64)
    ranks[by_score] = len(scores) - not_above + 1
    return ranks


def rank_descending(scores: Floats) -> tuple[Ints, Ints]:
    """Ordinals from the highest score to the lowest, and each ordinal's rank (1 = highest).

    Both have shape (P,); equal scores keep the order of the pool, that is of sample ids.
    """
    by_score = np.argsort(-scores, kind="stable")
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[by_score] = np.arange(1, len(scores) + 1)
    return by_score, ranks
