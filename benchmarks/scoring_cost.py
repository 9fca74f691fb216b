"""What a score costs and how well it keeps the order, on real pools with models that answer.

Shapes: B = sequences, T = positions.

Against full-sequence entropy on the same engine; transformers' ``generate`` with scores, batch 1
and 16; the paper's released setting on the same engine; and one bare forward pass of the backbone
over the same prompts in the same batches, without the head: no score can be cheaper than that.

On the CPU the seconds are processor time of one thread, so that what else the machine does stays
out of the ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.measuring import Aim, Figure, Report
from benchmarks.tasks import CALCULATIONS, GSM8K, LOGHUB, LOGHUB_ALL, Task
from edco_core.config_scoring import (
    FullEntropySection,
    LossSection,
    PrefixEntropySection,
    ReferencePrefixEntropySection,
)
from edco_core.loading import ModelHost
from edco_core.prompts import prompt_token_ids
from edco_core.records import Pool
from edco_core.scoring import build_scorer
from edco_core.scoring.batches import plan_batches
from edco_core.scoring.decoding import pad_left
from edco_core.scoring.fidelity import fidelity

if TYPE_CHECKING:
    from edco_core.records import Floats

CHOSEN = 4
"""The prefix whose figures are in the table; the others are among the facts."""
MAX_NEW_TOKENS = 256
"""Of whole answers."""


def measure(*, quick: bool) -> Report:
    """Figures and facts for every task."""
    figures: list[Figure] = []
    facts: dict[str, Any] = {}
    num_threads = torch.get_num_threads()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    for task in (LOGHUB, LOGHUB_ALL, CALCULATIONS, GSM8K):
        loaded = task.load(40 if quick else 256, quick=quick)
        found, facts[task.name] = _measure(task, *loaded, quick=quick)
        figures += found
    torch.set_num_threads(num_threads)
    return Report(figures, facts)


def _sections(task: Task, quick: bool) -> dict[str, Any]:
    """Every setting that is measured; these models know no instructions: no quick answer."""
    plain: dict[str, Any] = {"quick_answer": False, **task.decoding}
    prefixes = (1, 4) if quick else (1, 2, 4, 8, 16, 32)
    return {
        "full": FullEntropySection(max_new_tokens=16 if quick else MAX_NEW_TOKENS, **plain),
        **{f"prefix {n}": PrefixEntropySection(prefix_tokens=n, **plain) for n in prefixes},
        "released": PrefixEntropySection(preset="edco_released", quick_answer=False),
        **{f"reference {n}": ReferencePrefixEntropySection(prefix_tokens=n) for n in (4, 16, 4096)},
        "loss": LossSection(),
    }


def _measure(
    task: Task, pool: Pool, host: ModelHost, *, quick: bool
) -> tuple[list[Figure], dict[str, Any]]:
    sections = _sections(task, quick)
    prompts = prompt_token_ids(pool, host.tokenizer)
    few = np.random.default_rng(1).choice(len(pool), 4 if quick else 16, replace=False).tolist()
    groups = [few[i : i + 16] for i in range(0, len(few), 16)]
    longest = sections["full"].max_new_tokens
    ways: dict[str, Callable[[], int]] = {
        "bare forward": lambda: _bare_forward(host, prompts),
        "generate 1": lambda: _generate(host, prompts, [[i] for i in few], longest, task),
        "generate 16": lambda: _generate(host, prompts, groups, longest, task),
    }
    scorers = {n: build_scorer(s, pool, host, seed=0) for n, s in sections.items()}
    asked = PrefixEntropySection(prefix_tokens=CHOSEN, quick_answer=True)
    for name in ("read once", "read by each"):
        scorers[name] = build_scorer(asked, pool, host, seed=0)
    scores: dict[str, Floats] = {}
    tokens: dict[str, float] = {}

    def run(name: str, num: int = len(pool)) -> int:
        wanted, none = np.arange(num), np.arange(0)
        found = np.empty(num)
        counts = 0
        for shard in scorers[name].score(wanted, none, lambda *_: None, interval=0):
            found[shard.ordinals] = shard.scores
            counts += int(shard.n_tokens.sum())
        scores[name], tokens[name] = found, counts / num
        return num

    for name in scorers:
        run(name, 2)  # tokenised, and warm
        ways[name] = lambda name=name: run(name)  # type: ignore[misc]

    def read_by_each() -> int:
        with patch("edco_core.scoring.shared_prefix._MIN_TOKENS", 10**9):
            return run("read by each")

    ways["read by each"] = read_by_each
    clock = time.process_time if host.device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 if quick else 2):
        for name, way in ways.items():
            start = clock()
            num = way()
            seconds[name].append((clock() - start) / num * 1000)

    table = [
        {
            "setting": name,
            "ms_per_sample": float(np.median(seconds[name])),
            "share_of_full": float(np.median(np.divide(seconds[name], seconds["full"]))),
            "mean_tokens": tokens[name],
            **asdict(fidelity(scores[name], scores["full"])),
        }
        for name in sections
    ]
    chosen = f"prefix {CHOSEN}"
    kept = fidelity(scores[chosen], scores["full"])

    def against(reference: str, what: str, aim: Aim | None = None) -> Figure:
        label = f"{task.name}: prefix entropy, L = {CHOSEN}"
        return Figure(label, seconds[chosen], seconds[reference], what, "ms/sample", aim)

    name = f"{task.name}: L = {CHOSEN}"
    return [
        against("full", f"full entropy, ≤ {longest} tokens", Aim("≤", 0.06)),
        against("generate 1", "generate with scores, batch 1"),
        against("generate 16", "generate with scores, batch 16"),
        against("released", "edco_released on this engine"),
        against("bare forward", "bare forward over the prompts", Aim("≤", 1.3)),
        Figure(
            f"{task.name}: request for a quick answer, read once",
            seconds["read once"],
            seconds["read by each"],
            "read with every prompt",
            "ms/sample",
        ),
        Figure(f"{name}, Spearman", [kept.spearman], [1.0], "full entropy", "", Aim("≥", 0.95)),
        Figure(f"{name}, top 25 %", [kept.top_overlap], [1.0], "full entropy", "", Aim("≥", 0.85)),
    ], {
        "table": table,
        "pool_size": len(pool),
        "decoding": dict(task.decoding),
        "mean_prompt_tokens": float(np.mean([len(prompt) for prompt in prompts])),
        "parameters": sum(p.numel() for p in host.model.parameters()),
        "ms_per_sample": {name: seconds[name] for name in ways},
        "samples_of_generate": len(few),
    }


@torch.inference_mode()
def _bare_forward(host: ModelHost, prompts: Sequence[Any]) -> int:
    """The backbone alone over all prompts, in the batches of prefix entropy."""
    backbone = host.model_for_inference().get_decoder()
    settings = PrefixEntropySection(prefix_tokens=CHOSEN)
    for batch in plan_batches(
        [len(prompt) for prompt in prompts],
        max_new_tokens=CHOSEN,
        max_batch_tokens=settings.max_batch_tokens,
    ):
        ids_BT, mask_BT, positions_BT = pad_left(
            [prompts[i] for i in batch], host.pad_token_id, host.device
        )
        backbone(
            input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions_BT, use_cache=False
        )
    return len(prompts)


@torch.inference_mode()
def _generate(
    host: ModelHost,
    prompts: Sequence[Any],
    groups: Sequence[Sequence[int]],
    max_new_tokens: int,
    task: Task,
) -> int:
    """What one would write first: whole answers with ``generate``, entropies from its scores."""
    drawn: dict[str, Any] = {"do_sample": False}
    if task.decoding:
        drawn = {"do_sample": True, "temperature": task.decoding["temperature"], "top_k": 0}
    for group in groups:
        padded = host.tokenizer.pad(
            {"input_ids": [prompts[i].tolist() for i in group]},
            padding_side="left",
            return_tensors="pt",
        ).to(host.device)
        output = host.model_for_inference().generate(
            **padded,
            max_new_tokens=max_new_tokens,
            **drawn,
            eos_token_id=sorted(host.eos_token_ids),
            pad_token_id=host.pad_token_id,
            output_scores=True,
            return_dict_in_generate=True,
        )
        p_BTV = torch.stack(output.scores, dim=1).float().softmax(dim=-1)
        torch.special.entr(p_BTV).sum(dim=-1)
    return sum(len(group) for group in groups)
