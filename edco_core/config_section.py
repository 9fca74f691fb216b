"""What every section of the configuration is: frozen, and unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

OWN = "module:attribute"
"""Stands for the type of a user's own code where types are listed."""


def _title(section: type[BaseModel]) -> str:
    """What forms call a section: its ``type`` where it is one of several."""
    kind = section.__pydantic_fields__.get("type")
    return section.__name__.removesuffix("Section") if kind is None else str(kind.default)


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), model_title_generator=_title
    )


def for_forms(schema: dict[str, Any]) -> None:
    """The JSON schema of a union by ``type``, as Prefect's form shows its fields: as ``anyOf``."""
    schema["anyOf"] = schema.pop("oneOf")
    schema.pop("discriminator", None)


def type_or_own(value: Any) -> str | None:
    """The tag of a section in a union by ``type`` whose last member is a user's own code."""
    name = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return OWN if ":" in str(name) else None if name is None else str(name)
