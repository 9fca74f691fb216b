"""Gradients of log p(answer | prompt) by the trained parameters, one answer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from edco_core.training.rollouts import Gradients

if TYPE_CHECKING:
    from edco_core.training.answers import StepAnswers


def group_gradients(trainer: Any, step: StepAnswers) -> list[Gradients]:
    """What CurES (arXiv 2510.01037) measures of each group, after all answers of a step came.

    A backward pass for each answer, and memory for two gradients more.  Dropout is off, and neither
    the random state nor gradients in the making are touched.  Means over few answers are noisy, and
    the gap between them is overestimated by that.
    """
    rows = [(call.batch, row) for call in step.calls for row in range(len(call.rewards))]
    parameters = [each for each in trainer.model.parameters() if each.requires_grad]
    found = []
    with _without_dropout(trainer.model):
        for group in range(len(step.ordinals)):
            squares: dict[bool, list[float]] = {True: [], False: []}
            sums: dict[bool, Any] = {True: 0.0, False: 0.0}
            for place in step.of(group):
                gradient = _gradient(trainer, rows[place], parameters)
                kind = bool(step.is_correct[place])
                squares[kind].append(float(gradient.square().sum()))
                sums[kind] = sums[kind] + gradient
            correct, wrong = (len(squares[kind]) for kind in (True, False))
            gap = None
            if correct and wrong:
                gap = float((sums[True] / correct - sums[False] / wrong).square().sum())
            found.append(
                Gradients(
                    correct=sum(squares[True]) / correct if correct else None,
                    wrong=sum(squares[False]) / wrong if wrong else None,
                    gap=gap,
                )
            )
    return found


def _gradient(trainer: Any, answer_at: tuple[Any, int], parameters: list[Any]) -> torch.Tensor:
    """All of it as one vector; of the answer at a row of a batch."""
    batch, row = answer_at
    prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
    answer = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
    if not len(answer):  # cut off, and masked for that: nothing of it is trained on
        return torch.zeros(sum(each.numel() for each in parameters), device=prompt.device)
    ids = torch.cat([prompt, answer])[None]
    log_p, _, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, torch.ones_like(ids), len(answer)
    )
    gradients = torch.autograd.grad(log_p.sum(), parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(each) if gradient is None else gradient).float().flatten()
            for each, gradient in zip(parameters, gradients, strict=True)
        ]
    )


@contextmanager
def _without_dropout(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        model.train(was_training)
