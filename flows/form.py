"""The form that starts a run in Prefect's UI, where its own reading of a schema falls short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.utilities.callables import ParameterSchema

    from edco_core.config import Config


def show_as_configured(schema: ParameterSchema, config: Config) -> None:
    """Put the configured member of each union by ``type`` first, in place.

    The form goes by the names of the settings alone, which several may share, and of those that fit
    it opens the first.
    """
    sections = schema.definitions["Config"]["properties"]
    for name, section in config:
        kind = getattr(section, "type", None)

        def is_another(member: dict[str, Any], kind: object = kind) -> bool:
            definition = schema.definitions.get(member.get("$ref", "").rpartition("/")[2], {})
            return bool(definition.get("properties", {}).get("type", {}).get("const") != kind)

        sections[name].get("anyOf", []).sort(key=is_another)
