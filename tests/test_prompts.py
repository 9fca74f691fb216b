"""What the model is asked is one text: in scoring, in training and in evaluation."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from conftest import log_rows, write_jsonl
from datasets import load_from_disk
from test_training_sft import SAMPLES, Loop

from edco_core.config import DataSection, LoraSection, ModelSection, SftSection
from edco_core.data import load_pool
from edco_core.errors import DataError
from edco_core.loading import load_tokenizer
from edco_core.prompts import (
    check_chat_template,
    prompt_token_ids,
    quick_answer_template,
    reference_texts,
)
from edco_core.records import Pool

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function.arguments | tojson }}{% endfor %}"
    "<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

PLAIN = [{"prompt": f"Q{i}: why?\nA:", "completion": f" because {i}"} for i in range(3)]
CHAT = [
    {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": f"first {i}"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": f"second {i}"},
            {"role": "assistant", "content": f"no {i}"},
        ]
    }
    for i in range(3)
]


CALLS = [
    {
        "messages": [
            {"role": "user", "content": f"ask {i}"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "f", "arguments": arguments}}]},
            {"role": "tool", "content": "found"},
            {"role": "assistant", "content": f"it is {i}"},
        ]
    }
    for i, arguments in enumerate([{"query": "x", "limit": 3}, {"city": "Paris"}, {"city": [1]}])
]  # fmt: skip
"""Calls with unlike arguments, and with unlike types of one."""


def pool_of(rows: list[dict[str, Any]], folder: Path) -> Pool:
    path = write_jsonl(folder / "rows.jsonl", rows)
    return load_pool(str(path), DataSection(train=str(path)), split="train")


@pytest.fixture
def chat_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model with a tokenizer that has a chat template."""
    folder = tmp_path / "chat-model"
    shutil.copytree(tiny_model, folder)
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(tiny_model)))
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def asked(pool: Pool, model: Path, template: str | None = None) -> list[str]:
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(model)))
    ids = prompt_token_ids(pool, tokenizer, template=template)
    return [tokenizer.decode(each) for each in ids]


def test_a_tokenizer_without_a_template_gets_the_prompt_as_it_is(
    tiny_model: Path, tmp_path: Path
) -> None:
    pool = pool_of(PLAIN, tmp_path)
    assert asked(pool, tiny_model) == pool.table.column("prompt").to_pylist()


def test_a_tokenizer_with_a_template_gets_a_conversation_also_for_plain_data(
    chat_model: Path, tmp_path: Path
) -> None:
    assert sorted(asked(pool_of(PLAIN, tmp_path), chat_model)) == [
        f"<|user|>Q{i}: why?\nA:<eos>\n<|assistant|>" for i in range(3)
    ]


def test_a_conversation_is_asked_up_to_the_turn_that_is_its_completion(
    chat_model: Path, tmp_path: Path
) -> None:
    pool = pool_of(CHAT, tmp_path)
    assert sorted(asked(pool, chat_model)) == [
        f"<|system|>Be short.<eos>\n<|user|>first {i}<eos>\n<|assistant|>yes<eos>\n"
        f"<|user|>second {i}<eos>\n<|assistant|>"
        for i in range(3)
    ]
    assert sorted(reference_texts(pool)) == ["no 0", "no 1", "no 2"]


def test_quick_answer_wraps_the_last_user_turn_and_nothing_else(
    chat_model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    template = "<<{prompt}>>"
    assert sorted(asked(pool_of(CHAT, tmp_path), chat_model, template))[0] == (
        "<|system|>Be short.<eos>\n<|user|>first 0<eos>\n<|assistant|>yes<eos>\n"
        "<|user|><<second 0>><eos>\n<|assistant|>"
    )
    plain = pool_of(PLAIN, tmp_path)
    assert sorted(asked(plain, chat_model, template))[0] == (
        "<|user|><<Q0: why?\nA:>><eos>\n<|assistant|>"
    )
    assert sorted(asked(plain, tiny_model, template))[0] == "<<Q0: why?\nA:>>"


def test_braces_in_a_prompt_are_only_text(tiny_model: Path, tmp_path: Path) -> None:
    pool = pool_of([{"prompt": "{prompt} {x} {}", "completion": " y"}], tmp_path)
    assert asked(pool, tiny_model, "a {prompt} b") == ["a {prompt} {x} {} b"]


@pytest.mark.parametrize(
    ("setting", "begins"),
    [
        (True, "Reply at once"),
        ("en", "Reply at once"),
        ("zh", "请"),
        ("Short: {prompt}", "Short: {prompt}"),
    ],
)
def test_quick_answer_has_a_template_per_language_or_the_users_own(
    setting: bool | str, begins: str
) -> None:
    template = quick_answer_template(setting, is_chat=False)
    assert template is not None
    assert template.startswith(begins)
    assert template.count("{prompt}") == 1


def test_quick_answer_can_be_off() -> None:
    assert quick_answer_template(False, is_chat=True) is None


def test_auto_asks_only_models_that_get_conversations() -> None:
    assert quick_answer_template("auto", is_chat=False) is None
    assert quick_answer_template("auto", is_chat=True) == quick_answer_template(True, is_chat=True)


ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}<eos>\n{% endfor %}"
)


@pytest.mark.parametrize(
    ("turns", "with_completions", "is_refused"),
    [
        (["system", "user", "assistant"], False, True),  # far behind those that come first
        (["user", "assistant", "assistant"], True, True),  # refused as a whole
        (["user", "assistant", "assistant"], False, False),  # reinforcement learning reads prompts
    ],
)
def test_conversations_that_a_template_refuses_are_found_before_anything_is_trained(
    tiny_model: Path, tmp_path: Path, turns: list[str], with_completions: bool, is_refused: bool
) -> None:
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(tiny_model)))
    tokenizer.chat_template = ALTERNATING
    good = [
        {"sample_id": f"a{i:03}", "messages": [{"role": "user", "content": f"q{i}"},
                                               {"role": "assistant", "content": "a"}]}
        for i in range(300 if turns[0] == "system" else 0)
    ]  # fmt: skip
    bad = [{"role": role, "content": role} for role in turns]
    pool = pool_of([*good, {"sample_id": "z", "messages": bad}], tmp_path)
    with pytest.raises(DataError, match="must alternate") if is_refused else nullcontext():
        check_chat_template(pool, tokenizer, with_completions=with_completions)


def test_a_template_that_refuses_in_training_is_no_traceback(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(tiny_model)))
    tokenizer.chat_template = ALTERNATING
    tokenizer.save_pretrained(model)
    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"},
                          {"role": "assistant", "content": "b"}]}]  # fmt: skip
    settings = SftSection(args={"per_device_train_batch_size": 1})
    loop = Loop(model, pool_of(rows, tmp_path), tmp_path / "run", settings, LoraSection(r=1))
    with pytest.raises(DataError, match="must alternate"):
        loop.train(0, loop.start())


def test_samples_that_are_cut_are_told_of(
    tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SftSection(args={"per_device_train_batch_size": SAMPLES, "max_length": 24})
    rows = [{"prompt": "a", "completion": " " + "word " * length} for length in (1, 2, 60)]
    loop = Loop(tiny_model, pool_of(rows, tmp_path), tmp_path / "run", settings, LoraSection(r=1))
    loop.train(0, loop.start())
    assert "1 of 3 samples fill training.args.max_length 24" in caplog.text


def test_conversations_need_a_template(tiny_model: Path, chat_model: Path, tmp_path: Path) -> None:
    pool = pool_of(CHAT, tmp_path)
    tokenizer = load_tokenizer(ModelSection(name_or_path=str(tiny_model)))
    with pytest.raises(DataError, match=r"rows\.jsonl: .* no chat template"):
        check_chat_template(pool, tokenizer)
    check_chat_template(pool, load_tokenizer(ModelSection(name_or_path=str(chat_model))))
    check_chat_template(pool_of(PLAIN, tmp_path), tokenizer)


@pytest.mark.parametrize("kind", ["plain", "plain rows, chat model", "conversations", "calls"])
def test_scoring_asks_exactly_what_training_conditions_on(
    kind: str, tiny_model: Path, chat_model: Path, tmp_path: Path
) -> None:
    """The scored prompt, token by token, is what precedes the first token with a loss in TRL."""
    known = {"conversations": CHAT, "calls": CALLS}
    rows = known.get(kind) or [*PLAIN, *log_rows(20, seed=5)]
    model = tiny_model if kind == "plain" else chat_model
    pool = pool_of(rows, tmp_path)
    settings = SftSection(args={"per_device_train_batch_size": SAMPLES})
    loop = Loop(model, pool, tmp_path / "run", settings, LoraSection(r=1))
    loop.train(0, loop.start())  # one step: the whole pool is tokenised for it
    tokenizer = loop.host.tokenizer

    trained = load_from_disk(str(tmp_path / "run" / "tokenized"))
    completions = []
    for prompt, row in zip(prompt_token_ids(pool, tokenizer), trained, strict=True):
        assert row["input_ids"][: len(prompt)] == prompt.tolist()
        assert set(row["labels"][: len(prompt)]) == {-100}
        assert row["labels"][len(prompt) :] == row["input_ids"][len(prompt) :]
        completions.append(tokenizer.decode(row["input_ids"][len(prompt) :]))
    expected = [text.strip() for text in reference_texts(pool)]
    assert [text.removesuffix("\n").removesuffix("<eos>").strip() for text in completions] == (
        expected
    )
    assert all("<eos>" in text for text in completions)
