"""Scoring the demo's pool: ours against transformers' ``generate``, called for sample after sample.

And the memory it takes with a large vocabulary (``scoring_memory``).  What a score costs against
full-sequence entropy, and what it keeps of the order, is ``scoring_cost``.

Shapes: B = sequences, T = generated positions, V = vocabulary.

Same base model with the run's fresh adapter, same prompts, greedy, same prefix length, same scores
(checked).  Ours is timed with its tokenisation, the references without.  The reference scores a
random part of the pool in each repeat, and ours all of it: samples per second make them comparable.

``generate`` in the very batches of ours is measured too, and is about as fast: on the demo the
whole gain comes from batching by length, for the model's forward passes are the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.demo_inputs import demo_config
from benchmarks.measuring import Aim, Figure, Report
from benchmarks.scoring_memory import measure_memory
from edco_core.config import PrefixEntropySection
from edco_core.loading import ModelHost
from edco_core.prompts import prompt_token_ids, quick_answer_template
from edco_core.scoring import build_scorer
from edco_core.scoring.batches import plan_batches
from flows.prepare import load_pools

TOLERANCE_NATS = 1e-3
"""Batched and single float32 arithmetic round differently; more is another answer."""


def measure(*, quick: bool) -> Report:
    """All three ways in turns, then memory."""
    torch.set_num_threads(min(2, torch.get_num_threads()))  # the aim is stated for two cores
    config = demo_config(quick=quick)
    settings = config.scoring
    pool, _ = load_pools(config)
    host = ModelHost(config.model, seed=config.run.seed)
    host.load_base()
    template = quick_answer_template(settings.quick_answer, is_chat=False)
    prompts = [
        [int(token) for token in prompt]
        for prompt in prompt_token_ids(pool, host.tokenizer, template=template)
    ]
    batches = plan_batches(
        [len(prompt) for prompt in prompts],
        max_new_tokens=settings.prefix_tokens,
        max_batch_tokens=settings.max_batch_tokens,
    )
    generator = np.random.default_rng(0)
    num_repeats, num_single = (2, 40) if quick else (5, 200)
    for single in prompts[:5]:  # warm-up
        _generate(host, [single], settings)

    rates: dict[str, list[float]] = {"ours": [], "single": [], "batched": []}
    differences: list[float] = []
    for _ in range(num_repeats):
        start = time.perf_counter()
        scores = np.empty(len(pool))
        scorer = build_scorer(settings, pool, host, seed=config.run.seed)
        none, all_of_them = np.arange(0), np.arange(len(pool))
        for shard in scorer.score(all_of_them, none, lambda done, total: None, interval=0):
            scores[shard.ordinals] = shard.scores
        rates["ours"].append(len(pool) / (time.perf_counter() - start))

        chosen = generator.choice(len(pool), num_single, replace=False)
        start = time.perf_counter()
        single_scores = [_generate(host, [prompts[i]], settings)[0] for i in chosen]
        rates["single"].append(num_single / (time.perf_counter() - start))
        differences += np.abs(scores[chosen] - single_scores).tolist()

        start = time.perf_counter()
        for batch in batches:
            _generate(host, [prompts[i] for i in batch], settings)
        rates["batched"].append(len(pool) / (time.perf_counter() - start))
    _check_agreement(differences)
    per_second = "samples/s"
    return Report(
        [
            Figure(
                "prefix entropy",
                rates["ours"],
                rates["single"],
                "one generate call per sample",
                per_second,
                Aim("≥", 8),
            ),
            Figure(
                "prefix entropy",
                rates["ours"],
                rates["batched"],
                "one generate call per batch",
                per_second,
            ),
            measure_memory(quick=quick),
        ],
        {
            "pool_size": len(pool),
            "samples_per_repeat_of_single": num_single,
            "batches": len(batches),
            "mean_prompt_tokens": float(np.mean([len(prompt) for prompt in prompts])),
            "prefix_tokens": settings.prefix_tokens,
            "device": str(host.device),
            "threads": torch.get_num_threads(),
            "score_difference_nats": {
                "median": float(np.median(differences)),
                "max": float(np.max(differences)),
            },
        },
    )


@torch.no_grad()
def _generate(
    host: ModelHost, prompts: Sequence[Sequence[int]], settings: PrefixEntropySection
) -> list[float]:
    """Prefix entropies (B,) by transformers and torch alone: none of our decoding or entropy."""
    padded = host.tokenizer.pad(
        {"input_ids": list(prompts)},
        padding_side="left",
        return_tensors="pt",
    ).to(host.device)
    eos_token_ids = sorted(host.eos_token_ids)
    output = host.model_for_inference().generate(
        **padded,
        max_new_tokens=settings.prefix_tokens,
        do_sample=False,
        eos_token_id=eos_token_ids,
        pad_token_id=host.pad_token_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    p_BTV = torch.stack(output.logits, dim=1).float().softmax(dim=-1)
    entropies_BT = torch.special.entr(p_BTV).sum(dim=-1)
    generated_BT = output.sequences[:, padded["input_ids"].shape[1] :]
    ended_BT = torch.isin(generated_BT, torch.tensor(eos_token_ids, device=host.device)).long()
    counts_BT = ended_BT.cumsum(dim=1) - ended_BT == 0  # up to and with the first end token
    means_B = (entropies_BT * counts_BT).sum(dim=1) / counts_BT.sum(dim=1)
    return [float(mean) for mean in means_B]


def _check_agreement(differences: Sequence[float]) -> None:
    """Two tokens of equal probability may be broken either way, and then answers part; no more."""
    share = float(np.mean(np.array(differences) > TOLERANCE_NATS))
    if share > 0.01:
        raise RuntimeError(
            f"{share:.1%} of the scores differ by more than {TOLERANCE_NATS} nats between ours and "
            "generate: the two do not do the same work, so their speeds cannot be compared"
        )
