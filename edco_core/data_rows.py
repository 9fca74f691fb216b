"""One row of a data set, checked and turned into a :class:`Sample`; or a BadRowError that says why.

What a row may be, and how a sample gets its id, stands at the top of ``edco_core/data.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from edco_core.config import Field_, nearest
from edco_core.data_files import Unreadable, shown
from edco_core.errors import DataError

ROLES = ("assistant", "developer", "system", "tool", "user")

_SHOWN_NAMES = 20
_NOT_EMPTY = "Expected text that is not empty or blank."
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


_Place = str | Mapping[str, Any]
"""For a message: one column, or several, whose names are put together only if there is one."""


class Sample(NamedTuple):
    """A row as it goes into the pool's table; ``content_hash`` is its id unless it brought one."""

    given_id: str | None
    content_hash: str
    prompt: str
    completion: str
    answer: str | None
    category: str | None
    metadata: str | None
    conversational: bool


class BadRowError(ValueError):
    """What is wrong with one row, as a sentence: field, what came, what was expected."""


def content_id(
    prompt: str | list[dict[str, Any]],
    completion: str | list[dict[str, Any]],
    answer: str | None = None,
) -> str:
    """The id of a sample that brings none (see the top of ``edco_core/data.py``)."""
    return _hash(to_json(prompt), to_json(completion), answer)


class SampleReader:
    """Checks rows and turns them into samples, by the configured names of columns."""

    def __init__(self, columns: Mapping[Field_, str], needs: frozenset[str]) -> None:
        clash = sorted(set(columns) & {"prompt", "completion"})
        if "messages" in columns and clash:
            raise DataError(
                f"data.columns: 'messages' and '{clash[0]}' were both given, one would be ignored. "
                "Allowed: messages alone, or prompt and completion."
            )
        self._columns = columns
        self._needs = needs
        self._prompt: str = columns.get("prompt", "prompt")
        self._completion: str = columns.get("completion", "completion")
        self._messages: str = columns.get("messages", "messages")
        self._answer = self._optional("answer")
        self._category = self._optional("category")
        self._sample_id = self._optional("sample_id")
        optional = {self._answer, self._category, self._sample_id}
        self._pair_columns = frozenset({self._prompt, self._completion} | optional)
        self._messages_columns = frozenset({self._messages} | optional)
        self._always_messages = "messages" in columns
        self._never_messages = bool(clash)
        self._unseen = set(columns.values())
        self._seen: set[str] = set()

    def _optional(self, field: Field_) -> str | None:
        """Its column; none when that column was given to another field."""
        taken = field not in self._columns and field in self._columns.values()
        return None if taken else self._columns.get(field, field)

    def refuse_unknown_columns(self, source: str) -> None:
        """DataError for a configured column that no row has."""
        for field, column in self._columns.items():
            if column in self._unseen and self._seen:
                raise DataError(
                    f"data.columns.{field}: no column '{column}' in {source}. "
                    f"Columns there are: {_names(self._seen)}.{nearest(column, self._seen)} "
                    "(data.columns holds for data.train and data.eval alike.)"
                )

    def read(self, row: Any) -> Sample:
        if not isinstance(row, dict):
            if isinstance(row, Unreadable):
                raise BadRowError(row.problem)
            raise BadRowError(
                f"{shown(row)} came. Expected an object such as "
                '{"prompt": "…", "completion": "…"}, one on each line; '
                "a file that is one list is named .json."
            )
        if self._unseen:
            self._unseen.difference_update(row)
            self._seen.update(row)

        answer = self._scalar(row, "answer", self._answer)
        prompt: Any
        completion: Any
        # A configured column decides between the two forms, else what is there.
        if self._always_messages or (
            row.get(self._completion) is None
            and row.get(self._messages) is not None
            and not self._never_messages
        ):
            used, places = self._messages_columns, (self._messages, self._messages)
            if row.get(self._messages) is None:
                raise BadRowError(_missing("messages", self._messages, row))
            turns = _messages(self._messages, row[self._messages])
            if turns[-1]["role"] != "assistant" or len(turns) < 2:
                roles = ", ".join(turn["role"] for turn in turns[-5:])
                raise BadRowError(
                    f"{self._messages}: the roles {roles} came. Expected at least one turn before "
                    "the completion, which is the last and the assistant's."
                )
            prompt, completion = turns[:-1], turns[-1:]
        else:
            used, places = self._pair_columns, (self._prompt, self._completion)
            prompt, completion = self._pair(row)
        conversational = not isinstance(prompt, str)

        if isinstance(prompt, str) and isinstance(completion, str):
            prompt_json, completion_json = encode_basestring(prompt), encode_basestring(completion)
        else:
            _check_turns(prompt, completion)
            if row.get("tools") and "tools" not in used:
                raise BadRowError(
                    "tools: definitions of tools came, and chat templates are not given any, so "
                    "that the model would see other prompts. Expected none: write them into the "
                    "system turn, or leave the column out."
                )
            prompt_json = _to_text(places[0], prompt)
            completion_json = _to_text(places[1], completion)
            prompt, completion = (
                text if _is_plain(turns) else _to_text(place, turns, to_ordered_json)
                for place, turns, text in (
                    (places[0], prompt, prompt_json),
                    (places[1], completion, completion_json),
                )
            )
        try:
            content = _hash(prompt_json, completion_json, answer)
        except UnicodeEncodeError:
            _check_text(places[0], prompt)
            _check_text(places[1], completion)
            raise
        return Sample(
            self._scalar(row, "sample_id", self._sample_id),
            content,
            prompt,
            completion,
            answer,
            self._scalar(row, "category", self._category),
            _metadata({k: v for k, v in row.items() if k not in used and v is not None}),
            conversational,
        )

    def _pair(self, row: dict[str, Any]) -> tuple[Any, Any]:
        prompt, completion = row.get(self._prompt), row.get(self._completion)
        if isinstance(prompt, str) and isinstance(completion, str):
            if not prompt or prompt.isspace():
                raise BadRowError(f"{self._prompt}: {shown(prompt)} came. {_NOT_EMPTY}")
            if not completion or completion.isspace():
                raise BadRowError(f"{self._completion}: {shown(completion)} came. {_NOT_EMPTY}")
            if "\0" in prompt or "\0" in completion:
                _refuse_nul(self._prompt, prompt)
                _refuse_nul(self._completion, completion)
            return prompt, completion
        for field, column, value in (
            ("prompt", self._prompt, prompt),
            ("completion", self._completion, completion),
        ):
            if value is None:
                raise BadRowError(_missing(field, column, row))
            if not isinstance(value, str | list):
                raise BadRowError(
                    f"{column}: {shown(value)} came. Expected text, or a list of messages."
                )
        if isinstance(prompt, str) or isinstance(completion, str):
            column = self._completion if isinstance(prompt, str) else self._prompt
            raise BadRowError(
                f"{column}: a list of messages came, the other is text. "
                "Expected both as text, or both as messages."
            )
        turns = _messages(self._completion, completion)
        for index, turn in enumerate(turns):
            if turn["role"] != "assistant":
                raise BadRowError(
                    f"{self._completion}[{index}].role: '{turn['role']}' came. Expected assistant."
                )
        return _messages(self._prompt, prompt), turns

    def _scalar(self, row: dict[Any, Any], field: Field_, column: str | None) -> str | None:
        """An optional field as text; None when absent."""
        value = row.get(column)  # no row has a column None
        if isinstance(value, str) and value:
            if "\0" in value or not value.isascii():
                _check_text(column or field, value)
            return value
        if isinstance(value, float):
            # JSON knows no difference between 3 and 3.0, and a null makes a column of integers
            # one of floats, with NaN for the null.
            if value.is_integer() and abs(value) < 2**53:
                value = int(value)
            elif math.isnan(value):
                value = None
        if value is None or value == "":
            if field in self._needs:
                raise BadRowError(_missing(field, column or field, row))
            return None
        is_id = field == "sample_id"
        number = int if is_id else int | float | Decimal
        if (
            isinstance(value, bool)
            or not isinstance(value, number)
            or not (isinstance(value, int) or math.isfinite(value))
        ):
            expected = "text or an integer" if is_id else "text or a number"
            raise BadRowError(f"{column}: {shown(value)} came. Expected {expected}.")
        # Never 1e-05, which no reward reads as a number.
        return str(value) if isinstance(value, int) else format(Decimal(str(value)), "f")


def _missing(field: str, column: str, row: dict[str, Any]) -> str:
    expected = {
        "prompt": "prompt and completion, or messages",
        "completion": "prompt and completion, or messages",
        "messages": "a list of messages that ends with the assistant's",
        "sample_id": "text or an integer in every row (this configuration needs it)",
    }.get(field, "text or a number in every row (this configuration needs it)")
    of_field = "" if column == field else f" (data.columns: {field})"
    there = {name for name, value in row.items() if value is not None and value != ""}
    return (
        f"{column}{of_field}: missing; the row has {_names(there)}. "
        f"Expected {expected}.{nearest(column, there)}"
    )


def _names(names: set[str]) -> str:
    some = sorted(names)[:_SHOWN_NAMES]
    more = f" and {len(names) - len(some)} more" if len(names) > len(some) else ""
    return (", ".join(some) or "nothing") + more


def _messages(column: str, value: Any) -> list[dict[str, Any]]:
    """Messages as given, without keys that are null (columnar formats fill them in)."""
    if not isinstance(value, list) or not value:
        raise BadRowError(
            f"{column}: {shown(value)} came. Expected a list of messages such as "
            '[{"role": "user", "content": "…"}].'
        )
    turns = []
    for index, given in enumerate(value):
        place = f"{column}[{index}]"
        if not isinstance(given, dict):
            raise BadRowError(
                f"{place}: {shown(given)} came. Expected an object with role and content."
            )
        turn = {k: v for k, v in given.items() if v is not None}
        role, content = turn.get("role"), turn.get("content")
        if role not in ROLES:
            came = f"missing; the message has {_names(set(turn))}" if role is None else shown(role)
            raise BadRowError(
                f"{place}.role: {came}{'' if role is None else ' came'}. "
                f"Expected one of {', '.join(ROLES)}.{nearest(str(role), ROLES)}"
            )
        if not isinstance(content, str):
            came = "missing" if content is None else f"{shown(content)} came"
            raise BadRowError(f"{place}.content: {came}. Expected text.")
        _refuse_nul(f"{place}.content", content)
        turns.append(turn)
    return turns


def _check_turns(prompt: list[dict[str, Any]], completion: list[dict[str, Any]]) -> None:
    """An empty turn is fine (system turns often are); a prompt or completion of them is not."""
    for field, turns in (("prompt", prompt), ("completion", completion)):
        if not any(turn["content"].strip() for turn in turns):
            raise BadRowError(f"{field}: only empty content came. {_NOT_EMPTY}")


def _is_plain(turns: list[dict[str, Any]]) -> bool:
    """Whether no order of keys could be seen by a chat template."""
    return all(turn.keys() <= {"role", "content"} for turn in turns)


def _metadata(fields: dict[str, Any]) -> str | None:
    if not fields:
        return None
    text = _to_text(fields, fields)
    _check_text(fields, text)
    return text


def _to_text(place: _Place, value: Any, encode: Callable[[Any], str] | None = None) -> str:
    """Any value as JSON text."""
    encode = encode or to_json
    try:
        text = encode(value)
    except ValueError:  # NaN or infinity, which columnar formats hold and JSON does not
        text = encode(_without_nonfinite(value))
    except RecursionError as error:
        raise BadRowError(f"{_named(place)}: nested too deeply. Expected plain fields.") from error
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        _refuse_nul(place, "\0")
    return text


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nonfinite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _check_text(place: _Place, text: str) -> None:
    _refuse_nul(place, text)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            came = shown(text[error.start : error.end])
            raise BadRowError(
                f"{_named(place)}: {came} came. Expected Unicode text in UTF-8."
            ) from error


def _named(place: _Place) -> str:
    return place if isinstance(place, str) else _names(set(place))


def _refuse_nul(place: _Place, text: str) -> None:
    if "\0" in text:
        at = text.index("\0")
        raise BadRowError(
            f"{_named(place)}: a NUL character came: {shown(text[max(0, at - 20) : at + 20])}. "
            "Expected text without any: Postgres refuses them."
        )


def _default(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


to_json, to_ordered_json = (
    json.JSONEncoder(
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=is_sorted,
        separators=(",", ":"),
        default=_default,
    ).encode
    for is_sorted in (True, False)
)
"""For the hash of a sample, whatever order keys came in; and in that order, as models see them."""


def _hash(prompt_json: str, completion_json: str, answer: str | None) -> str:
    answer_json = "null" if answer is None else encode_basestring(answer)
    content = f"[{prompt_json},{completion_json},{answer_json}]"
    return hashlib.sha256(content.encode()).hexdigest()[:16]
