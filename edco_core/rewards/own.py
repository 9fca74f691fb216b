"""A user's own reward: ``type: module:attribute``, or the name of an entry point.

It is a function ``(batch, **args)`` that gives one number for each answer of the batch, or a class
that is made with ``**args`` and then called with the batch.  An attribute ``needs`` on either may
name optional fields of a sample it cannot do without: ``{"answer"}``.
"""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edco_core.config_rewards import ENTRY_POINT_GROUP, OwnRewardSection
from edco_core.errors import ConfigError
from edco_core.own import cannot_import, load_attribute
from edco_core.rewards.base import Answered, Reward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edco_core.records import Floats

_FIELDS = frozenset({"answer"})


class OwnReward(Reward[OwnRewardSection]):
    """What the user's own code says."""

    def __init__(self, settings: OwnRewardSection, *, cache_dir: Path | None = None) -> None:
        super().__init__(settings, cache_dir=cache_dir)
        found = _load(settings.type)
        self._needs = _needs(found)
        self._score = _made(found, settings.args)

    @property
    def needs(self) -> frozenset[str]:
        return self._needs

    def score(self, batch: Sequence[Answered]) -> Floats:
        return np.asarray(self._score(batch), dtype=np.float64)


def _made(found: Any, args: Mapping[str, Any]) -> Callable[..., Any]:
    """What is called with each batch."""
    made = found(**args) if inspect.isclass(found) else partial(found, **args)
    return cast("Callable[..., Any]", made)


def check_own(name: str, args: Mapping[str, Any]) -> None:
    """Raise ConfigError unless there is such a reward and it takes these arguments."""
    found = _load(name)
    if not callable(found):
        raise ConfigError(f"{name} is {type(found).__name__}, not a function or class. {_CONTRACT}")
    try:
        if inspect.isclass(found):
            inspect.signature(found).bind(**args)
            calls = [vars(each)["__call__"] for each in found.__mro__ if "__call__" in vars(each)]
            if not calls:
                raise TypeError("its instances cannot be called")
            inspect.signature(calls[0]).bind(None, [])
        else:
            inspect.signature(found).bind([], **args)
    except TypeError as error:
        raise ConfigError(
            f"{name}{inspect.signature(found)} with args {sorted(args)}: {error}. {_CONTRACT}"
        ) from error
    unknown = sorted(_needs(found) - _FIELDS)
    if unknown:
        raise ConfigError(f"{name}.needs: {unknown} came. Allowed: {sorted(_FIELDS)}.")


_CONTRACT = (
    "Expected a function (batch, **args) that gives one number for each answer, or a class made "
    "with **args and called with the batch (docs/rewards.md)."
)


def _needs(found: Any) -> frozenset[str]:
    return frozenset(getattr(found, "needs", ()))


def _load(name: str) -> Any:
    if ":" in name:
        return load_attribute(name)
    (entry,) = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=name)
    try:
        return entry.load()
    except Exception as error:
        raise cannot_import(name, error) from error
