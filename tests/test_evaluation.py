"""Metrics say what they claim, and do not depend on how samples are batched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import log_rows, write_jsonl

from edco_core.config import DataSection, EvaluationSection, ModelSection
from edco_core.data import load_pool
from edco_core.errors import DataError
from edco_core.evaluation import Evaluator, check_answers, exact_match, numeric
from edco_core.loading import ModelHost
from edco_core.records import Pool


@pytest.mark.parametrize(
    ("generated", "completion", "same"),
    [
        (" up\n", "up", True),
        ("up", " up ", True),
        ("up now", "up", False),
        ("Up", "up", False),
        ("", "up", False),
    ],
)
def test_exact_match_trims_white_space_and_nothing_else(
    generated: str, completion: str, same: bool
) -> None:
    assert exact_match(generated, completion, None) is same


@pytest.mark.parametrize(
    ("generated", "answer", "same"),
    [
        ("3 + 4 = 7", "7", True),
        ("7, as 3 + 4", "7", False),  # the last number counts
        ("It is 7.", "7", True),
        ("1,234,567 in all", "1234567", True),
        ("1234567", "1,234,567", True),
        ("3.50", "3.5", True),
        ("-12", "-12", True),
        ("-12", "12", False),
        ("+12", "12", True),
        ("20-5", "5", True),  # a minus between numbers is no sign
        ("on 2024-05-17", "17", True),
        ("0.25", ".25", True),
        ("of 1, 2, 3", "3", True),
        ("1,2", "12", False),  # not a thousand's comma
        ("$1,500.75!", "1500.75", True),
        ("#### 42", "42", True),
        ("42", "6 * 7 = 42\n#### 42", True),  # a worked answer, as in GSM8K
        ("no number", "7", False),
        ("", "7", False),
        ("7", None, False),
    ],
)
def test_numeric_compares_last_numbers(generated: str, answer: str | None, same: bool) -> None:
    assert numeric(generated, "ignored", answer) is same


def pool_of(rows: list[dict[str, Any]], folder: Path, needs: frozenset[str] = frozenset()) -> Pool:
    path = write_jsonl(folder / "eval.jsonl", rows)
    return load_pool(str(path), DataSection(train=str(path)), split="eval", needs=needs)


def test_an_answer_in_which_numeric_finds_no_number_is_refused_with_its_line(
    tmp_path: Path,
) -> None:
    rows = [
        {"prompt": "a", "completion": " x", "answer": "12"},
        {"prompt": "b", "completion": " x", "answer": "twelve"},
    ]
    pool = pool_of(rows, tmp_path)
    with pytest.raises(DataError, match=r"eval\.jsonl:2: answer: 'twelve' came"):
        check_answers("numeric", pool)
    check_answers("exact_match", pool)


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


def evaluate(host: ModelHost, pool: Pool, **settings: Any) -> Any:
    section = EvaluationSection(max_new_tokens=6, **settings)
    calls: list[tuple[int, int]] = []
    found = Evaluator(section, pool, host).evaluate(2, lambda *done: calls.append(done))
    assert calls[-1] == (len(pool), len(pool))
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
