"""The answers of one step, as they come in: whose they are, what they are worth, TRL's tensors.

Shapes: A = answers so far.  A *group* is the answers to one prompt; its number counts the prompts
the step has drawn.  Groups may be of unequal size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edco_core.training.rollouts import Group

if TYPE_CHECKING:
    from edco_core.records import BoolArray, Floats, Ints, Known

Batch = dict[str, Any]
"""What TRL trains on, a tensor for each name; all but the counts have a row for each answer."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one call generated: arrays of one length, in the order it was asked for."""

    batch: Batch
    rewards: Floats
    is_correct: BoolArray
    n_tokens: Ints
    truncated: BoolArray
    texts: Sequence[str]


Generate = Callable[["Ints", int], Answers]
"""From the ordinal of each answer's prompt, and the size of the groups in which TRL is to reckon
their advantages, all alike."""


class StepAnswers:
    """Asks for the answers of a step, and holds them."""

    def __init__(
        self,
        generate: Generate,
        prompt_at: Callable[[Ints], Ints],
        *,
        num_prompts: int,
        per_prompt: int,
        is_scaled: bool = True,
        rng: np.random.Generator,
        known: Known | None = None,
    ) -> None:
        """``prompt_at``: the ordinals of the prompts at places of what is still to be asked."""
        self._generate = generate
        self._prompt_at = prompt_at
        self._is_scaled = is_scaled
        self.num_prompts = num_prompts
        """Groups that the step trains on, unless a rule says otherwise."""
        self.per_prompt = per_prompt
        """G, the answers to each of them."""
        self.rng = rng
        self.known = known
        self.ordinals: Ints = np.zeros(0, np.int64)
        """Of each group."""
        self.groups: Ints = np.zeros(0, np.int64)
        """Of each answer: the number of its group."""
        self.rewards: Floats = np.zeros(0)
        self.is_correct: BoolArray = np.zeros(0, bool)
        self.advantages: Floats = np.zeros(0)
        self.calls: list[Answers] = []

    def draw(self, num_prompts: int) -> Ints:
        """The next prompts of the curriculum: the numbers of their groups, without answers yet."""
        numbers = np.arange(len(self.ordinals), len(self.ordinals) + num_prompts)
        self.ordinals = np.concatenate([self.ordinals, self._prompt_at(numbers)])
        return numbers

    def ask(self, groups: Ints, counts: Ints | int) -> None:
        """Ask the prompt of each of these groups for so many answers more."""
        counts = np.broadcast_to(counts, groups.shape)
        owners = np.repeat(groups, counts)
        if not len(owners):
            return
        is_even = counts.min() == counts.max() and not np.isin(groups, self.groups).any()
        found = self._generate(self.ordinals[owners], int(counts[0]) if is_even else 1)
        self.calls.append(found)
        self.groups = np.concatenate([self.groups, owners])
        self.rewards = np.concatenate([self.rewards, found.rewards])
        self.is_correct = np.concatenate([self.is_correct, found.is_correct])
        theirs = found.batch["advantages"].double().cpu().numpy()
        self.advantages = np.concatenate([self.advantages, theirs])
        if not is_even:
            for group in groups:
                places = self.of(group)
                self.advantages[places] = advantages(self.rewards[places], self._is_scaled)

    def of(self, groups: Ints | int) -> Ints:
        """The places of the answers of these groups, ascending."""
        return np.flatnonzero(np.isin(self.groups, groups))

    def has_signal(self, group: int) -> bool:
        """Whether its answers are not all worth the same."""
        return float(np.ptp(self.rewards[self.of(group)].astype(np.float32))) > 0

    def pass_rate(self, group: int) -> float:
        """Share of its answers that are correct."""
        return float(self.is_correct[self.of(group)].mean())

    def counts(self) -> tuple[Ints, Ints]:
        """Answers, and correct ones, of each group drawn so far."""
        num = len(self.ordinals)
        correct = np.bincount(self.groups, weights=self.is_correct, minlength=num)
        return np.bincount(self.groups, minlength=num), correct.astype(np.int64)

    def trained_on(self, places: Ints, *, pad_token_id: int) -> Batch:
        """The batch of the answers at these places, ascending; a repeated one counts again."""
        firsts = np.cumsum([0, *(len(call.rewards) for call in self.calls)])
        parts = [
            (call.batch, torch.as_tensor(places[(first <= places) & (places < end)] - first))
            for call, (first, end) in zip(self.calls, pairwise(firsts), strict=True)
        ]
        batch = _join([part for part in parts if len(part[1])], pad_token_id)
        ours = torch.as_tensor(self.advantages[places]).to(batch["advantages"])
        return batch | {"advantages": ours}

    def as_groups(self) -> list[Group]:
        """All groups, in the order they were drawn."""
        n_tokens = np.concatenate([call.n_tokens for call in self.calls])
        truncated = np.concatenate([call.truncated for call in self.calls])
        texts = [text for call in self.calls for text in call.texts]
        found = []
        for number, ordinal in enumerate(self.ordinals):
            places = self.of(number)
            found.append(
                Group(
                    ordinal=int(ordinal),
                    rewards=self.rewards[places],
                    is_correct=self.is_correct[places],
                    advantages=self.advantages[places],
                    n_tokens=n_tokens[places],
                    truncated=truncated[places],
                    texts=[texts[place] for place in places],
                )
            )
        return found


def advantages(rewards: Floats, is_scaled: bool) -> Floats:
    """Of one group's answers, by TRL's formula: what each is worth more than their mean.

    ``is_scaled``: in standard deviations (over n - 1).  An answer alone has none.
    """
    values = rewards.astype(np.float32)  # as TRL
    above: Floats = (values - values.mean()).astype(np.float64)
    if is_scaled and len(values) > 1:
        above = (above.astype(np.float32) / (values.std(ddof=1) + np.float32(1e-4))).astype(
            np.float64
        )
    return above


def _join(parts: list[tuple[Batch, torch.Tensor]], pad_token_id: int) -> Batch:
    """One batch of some rows of several.

    Prompts are padded on the left, all else on the right, as TRL does.
    """
    joined: Batch = {}
    for name, value in parts[0][0].items():
        if value.dim() == 0:
            continue
        values = [batch[name] for batch, _ in parts]
        if value.dim() == 2:
            width = max(each.shape[1] for each in values)
            fill = pad_token_id if name.endswith("_ids") else 0
            on_left = name.startswith("prompt_")
            values = [
                torch.nn.functional.pad(
                    each,
                    (width - each.shape[1], 0) if on_left else (0, width - each.shape[1]),
                    value=fill,
                )
                for each in values
            ]
        rows = [
            each[chosen.to(each.device)] for each, (_, chosen) in zip(values, parts, strict=True)
        ]
        joined[name] = torch.cat(rows)
    joined["num_items_in_batch"] = joined["completion_mask"].sum()
    return joined
