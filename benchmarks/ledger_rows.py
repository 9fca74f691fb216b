"""Pools, scores and runs for the benchmark of the ledger; any part can be made without the rest.

A sample's score has a lasting part and one that is drawn anew at each interval, so curricula of
neighbouring intervals overlap as in real runs.  All digits of a score are used, the worst case for
compression.  Imports nothing heavy: the processes whose memory is measured load this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edco_core.records import Checkpoint, Lease, Pool, RunSpec, ScoreShard
from storage import Ledger

_GOLDEN = (5**0.5 - 1) / 2
_NUM_CATEGORIES = 12


def make_pool(size: int, *, with_texts: bool = True) -> Pool:
    """A pool with prompts of about a hundred characters, or without any, made by Arrow alone."""
    ordinals = np.arange(size)
    spacing = 10**16 // size
    noise = (ordinals * _GOLDEN % 1.0 * spacing).astype(np.int64)
    sample_ids = pc.utf8_lpad(pa.array(ordinals * spacing + noise).cast(pa.string()), 16, "0")
    nothing = pa.nulls(size, pa.string())
    prompts = completions = pa.repeat("", size)
    if with_texts:
        numbers = pa.array(ordinals).cast(pa.string())
        question = "after its upgrade. Which command shows the cause, and what must it print?"
        prompts = pc.binary_join_element_wise(
            "Switch", numbers, "reports alarm", sample_ids, question, " "
        )
        completions = pc.binary_join_element_wise("display alarm", numbers, " ")
    categories = pa.array([f"domain {i}" for i in range(_NUM_CATEGORIES)])
    return Pool(
        fingerprint=f"benchmark-{size}",
        source="benchmark",
        table=pa.table(
            {
                "sample_id": sample_ids,
                "prompt": prompts,
                "completion": completions,
                "answer": nothing,
                "category": categories.take(pa.array(ordinals % _NUM_CATEGORIES)),
                "metadata": nothing,
                "source": nothing,
                "content_hash": sample_ids,
            }
        ),
        conversational=False,
    )


def make_spec(number: int, pool_size: int, *, intervals: int) -> RunSpec:
    """A run's number is its seed, and the end of an id as long as those made by default."""
    run_id = f"benchmark-20260101-000000-{number:04x}"
    return RunSpec(
        run_id=run_id,
        name="benchmark",
        experiment=None,
        seed=number,
        strategy="edco",
        scorer="prefix_entropy",
        trainer="sft",
        model="benchmark",
        dataset_id=f"benchmark-{pool_size}",
        eval_dataset_id=None,
        metric="exact_match",
        intervals=intervals,
        pool_size=pool_size,
        top_n=max(1, pool_size // 4),
        run_dir=f"runs/{run_id}",
        config={"curriculum": {"type": "edco", "top_n": 0.25}},
        plan={},
        versions={},
    )


def make_checkpoint(spec: RunSpec, interval: int) -> Checkpoint:
    path = f"{spec.run_dir}/checkpoint-{interval}"
    return Checkpoint(interval, interval, path, f"{interval:016x}{spec.seed:048x}")


def shards(spec: RunSpec, interval: int, shard_rows: int) -> Iterator[ScoreShard]:
    """All scores of an interval, in an order that has nothing to do with the pool's.

    So a scorer that batches by length gives them: the pool is sorted by hashes.
    """
    size = spec.pool_size
    stride = max(1, int(size * (1 - _GOLDEN)))
    while math.gcd(stride, size) > 1:
        stride += 1
    for start in range(0, size, shard_rows):
        rng = np.random.default_rng([spec.seed, interval, start])
        places = np.arange(start, min(start + shard_rows, size))
        ordinals = rng.permutation(places * stride % size)
        lasting = -np.log1p(-(ordinals * _GOLDEN % 1.0))
        passing = rng.exponential(size=len(ordinals))
        yield ScoreShard(
            ordinals=ordinals,
            scores=(0.6 * lasting + 0.4 * passing) * 0.97**interval,
            n_tokens=np.minimum(rng.geometric(0.05, size=len(ordinals)), 16),
        )


def write_scores(ledger: Ledger, lease: Lease, spec: RunSpec, shard_rows: int) -> None:
    """The first interval up to its scores, shard by shard, and nothing kept of them here."""
    ledger.finish_checkpoint(lease, make_checkpoint(spec, 0), None, 1.0)
    for shard in shards(spec, 0, shard_rows):
        ledger.add_scores(lease, 0, shard)
    ledger.finish_scoring(lease, 0, 1.0)
