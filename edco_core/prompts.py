"""Samples as the model sees them: the same text for scoring, training and evaluation.

A tokenizer with a chat template gets conversations, one without gets plain text; a pool of the
other kind is converted, or refused where it cannot be.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from jinja2 import TemplateError

from edco_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from edco_core.records import Pool

    TokenIds = NDArray[np.int32]

Message = dict[str, str]
_CHUNK = 10_000
"""Prompts tokenised at a time."""
_TRIED = 200
"""Samples rendered beforehand, of each kind."""

QUICK_ANSWER_TEMPLATES = {
    "en": (
        "Reply at once, in three sentences at the most. Put the answer itself first and leave out "
        "the reasoning that led to it.\n\n{prompt}"
    ),
    "zh": "请立即作答,最多三句话。先写出答案本身,不要写推理过程。\n\n{prompt}",
}
"""Quick-answer prompting (EDCO, arXiv 2601.03725): informative tokens first.  Our own wording.

The request is in front: so all prompts begin alike, and that beginning is read once for all."""


def quick_answer_template(setting: bool | str, *, is_chat: bool) -> str | None:
    """The template of a ``quick_answer`` setting; None when it is off.

    ``is_chat``: the model gets conversations, and so has learned to follow requests.
    """
    if setting == "auto":
        setting = is_chat
    if setting is False:
        return None
    return (
        QUICK_ANSWER_TEMPLATES["en" if setting is True else setting]
        if (setting is True or setting in QUICK_ANSWER_TEMPLATES)
        else str(setting)
    )


def check_chat_template(
    pool: Pool, tokenizer: PreTrainedTokenizerBase, *, with_completions: bool = False
) -> None:
    """Raise DataError when the tokenizer cannot render the pool's conversations.

    Of a large pool only some samples are rendered: the first, and some of each kind of turn that
    templates are known to refuse.  ``with_completions``: as they are trained on.
    """
    if tokenizer.chat_template:
        prompts = pool.table.column("prompt")
        found = set(range(min(len(pool), _TRIED)))
        for role in ("system", "developer", "tool") if pool.conversational else ():
            has_one = pc.match_substring(prompts, f'"role":"{role}"')
            found |= set(pc.indices_nonzero(has_one).slice(0, _TRIED).to_pylist())
        some = dataclasses.replace(pool, table=pool.table.take(sorted(found)))
        prompt_token_ids(some, tokenizer)
        if with_completions:
            reference_token_ids(some, tokenizer)
    if pool.conversational and not tokenizer.chat_template:
        raise DataError(
            f"{pool.source}: the samples are conversations, but the tokenizer has no chat "
            "template. Use a chat model, or data with plain 'prompt' and 'completion' texts."
        )


def training_rows(pool: Pool, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[Any]]:
    """Columns ``prompt`` and ``completion`` in TRL's plain or conversational form."""
    prompts = pool.table.column("prompt").to_pylist()
    completions = pool.table.column("completion").to_pylist()
    if pool.conversational:
        return {
            "prompt": [json.loads(p) for p in prompts],
            "completion": [json.loads(c) for c in completions],
        }
    if tokenizer.chat_template:
        return {
            "prompt": [[_user(p)] for p in prompts],
            # The space that joins a plain completion to its prompt is no part of a chat turn.
            "completion": [[{"role": "assistant", "content": c.strip()}] for c in completions],
        }
    return {"prompt": prompts, "completion": completions}


def training_dataset(
    pool: Pool, tokenizer: PreTrainedTokenizerBase, columns: Sequence[str]
) -> Dataset:
    """Columns of ``training_rows`` and ``ordinal``, as TRL takes them.

    Messages with more than role and content, such as tool calls, are held as JSON: Arrow would give
    each call the argument names of all others.
    """
    from datasets import Dataset, Features, Json, List, Value

    rows = training_rows(pool, tokenizer)
    rows = {name: rows[name] for name in columns} | {"ordinal": list(range(len(pool)))}
    is_plain = all(
        isinstance(value, str) or all(turn.keys() <= {"role", "content"} for turn in value)
        for name in columns
        for value in rows[name]
    )
    if is_plain:
        return Dataset.from_dict(rows)
    features = {**{name: List(Json()) for name in columns}, "ordinal": Value("int64")}
    return Dataset.from_dict(rows, features=Features(features))


def prompt_token_ids(
    pool: Pool,
    tokenizer: PreTrainedTokenizerBase,
    *,
    template: str | None = None,
    chat_template: bool = True,
) -> list[TokenIds]:
    """Token ids of every prompt, ready to be continued by the model, in ordinal order.

    ``template`` holds ``{prompt}``; in a conversation it wraps the last user turn.  Without the
    chat template a conversation is the text of its turns, with blank lines between.  Each has shape
    (T,): arrays, since a pool's prompts as Python integers would take ten times the memory.
    """
    ids: list[TokenIds] = []
    for batch in pool.table.select(["prompt"]).to_batches(max_chunksize=_CHUNK):
        prompts = batch.column("prompt").to_pylist()
        if prompts:
            rendered = _tokenize_prompts(prompts, pool, tokenizer, template, chat_template)
            ids += [np.array(each, dtype=np.int32) for each in rendered]
    return ids


def _tokenize_prompts(
    prompts: list[str],
    pool: Pool,
    tokenizer: PreTrainedTokenizerBase,
    template: str | None,
    chat_template: bool,
) -> list[list[int]]:
    if not (tokenizer.chat_template and chat_template):
        if pool.conversational:
            prompts = [
                "\n\n".join(turn["content"] for turn in json.loads(prompt)) for prompt in prompts
            ]
        if template is not None:
            prompts = [template.replace("{prompt}", prompt) for prompt in prompts]
        return list(tokenizer(prompts)["input_ids"])
    conversations = [
        _wrap_last_user_turn(
            json.loads(prompt) if pool.conversational else [_user(prompt)], template
        )
        for prompt in prompts
    ]
    return _render(conversations, pool, tokenizer, add_generation_prompt=True)


def _render(
    conversations: list[list[Message]],
    pool: Pool,
    tokenizer: PreTrainedTokenizerBase,
    *,
    add_generation_prompt: bool,
) -> list[list[int]]:
    try:
        rendered = tokenizer.apply_chat_template(
            conversations,
            add_generation_prompt=add_generation_prompt,
            tokenize=True,
            return_dict=True,
        )
    except TemplateError as error:
        raise template_refuses(pool, error) from error
    return list(rendered["input_ids"])


def template_refuses(pool: Pool, error: TemplateError) -> DataError:
    """What to say of a chat template that wants no system role, say, or roles that alternate."""
    return DataError(
        f"{pool.source}: the model's chat template refuses a conversation ({error}). Change the "
        "turns of the data, or use another model."
    )


def reference_token_ids(
    pool: Pool, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[TokenIds], list[TokenIds]]:
    """Token ids of prompts and reference completions, in ordinal order, as TRL trains on them.

    A plain completion ends with the end-of-sequence token.  The completion begins where prompt and
    whole text part, which is not always behind the prompt: tokens may merge across the boundary.
    """
    prompts: list[TokenIds] = []
    completions: list[TokenIds] = []
    for begin in range(0, len(pool), _CHUNK):
        part = dataclasses.replace(pool, table=pool.table.slice(begin, _CHUNK))
        rows = training_rows(part, tokenizer)
        if tokenizer.chat_template:
            together = [p + c for p, c in zip(rows["prompt"], rows["completion"], strict=True)]
            whole = _render(together, pool, tokenizer, add_generation_prompt=False)
        else:
            eos = str(tokenizer.eos_token)
            texts = [
                p + (c if c.endswith(eos) else c + eos)
                for p, c in zip(rows["prompt"], rows["completion"], strict=True)
            ]
            whole = list(tokenizer(texts)["input_ids"])
        for prompt, ids in zip(prompt_token_ids(part, tokenizer), whole, strict=True):
            both = np.array(ids, dtype=np.int32)
            num = min(len(prompt), len(both))
            differs = np.flatnonzero(prompt[:num] != both[:num])
            cut = int(differs[0]) if len(differs) else num
            cut = max(1, cut)  # nothing comes before a first token that could predict it
            prompts.append(both[:cut])
            completions.append(both[cut:])
    return prompts, completions


def prompt_texts(pool: Pool) -> list[str]:
    """The prompt of every sample as people would read it, in ordinal order.

    A conversation of several turns has each turn's role in front of it.
    """
    prompts = pool.table.column("prompt").to_pylist()
    if not pool.conversational:
        return list(prompts)
    return [_told(json.loads(prompt)) for prompt in prompts]


def _told(turns: list[Message]) -> str:
    if len(turns) == 1:
        return turns[0]["content"]
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def reference_texts(pool: Pool) -> list[str]:
    """The reference completion of every sample as plain text, in ordinal order."""
    completions = pool.table.column("completion").to_pylist()
    if not pool.conversational:
        return list(completions)
    return ["\n".join(turn["content"] for turn in json.loads(text)) for text in completions]


def _user(prompt: str) -> Message:
    return {"role": "user", "content": prompt.strip()}


def _wrap_last_user_turn(messages: list[Message], template: str | None) -> list[Message]:
    if template is None:
        return messages
    last = max((i for i, m in enumerate(messages) if m["role"] == "user"), default=None)
    if last is None:
        return messages
    wrapped = template.replace("{prompt}", messages[last]["content"])
    return [*messages[:last], {**messages[last], "content": wrapped}, *messages[last + 1 :]]
