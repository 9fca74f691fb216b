"""Evaluation: greedy answers on the held-out samples, and a metric over them."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from edco_core.config import EvaluationSection
from edco_core.errors import DataError
from edco_core.prompts import prompt_token_ids, reference_texts
from edco_core.records import Evaluation, Pool

if TYPE_CHECKING:
    from edco_core.loading import ModelHost

NEEDED_FIELDS: Mapping[str, frozenset[str]] = {
    "exact_match": frozenset(),
    "numeric": frozenset({"answer"}),
}
"""Optional fields of a sample that a metric cannot do without."""

# A sign right after a digit joins two numbers (20-5, 2024-05-17); a comma belongs to a number only
# before three digits.
_NUMBER = re.compile(r"(?:(?<!\d)[-+])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")


def exact_match(generated: str, completion: str, answer: str | None) -> bool:
    """The whole completion, up to white space at both ends."""
    return generated.strip() == completion.strip()


def numeric(generated: str, completion: str, answer: str | None) -> bool:
    """The last number of the generated text equals the last of ``answer``; commas are ignored."""
    found, expected = _last_number(generated), _last_number(answer or "")
    return found is not None and found == expected


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(text)
    return float(numbers[-1].replace(",", "")) if numbers else None


def check_answers(metric: str, pool: Pool, key: str = "evaluation.metric") -> None:
    """Raise DataError where ``numeric`` would count a sample as wrong whatever the model says."""
    if metric != "numeric":
        return
    for answer, source in zip(
        pool.table.column("answer").to_pylist(),
        pool.table.column("source").to_pylist(),
        strict=True,
    ):
        if _last_number(answer or "") is None:
            raise DataError(
                f"{source}: answer: {answer!r} came, in which there is no number. Expected one, as "
                f"{key} is numeric; or use exact_match."
            )


METRICS: Mapping[str, Callable[[str, str, str | None], bool]] = {
    "exact_match": exact_match,
    "numeric": numeric,
}


class Evaluator:
    """Measures one metric on one evaluation set, as a share of samples in [0, 1]."""

    def __init__(self, settings: EvaluationSection, pool: Pool, host: ModelHost) -> None:
        self._settings = settings
        self._host = host
        self._prompts = prompt_token_ids(pool, host.tokenizer)
        self._references = reference_texts(pool)
        self._answers = pool.table.column("answer").to_pylist()
        self._categories = pool.table.column("category").to_pylist()

    def evaluate(self, interval: int, on_progress: Callable[[int, int], None]) -> Evaluation:
        """Answer every sample greedily with the host's weights, and compare.

        ``on_progress`` gets (samples answered, samples in all) after each batch.
        """
        # Decoding loads torch; importing this module for NEEDED_FIELDS must not.
        from edco_core.scoring.batches import plan_batches
        from edco_core.scoring.decoding import decode_greedily

        start = time.perf_counter()
        metric = METRICS[self._settings.metric]
        correct = [False] * len(self._prompts)
        num_done = 0
        for batch in plan_batches(
            [len(prompt) for prompt in self._prompts],
            max_new_tokens=self._settings.max_new_tokens,
            max_batch_tokens=self._settings.max_batch_tokens,
        ):
            decoded = decode_greedily(
                self._host.model_for_inference(),
                [self._prompts[i] for i in batch],
                max_new_tokens=self._settings.max_new_tokens,
                pad_token_id=self._host.pad_token_id,
                eos_token_ids=self._host.eos_token_ids,
                with_entropies=False,
            )
            texts = self._host.tokenizer.batch_decode(decoded.token_ids, skip_special_tokens=True)
            for i, text in zip(batch, texts, strict=True):
                correct[i] = metric(text, self._references[i], self._answers[i])
            num_done += len(batch)
            on_progress(num_done, len(self._prompts))
        groups: dict[str, list[bool]] = defaultdict(list)
        for category, is_correct in zip(self._categories, correct, strict=True):
            if category is not None:
                groups[category].append(is_correct)
        return Evaluation(
            interval=interval,
            metric=self._settings.metric,
            value=sum(correct) / len(correct),
            n=len(correct),
            by_category={c: (sum(g) / len(g), len(g)) for c, g in sorted(groups.items())},
            seconds=time.perf_counter() - start,
        )
