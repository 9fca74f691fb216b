"""The records that cross layers: plain, frozen, free of models, rows and futures.

Words as in the README: a *pool* is all samples of one data set; an *interval* is one turn of the
loop; a *curriculum* is what one interval trains on.  Arrays are NumPy, one entry per sample.
``ordinal`` is the position of a sample in its pool, and pools are sorted by ``sample_id``: the
same content gives the same ordinals on every machine, whatever the order of the file's rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

Stage = Literal["checkpoint", "scoring", "selection", "training"]
STAGES: tuple[Stage, ...] = ("checkpoint", "scoring", "selection", "training")

RunStatus = Literal["running", "interrupted", "failed", "finished"]
Change = Literal["first_time", "returned", "stayed"]

BASELINE_INTERVAL = -1
"""The interval under which evaluations before any training are kept."""


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row left out under ``on_bad_rows: skip``, and why."""

    source: str
    """File and line, ``pool.jsonl:17``."""
    problem: str


@dataclass(frozen=True, slots=True)
class Pool:
    """All samples of one data set, sorted by ``sample_id``, duplicates by content removed."""

    fingerprint: str
    """Hash over the sorted sample ids; names the data set in the ledger (``dataset_id``)."""
    source: str
    """Where it came from, for people: a path, a glob or a hub id."""
    table: pa.Table
    """Columns, one row per sample in ordinal order: ``sample_id``, ``prompt``, ``completion``,
    ``answer``, ``category``, ``metadata`` (JSON), ``source`` (file and line), ``content_hash`` (of
    prompt, completion and answer; the id of samples that bring none); all text, the four before the
    last nullable.  Conversational prompts and completions are JSON lists of messages."""
    conversational: bool
    num_duplicates: int = 0
    skipped: tuple[SkippedRow, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What a run is before it starts: written once, never changed."""

    run_id: str
    name: str
    experiment: str | None
    seed: int
    strategy: str
    scorer: str
    trainer: str
    model: str
    dataset_id: str
    eval_dataset_id: str | None
    metric: str | None
    intervals: int
    pool_size: int
    top_n: int
    run_dir: str
    config: dict[str, Any]
    """The resolved configuration, without the ledger's own address."""
    plan: dict[str, Any]
    """What the configuration comes to on this pool: steps per interval, batch size, total steps."""
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as the ledger knows it now."""

    run_id: str
    status: RunStatus
    run_dir: str
    dataset_id: str
    eval_dataset_id: str | None
    config: dict[str, Any]
    plan: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to one run.  ``token`` grows by one whenever the owner changes."""

    run_id: str
    run_key: int
    token: int
    owner: str


@dataclass(frozen=True, slots=True)
class ScoreShard:
    """Scores of some samples of the pool at one interval: arrays of one length S."""

    ordinals: Ints
    scores: Floats
    """In the scorer's unit (nats for entropies)."""
    n_tokens: Ints
    """Tokens each score was computed from: generated ones, or those of the reference answer."""
    scored_at_interval: Ints | None = None
    """Which checkpoint each score is of; None where it is that of the interval they are for."""
    token_entropies: Floats | None = None
    """Of all these tokens, sample after sample, in the scorer's unit; not kept in the ledger."""


@dataclass(frozen=True, slots=True)
class ScoreHistory:
    """What is known of every sample of a pool before an interval: arrays by ordinal."""

    scores: Floats
    """The newest score."""
    scored_at_interval: Ints
    """When that was made."""
    earlier_scores: Floats
    """The score before the newest; NaN for a sample scored only once."""
    earlier_scored_at_interval: Ints
    """When that was made; -1 where there is none."""


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What is believed of samples' pass rates, each a Beta distribution: arrays of one length M."""

    ordinals: Ints
    """Ascending; a sample that is not among them has the strategy's prior."""
    alpha: Floats
    """Right answers, the prior's among them."""
    beta: Floats
    """Wrong ones."""


@dataclass(frozen=True, slots=True)
class Selection:
    """One interval's curriculum: N samples in training order, and the rule that chose them."""

    ordinals: Ints
    """Shape (N,), in training order; the position of a sample is its index here."""
    scores: Floats
    """Shape (N,)."""
    ranks: Ints
    """Shape (N,): 1 = highest score of the pool, ties by sample id."""
    probabilities: Floats | None
    """Shape (N,): chance of each to be selected, given the scores; None where nothing was drawn."""
    reason: str
    """Short code of the rule, such as ``tempered_draw``."""
    cutoff: float | None
    """Lowest score in the curriculum."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The rule's parameters and what it derived from the scores: enough to explain any sample."""
    generator: dict[str, Any] = field(default_factory=dict)
    """What the random generator was made from; the same draw can be made again."""
    state: dict[str, Any] = field(default_factory=dict)
    """What the strategy wants to know at the next interval: JSON, and small."""
    beliefs: Beliefs | None = None
    """The same about single samples."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Saved weights: those the pool is scored with at ``interval``."""

    interval: int
    step: int
    """Optimizer steps behind it, over the whole run."""
    path: str
    weights_sha256: str

    @property
    def checkpoint_id(self) -> str:
        return self.weights_sha256[:16]


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One optimizer step, as TRL logged it.  ``step`` is global and 1-based."""

    step: int
    loss: float
    learning_rate: float | None
    grad_norm: float | None
    num_tokens: int | None
    """Tokens seen since the start of the run."""
    policy_entropy: float | None = None
    """Mean entropy of the answers' tokens under the model, in nats; of reinforcement learning."""
    kl: float | None = None
    """Mean of TRL's estimate of the divergence from the reference, in nats per token."""


@dataclass(frozen=True, slots=True)
class GradientTerms:
    """How strongly answers pull at the trained parameters, g = gradient of log p(answer | prompt):
    arrays of one length, NaN where nothing was measured."""

    correct: Floats
    """Mean of |g|^2 over correct answers."""
    wrong: Floats
    """The same of the others."""
    gap: Floats
    """|mean g of the correct - mean g of the others|^2."""


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier intervals tell of samples whose answers are about to be sampled."""

    beliefs: Beliefs | None
    """Those that the curriculum was selected by."""
    measured: Ints | None = None
    """Ordinals of the samples whose gradients were measured, ascending."""
    gradients: GradientTerms | None = None
    """The newest measurement of each of them."""
    rule: Any = None
    """The section that is in force in the interval; None: what the configuration says."""


@dataclass(frozen=True, slots=True)
class RolloutGroups:
    """Answers sampled and rewarded together in reinforcement learning: arrays of one length G,
    an entry per prompt and optimizer step, in the order they were sampled."""

    steps: Ints
    """Global, 1-based; the first of those that train on them."""
    ordinals: Ints
    slots: Ints
    """Place in the step; -1 for a group that was passed over and not trained on."""
    n: Ints
    """Answers sampled for the prompt in that step."""
    n_correct: Ints
    reward_mean: Floats
    reward_std: Floats
    """Over the n answers, not n - 1; 0: without signal."""
    advantage_abs_mean: Floats
    n_tokens_mean: Floats
    """Generated tokens per answer."""
    truncated_share: Floats
    """Of the answers, cut off at their longest length."""
    n_trained: Ints | None = None
    """Answers trained on, a repeated one counted again; None: all n where there is a slot."""
    gradients: GradientTerms | None = None
    """Only where they were measured."""


@dataclass(frozen=True, slots=True)
class RolloutAnswers:
    """The answers of an interval's groups one by one: arrays of one length A, group by group."""

    groups: Ints
    """Which of the interval's groups each is of."""
    texts: tuple[str, ...]
    rewards: Floats
    is_correct: BoolArray
    n_tokens: Ints
    truncated: BoolArray


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What one training interval did."""

    checkpoint: Checkpoint
    steps: tuple[TrainingStep, ...]
    step_ordinals: Ints
    """Shape (steps, slots): the sample in each slot of each optimizer step, in order."""
    seconds: float
    rollouts: RolloutGroups | None = None
    """Only of reinforcement learning."""
    answers: RolloutAnswers | None = None
    """Only where the texts of answers are kept."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else is to be kept with the interval, such as what a judge cost so far."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric on the evaluation set."""

    metric: str
    value: float
    n: int
    by_category: dict[str, tuple[float, int]]
    """Category to (value, number of samples)."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The run's metric on the evaluation set.  ``interval`` is -1 before training."""

    interval: int
    metric: str
    value: float
    n: int
    by_category: dict[str, tuple[float, int]]
    """Category to (value, number of samples)."""
    seconds: float
    further: tuple[Measured, ...] = ()
    """What else was measured at that time, such as pass@k; its seconds are in the above."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What the guard found wrong after an interval (edco_core/guard.py)."""

    interval: int
    alarm: str
    """Which of the alarms, such as ``accuracy``."""
    value: float
    threshold: float
    """The limit that ``value`` passed."""
    action: str
    """What came of it: the guard's ``on_alarm``."""
    message: str
    """For people."""


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One strategy in the table of a comparison; None is what is not known."""

    label: str
    strategy: str
    n_seeds: int
    """Finished runs, one of each seed."""
    n_failed: int
    metric: str
    mean: float | None
    """Of the metric after the last interval."""
    ci_low: float | None
    ci_high: float | None
    tail_mean: float | None
    """Of the metric, every category counted alike."""
    difference: float | None
    """To the reference, seed by seed."""
    difference_low: float | None
    difference_high: float | None
    n_pairs: int
    p_value: float | None
    p_adjusted: float | None
    p_sign_flip: float | None
    steps: int
    """Planned optimizer steps of a run."""
    seconds: float | None
    """Mean over runs: training, selection, and what the strategy pays for scoring."""
    scoring_seconds: float | None
    """Of these, for scoring."""
    steps_to_reference: int | None
    seconds_to_reference: float | None
