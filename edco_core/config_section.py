"""What every section of the configuration is: frozen, and unknown keys refused."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


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
    del schema["discriminator"]
