"""The demo's data keeps what the demo promises about it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from edco_core.demo_data import (
    KNOWN_VENDORS,
    VENDORS,
    DemoRow,
    pretraining_corpus,
    write_demo_data,
)


def rows_of(path: Path) -> list[DemoRow]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def line_of(row: DemoRow) -> str:
    return row["prompt"].split("\nLog line: ")[1].removesuffix("\nEvent template:")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "data"
    write_demo_data(folder)
    return folder


@pytest.fixture(scope="module")
def pool(folder: Path) -> list[DemoRow]:
    return rows_of(folder / "pool.jsonl")


@pytest.fixture(scope="module")
def held_out(folder: Path) -> list[DemoRow]:
    return rows_of(folder / "eval.jsonl")


def test_only_the_two_files_are_left_with_as_many_rows_as_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["eval.jsonl", "pool.jsonl"]
    write_demo_data(tmp_path, num_train=70, num_eval=20)
    assert len(rows_of(tmp_path / "pool.jsonl")) == 70
    assert len(rows_of(tmp_path / "eval.jsonl")) == 20


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_ones(
    folder: Path, tmp_path: Path
) -> None:
    write_demo_data(tmp_path / "again")
    write_demo_data(tmp_path / "other", seed=1)
    for name in ("pool.jsonl", "eval.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_no_prompt_is_in_two_of_pool_evaluation_set_and_pretraining_corpus_whatever_the_seed(
    pool: list[DemoRow], held_out: list[DemoRow]
) -> None:
    corpora = [pool, held_out, pretraining_corpus(seed=1)]
    prompts = [{row["prompt"] for row in rows} for rows in corpora]
    assert [len(distinct) for distinct in prompts] == [len(rows) for rows in corpora]
    assert len(set.union(*prompts)) == sum(len(distinct) for distinct in prompts)


def test_there_are_at_least_five_vendors_each_with_a_long_tail_of_event_types(
    pool: list[DemoRow],
) -> None:
    vendors = Counter(row["category"] for row in pool)
    assert set(vendors) == {vendor.name for vendor in VENDORS}
    assert len(vendors) >= 5
    for vendor, num_lines in vendors.items():
        counts = sorted(Counter(r["event_id"] for r in pool if r["category"] == vendor).values())
        assert 8 <= len(counts) <= 15
        assert sum(counts[-3:]) > num_lines / 2, "three event types make up most of the lines"
        assert counts[0] < num_lines / 20, "the rarest type is rare"


def test_every_event_type_occurs_in_the_pool_and_in_the_evaluation_set(
    pool: list[DemoRow], held_out: list[DemoRow]
) -> None:
    types = {
        f"{vendor.code}-E{rank + 1}" for vendor in VENDORS for rank in range(len(vendor.events))
    }
    assert {row["event_id"] for row in pool} == types
    assert {row["event_id"] for row in held_out} == types


def test_the_literal_pieces_of_the_completion_make_up_the_line_with_the_variables_between_them(
    pool: list[DemoRow], held_out: list[DemoRow]
) -> None:
    for row in [*pool, *held_out]:
        rest = line_of(row)
        first, *pieces = row["completion"].removeprefix(" ").split("<*>")
        assert pieces, "an event type without a variable has one line only"
        assert rest.startswith(first)
        rest = rest.removeprefix(first)
        for piece in pieces[:-1]:
            value, found, rest = rest.partition(piece)
            assert found, (piece, row)
            assert value, row
        assert rest.endswith(pieces[-1]), row


def test_one_event_type_has_one_template_and_its_own_vendor(pool: list[DemoRow]) -> None:
    assert len({(r["event_id"], r["completion"], r["category"]) for r in pool}) == len(
        {r["event_id"] for r in pool}
    )


def test_prompt_and_completion_meet_at_one_space_that_belongs_to_the_completion(
    pool: list[DemoRow],
) -> None:
    for row in pool:
        assert row["prompt"].startswith(f"Vendor: {row['category']}\nLog line: ")
        assert row["prompt"].endswith("\nEvent template:")
        assert row["completion"][0] == " "
        assert row["completion"][1] != " "
        assert row["completion"] == row["completion"].rstrip()


def test_the_pretraining_corpus_holds_the_known_vendors_only_and_they_are_part_of_all() -> None:
    corpus = pretraining_corpus(num_samples=500)
    assert {row["category"] for row in corpus} == set(KNOWN_VENDORS)
    assert set(KNOWN_VENDORS) < {vendor.name for vendor in VENDORS}
    assert corpus == pretraining_corpus(num_samples=500)
