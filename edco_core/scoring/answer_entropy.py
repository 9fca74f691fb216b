"""What prefix and full-sequence entropy have in common: entropies of the model's own answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edco_core.config_scoring import FullEntropySection, PrefixEntropySection
from edco_core.positions import check_positions
from edco_core.prompts import prompt_token_ids, quick_answer_template
from edco_core.records import ScoreShard
from edco_core.scoring.base import Scorer, as_shard
from edco_core.scoring.decoding import Decoded, decode
from edco_core.scoring.drawing import Drawing
from edco_core.scoring.shared_prefix import PrefixCache
from edco_core.scoring.token_entropy import aggregated, entropy_function
from edco_core.scoring.vllm_engine import NUM_CANARIES, VllmEngine, draw_seed

if TYPE_CHECKING:
    from edco_core.prompts import TokenIds
    from edco_core.records import Ints

SettingsT = TypeVar("SettingsT", PrefixEntropySection, FullEntropySection)


class AnswerEntropyScorer(Scorer[SettingsT]):
    """Decodes up to ``_max_new_tokens`` tokens and aggregates their entropies."""

    @property
    @abstractmethod
    def _max_new_tokens(self) -> int:
        """L, the most tokens generated for a sample."""

    @cached_property
    def _prompts(self) -> list[TokenIds]:
        is_chat = self.settings.chat_template and bool(self.host.tokenizer.chat_template)
        return prompt_token_ids(
            self.pool,
            self.host.tokenizer,
            template=quick_answer_template(self.settings.quick_answer, is_chat=is_chat),
            chat_template=self.settings.chat_template,
        )

    @cached_property
    def _prefix(self) -> PrefixCache:
        return PrefixCache(self._prompts, self.host)

    @cached_property
    def _vllm(self) -> VllmEngine:
        every = max(1, len(self._prompts) // NUM_CANARIES)
        return VllmEngine(
            self.settings, self.host, self._prompts[::every][:NUM_CANARIES],
            max_new_tokens=self._max_new_tokens,
        )  # fmt: skip

    def _num_tokens(self) -> Ints:
        lengths = np.fromiter((len(prompt) for prompt in self._prompts), dtype=np.int64)
        return lengths + self._max_new_tokens

    @property
    def _max_batch_tokens(self) -> int:
        if self.settings.engine == "vllm":  # it makes its own batches of all it is given
            return self.settings.shard_size * int(self._num_tokens().max())
        return super()._max_batch_tokens

    def _rest(self) -> None:
        if self.settings.engine == "vllm":
            self._vllm.rest()

    def _score_batch(self, ordinals: Sequence[int], interval: int) -> ScoreShard:
        decoded = self._generate(ordinals, interval)
        assert decoded.entropies_NL is not None
        counts = decoded.counts_NL
        return as_shard(
            ordinals,
            aggregated(decoded.entropies_NL, counts, self.settings.fraction),
            decoded.lengths_N,
            decoded.entropies_NL[counts],
        )

    def _generate(self, ordinals: Sequence[int], interval: int) -> Decoded:
        settings = self.settings
        is_drawn = settings.decoding == "sample"
        if settings.engine == "vllm":
            seeds = [draw_seed(self._seed, interval, i) if is_drawn else None for i in ordinals]
            return self._vllm.decode([self._prompts[i] for i in ordinals], seeds)
        num_tokens = [len(self._prompts[ordinal]) + self._max_new_tokens for ordinal in ordinals]
        check_positions(self.host, self.pool, ordinals, num_tokens)
        shared = self._prefix.get()
        skip = 0 if shared is None else len(shared)
        drawing = None
        if is_drawn:
            drawing = Drawing(
                self._seed, interval, ordinals, self._max_new_tokens,
                temperature=settings.temperature or 1.0, top_p=settings.top_p or 1.0,
            )  # fmt: skip
        return decode(
            self.host.model_for_inference(),
            [self._prompts[ordinal][skip:] for ordinal in ordinals],
            max_new_tokens=self._max_new_tokens,
            pad_token_id=self.host.pad_token_id,
            eos_token_ids=self.host.eos_token_ids,
            entropy=entropy_function(settings.k, settings.unit),
            drawing=drawing,
            shared=shared,
        )
