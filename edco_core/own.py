"""A user's own code, named in the configuration as ``module:attribute``."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from edco_core.errors import ConfigError


def load_attribute(name: str) -> Any:
    """What ``module:attribute`` names; raises ConfigError where there is no such thing."""
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise cannot_import(name, error) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        there = sorted(
            each for each, value in vars(module).items() if callable(value) and each[0] != "_"
        )
        raise ConfigError(
            f"{module_name} has no '{attribute}'. It has: {', '.join(there) or 'nothing callable'}."
        ) from error


def cannot_import(name: str, error: Exception) -> ConfigError:
    """The error to raise for code that could not be loaded."""
    return ConfigError(
        f"{name} cannot be imported ({type(error).__name__}: {error}). Modules are looked for in "
        "the working directory and among what is installed."
    )


def load_class(name: str, base: type[Any]) -> type[Any]:
    """The class that ``module:attribute`` names, which must be a complete one of that kind."""
    found = load_attribute(name)
    contract = f"Expected a subclass of {base.__module__}.{base.__name__}"
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise ConfigError(f"{name} is {found!r}. {contract}.")
    lacking = sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise ConfigError(f"{name} lacks {', '.join(lacking)}. {contract} with those.")
    return found
