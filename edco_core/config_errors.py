"""What is wrong with a configuration, in words: the key, what came, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from edco_core.config_section import OWN

_NOT_A_SECTION = ("dict_type", "model_type", "model_attributes_type")
_UNION_MEMBERS = ("bool", "int", "float", "str", "list[str]", "[key]")


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One sentence for each key that is wrong; ``root`` is the model that was validated."""
    details: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        details.setdefault(_walk(detail["loc"], root).path, []).append(detail)
    return [_explain(same_key, root) for same_key in details.values()]


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` when something allowed is close to ``word``, else nothing."""
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def _explain(details: list[Any], root: type[BaseModel]) -> str:
    """All errors of one key; they are several where it may be of several types."""
    detail = details[0]
    path, fields, choices = _walk(detail["loc"], root)
    kind, given = detail["type"], detail["input"]
    if path.startswith("store") or path.endswith((".base_url", ".api_key_env")):
        given = "…"  # an address may hold a password, and a key may be where its name belongs
    if kind == "extra_forbidden":
        name = str(detail["loc"][-1])
        allowed = sorted(fields)
        return f"{path}: unknown key. Allowed here: {', '.join(allowed)}.{nearest(name, allowed)}"
    if kind == "missing":
        return f"{path}: missing; it has no default."
    if kind == "missing_type":
        allowed = sorted(re.findall(r"'([^']+)'", detail["ctx"]["expected_tags"]))
        return f"{path}.type: missing. Allowed: {', '.join(allowed)}."
    if kind == "union_tag_not_found":
        types = {each.model_fields["type"].default for each in choices} - {OWN}
        allowed = sorted(types)
        known = f"Allowed: {', '.join(allowed)}, or module:attribute of your own."
        if isinstance(given, Mapping):
            return f"{path}.type: missing. {known}"
        example = f", such as {{type: {given}}}" if given in allowed else " with a 'type'"
        return f"{path}: should be a section{example} (came: {given!r}). {known}"
    if kind == "union_tag_invalid":
        allowed = sorted(re.findall(r"'([^']+)'", detail["ctx"]["expected_tags"]))
        tag = detail["ctx"]["tag"]
        return f"{path}.type: '{tag}' came. Allowed: {', '.join(allowed)}.{nearest(tag, allowed)}"
    if kind == "literal_error":
        allowed = sorted(re.findall(r"'([^']+)'", detail["ctx"]["expected"]))
        return (
            f"{path}: {given!r} came. Allowed: {', '.join(allowed)}.{nearest(str(given), allowed)}"
        )
    if kind in _NOT_A_SECTION:
        return f"{path}: should be a section of 'key: value' lines (came: {given!r})."
    sentences = [
        each["msg"].removeprefix("Value error, ").removesuffix(", unable to interpret input")
        for each in details
    ]
    message = sentences[0].removeprefix("Input ")
    for sentence in sentences[1:]:
        message += f" or {sentence.removeprefix('Input should be ')}"
    if not path:
        return f"{message}."
    if isinstance(given, Mapping):  # a whole section: its content is no help in one line
        return f"{path}: {message}."
    return f"{path}: {message} (came: {given!r})."


class _Place(NamedTuple):
    path: str
    """The dotted key."""
    fields: list[str]
    """Of the section it is in."""
    choices: list[type[BaseModel]]
    """What may stand there, where that is a section."""


def _walk(location: tuple[Any, ...], root: type[BaseModel]) -> _Place:
    """Where an error is."""
    path: list[str] = []
    model: Any = root
    fields: list[str] = list(root.model_fields)
    for part in location:
        choices = _models_of(model)
        by_tag = {m.model_fields["type"].default: m for m in choices if "type" in m.model_fields}
        if len(choices) > 1 and part in by_tag:  # pydantic's name for the union member chosen
            model = by_tag[part]
            fields = list(model.model_fields)
            continue
        if part in _UNION_MEMBERS:
            continue
        if isinstance(part, int):  # of a list: what it holds is what its annotation says
            path.append(str(part))
            continue
        path.append(str(part))
        section = choices[0] if choices else None
        if section is not None:
            fields = list(section.model_fields)
            found = section.model_fields.get(str(part))
            model = found.annotation if found is not None else None
        else:
            model = None
    return _Place(".".join(path), fields, _models_of(model))


def _models_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for inner in get_args(annotation) for m in _models_of(inner)]
