"""What a strategy sees: the same in a run and in its replay, and from a pool as from the ledger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edco_core.config import DataSection
from edco_core.curriculum.evidence import samples_of
from edco_core.data import load_pool
from edco_core.errors import InputError
from edco_core.records import Pool
from flows.evidence import LedgerEvidence, kept_samples
from storage import open_ledger
from tests.command_line import Edco
from tests.conftest import write_jsonl

ROWS = [
    {"prompt": "a longer prompt", "completion": " é", "category": "b"},
    {"prompt": "short", "completion": " two words", "category": "a"},
    {"prompt": "nothing", "completion": " x"},
]


def _pool(folder: Path) -> Pool:
    path = str(write_jsonl(folder / "pool.jsonl", ROWS))
    return load_pool(path, DataSection(train=path), split="train")


def test_the_ledgers_samples_are_those_of_the_pool(tmp_path: Path) -> None:
    pool = _pool(tmp_path)
    url = f"duckdb:///{tmp_path}/edco.duckdb"
    open_ledger(url).register_pool(pool)
    ledger = open_ledger(url, read_only=True)
    ours, kept = samples_of(pool), kept_samples(ledger, pool.fingerprint)

    ((prompts, _),) = ours.texts()
    by_prompt = dict(zip(prompts, range(3), strict=True))
    assert ours.prompt_chars[by_prompt["short"]] == 5
    assert ours.completion_chars[by_prompt["a longer prompt"]] == 2
    assert ours.categories.names == ("a", "b")
    assert [ours.categories.codes[by_prompt[row["prompt"]]] for row in ROWS] == [1, 0, -1]
    assert kept.prompt_chars.tolist() == ours.prompt_chars.tolist()
    assert kept.completion_chars.tolist() == ours.completion_chars.tolist()
    assert kept.categories.codes.tolist() == ours.categories.codes.tolist()
    assert list(kept.texts()) == list(ours.texts())


def test_texts_that_were_not_kept_are_an_error_that_says_so(tmp_path: Path) -> None:
    pool = _pool(tmp_path)
    url = f"duckdb:///{tmp_path}/edco.duckdb"
    open_ledger(url).register_pool(pool, keep_texts=False)
    kept = kept_samples(open_ledger(url, read_only=True), pool.fingerprint)

    assert kept.prompt_chars.sum() == samples_of(pool).prompt_chars.sum()
    with pytest.raises(InputError, match=r"store\.keep_texts: false"):
        next(kept.texts())


def test_the_past_of_a_run_is_read_from_its_ledger(finished: Edco) -> None:
    ledger = open_ledger(f"duckdb:///{finished.folder}/edco.duckdb", read_only=True)
    samples = kept_samples(ledger, ledger.run_state("whole").dataset_id)
    seen = LedgerEvidence(ledger, "whole", 2, 3, "prefix_entropy", samples)

    assert seen.scores.tolist() == seen.scores_at(2).tolist()
    assert not np.array_equal(seen.scores, seen.scores_at(0))
    assert seen.selected_at(1).tolist() == ledger.selection("whole", 1).ordinals.tolist()
    assert seen.rollouts_at(1) is None
    assert seen.state == {}
