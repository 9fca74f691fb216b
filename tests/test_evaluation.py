"""Evaluation counts what the model itself answers, and does not depend on how it is batched."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import log_rows, write_jsonl

from edco_core.config import DataSection, EvaluationSection, ModelSection
from edco_core.data import load_pool
from edco_core.evaluation import Evaluator, pass_at_k
from edco_core.loading import ModelHost
from edco_core.records import Evaluation, Pool


def pool_of(rows: list[dict[str, Any]], folder: Path, needs: frozenset[str] = frozenset()) -> Pool:
    path = write_jsonl(folder / "eval.jsonl", rows)
    return load_pool(str(path), DataSection(train=str(path)), split="eval", needs=needs)


@pytest.fixture(scope="module")
def host(tiny_model: Path) -> ModelHost:
    host = ModelHost(ModelSection(name_or_path=str(tiny_model), peft=None), seed=0)
    host.load_base()
    return host


def answers_of(host: ModelHost, pool: Pool, max_new_tokens: int) -> list[str]:
    """The model's own answers, one prompt at a time, by transformers' own loop."""
    answers = []
    for prompt in pool.table.column("prompt").to_pylist():
        inputs = host.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        ids = host.model_for_inference().generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False
        )[0, inputs["input_ids"].shape[1] :]
        answers.append(host.tokenizer.decode(ids, skip_special_tokens=True))
    return answers


@pytest.fixture(scope="module")
def pool(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Forty prompts, in every second of which the model's own answer is the right one."""
    folder = tmp_path_factory.mktemp("evaluation")
    rows = [{**row, "answer": "1"} for row in log_rows(40, seed=11)]
    prompts_only = pool_of(rows, folder)
    own = dict(
        zip(
            prompts_only.table.column("prompt").to_pylist(),
            answers_of(host, prompts_only, 6),
            strict=True,
        )
    )
    for index, row in enumerate(rows):
        answer = own[row["prompt"]]
        row["completion"] = answer if index % 2 and answer.strip() else "something else"
    del rows[0]["category"]
    return pool_of(rows, folder)


def evaluate(
    host: ModelHost, pool: Pool, *, interval: int = 2, seed: int = 0, **settings: Any
) -> Evaluation:
    section = EvaluationSection.model_validate({"max_new_tokens": 6, **settings})
    calls: list[tuple[int, int]] = []
    evaluator = Evaluator(section, pool, host, seed=seed)
    found = evaluator.evaluate(interval, lambda *done: calls.append(done))
    drawn = section.pass_at_k.k if section.pass_at_k else 0
    assert calls[-1] == (len(pool) * (1 + drawn),) * 2
    return found


def test_an_evaluation_counts_exactly_what_the_model_itself_generates(
    host: ModelHost, pool: Pool
) -> None:
    expected = [
        generated.strip() == completion.strip()
        for generated, completion in zip(
            answers_of(host, pool, 6), pool.table.column("completion").to_pylist(), strict=True
        )
    ]
    assert 0 < sum(expected) < len(expected)
    found = evaluate(host, pool)
    assert (found.interval, found.metric, found.n) == (2, "exact_match", 40)
    assert found.value == sum(expected) / 40


def test_categories_add_up_to_the_whole(host: ModelHost, pool: Pool) -> None:
    found = evaluate(host, pool)
    categories = [c for c in pool.table.column("category").to_pylist() if c is not None]
    assert {c: n for c, (_, n) in found.by_category.items()} == {
        c: categories.count(c) for c in sorted(set(categories))
    }
    assert sum(n for _, n in found.by_category.values()) == 39  # one sample has no category
    num_right = sum(round(value * n) for value, n in found.by_category.values())
    assert num_right == round(found.value * 40)  # and is wrong


@pytest.mark.parametrize("max_batch_tokens", [1, 100, 700])
def test_an_evaluation_does_not_depend_on_batching(
    host: ModelHost, pool: Pool, max_batch_tokens: int
) -> None:
    whole = evaluate(host, pool)
    parts = evaluate(host, pool, max_batch_tokens=max_batch_tokens)
    assert (parts.value, parts.by_category) == (whole.value, whole.by_category)


def test_any_reward_is_a_metric_and_names_it(host: ModelHost, pool: Pool) -> None:
    own = answers_of(host, pool, 6)
    found = evaluate(host, pool, metric={"type": "regex", "pattern": r"\d"})
    assert found.metric == "regex"
    assert found.value == sum(any(c.isdecimal() for c in text) for text in own) / 40
    assert 0 < found.value < 1


@pytest.mark.parametrize(("num_drawn", "k"), [(4, 1), (4, 2), (5, 3), (6, 6)])
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_a_right_answer(
    num_drawn: int, k: int
) -> None:
    counted = []
    for num_right in range(num_drawn + 1):
        answers = [True] * num_right + [False] * (num_drawn - num_right)
        choices = list(itertools.combinations(answers, k))
        counted.append(sum(any(choice) for choice in choices) / len(choices))
    found = pass_at_k(np.arange(num_drawn + 1), num_drawn=num_drawn, k=k)
    assert found == pytest.approx(counted, abs=1e-12)


DRAWN: dict[str, Any] = {
    "metric": {"type": "regex", "pattern": r"^\s*\d"},
    "pass_at_k": {"k": 4, "temperature": 0.8},
}


def test_pass_at_k_is_measured_beside_the_metric_for_powers_of_two(
    host: ModelHost, pool: Pool
) -> None:
    alone = evaluate(host, pool, metric=DRAWN["metric"])
    found = evaluate(host, pool, **DRAWN)
    assert (found.value, found.by_category) == (alone.value, alone.by_category)
    assert [each.metric for each in found.further] == ["pass@1", "pass@2", "pass@4"]
    values = [each.value for each in found.further]
    assert values == sorted(values)
    assert 0 < values[0] < values[2] < 1
    for each in found.further:
        assert each.n == 40
        assert {c: n for c, (_, n) in each.by_category.items()} == {
            c: n for c, (_, n) in found.by_category.items()
        }


@pytest.mark.parametrize("max_batch_tokens", [1, 1000])
def test_pass_at_k_does_not_depend_on_batching(
    host: ModelHost, pool: Pool, max_batch_tokens: int
) -> None:
    whole = evaluate(host, pool, **DRAWN)
    parts = evaluate(host, pool, **DRAWN, max_batch_tokens=max_batch_tokens)
    assert parts.further == whole.further


def test_other_answers_are_drawn_for_another_seed_or_interval_and_also_before_training(
    host: ModelHost, pool: Pool
) -> None:
    found = [
        evaluate(host, pool, interval=interval, seed=seed, **DRAWN).further
        for interval, seed in ((-1, 0), (-1, 0), (0, 0), (-1, 1))
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[0] != found[3]


def test_at_next_to_no_temperature_every_drawn_answer_is_the_greedy_one(
    host: ModelHost, pool: Pool
) -> None:
    found = evaluate(host, pool, pass_at_k={"k": 3, "report": [1, 3], "temperature": 1e-4})
    assert [each.metric for each in found.further] == ["pass@1", "pass@3"]
    for each in found.further:
        assert (each.value, each.by_category) == (found.value, found.by_category)
