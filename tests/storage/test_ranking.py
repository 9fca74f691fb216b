"""Ranking a pool in parts gives what ranking it at once gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from edco_core.errors import LedgerError
from edco_core.records import ScoreShard
from storage.ranking import ranked
from tests.storage.conftest import ranks_of

SIZE = 1000


def shards(scores: np.ndarray, seed: int = 0) -> Iterator[ScoreShard]:
    """The whole pool in shards of 64, in an order of their own."""
    order = np.random.default_rng(seed).permutation(len(scores))
    for start in range(0, len(scores), 64):
        some = order[start : start + 64]
        yield ScoreShard(some, scores[some], some % 5)


def scores_with(kind: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    return {
        "all different": rng.gamma(2.0, size=SIZE),
        "many ties": rng.integers(0, 4, SIZE).astype(float),
        "all equal": np.full(SIZE, 0.25),
        "one far above": np.where(np.arange(SIZE) == 7, 1e300, rng.random(SIZE)),
        "negative and zero": np.round(rng.normal(size=SIZE), 1),
    }[kind]


def in_chunks(chunk: int) -> dict[str, int]:
    return {"in_memory": SIZE if chunk == SIZE else 0, "chunk": chunk}


@pytest.mark.parametrize("chunk", [SIZE, 333, 64, 7])
@pytest.mark.parametrize(
    "kind", ["all different", "many ties", "all equal", "one far above", "negative and zero"]
)
def test_ranks_and_statistics_are_those_of_the_whole_pool(kind: str, chunk: int) -> None:
    scores = scores_with(kind)
    with ranked(shards(scores), SIZE, 0, "run r", **in_chunks(chunk)) as result:
        table = pa.Table.from_batches(list(result.batches))
    assert table["ordinal"].to_pylist() == list(range(SIZE))
    assert table["score"].to_numpy().tobytes() == scores.tobytes()
    assert table["rank"].to_pylist() == ranks_of(scores).tolist()
    assert table["n_tokens"].to_pylist() == [i % 5 for i in range(SIZE)]
    expected = {
        "n": SIZE,
        "mean": scores.mean(),
        "max": scores.max(),
        "p50": np.quantile(scores, 0.5),
        "p90": np.quantile(scores, 0.9),
    }
    assert result.stats == pytest.approx(expected)


@pytest.mark.parametrize("chunk", [SIZE, 100])
def test_a_sample_without_a_score_or_with_two_is_refused(chunk: int) -> None:
    scores = scores_with("all different")
    with (
        pytest.raises(LedgerError, match="run r: 999 of 1000 samples are scored"),
        ranked(shards(scores[:999]), SIZE, 0, "run r", **in_chunks(chunk)),
    ):
        pass
    twice = [*shards(scores[:999]), ScoreShard(np.array([3]), np.array([1.0]), np.array([1]))]
    with (
        pytest.raises(LedgerError, match="scored twice"),
        ranked(twice, SIZE, 0, "run r", **in_chunks(chunk)),
    ):
        pass
