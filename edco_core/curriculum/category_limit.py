"""The highest of all, but not too many of one category."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints


def highest_within(keys: Floats, num: int, codes: Ints, most: int) -> Ints:
    """Shape (num,): where the highest keys are, descending, at most ``most`` of one category.

    ``codes``, of the shape of ``keys``: each one's category.  Where that is too few, because
    categories are small or ``most`` was rounded down, each may have one more, and so on.
    """
    by_key = np.argsort(-keys, kind="stable")
    by_category = np.argsort(codes[by_key], kind="stable")
    in_turn = codes[by_key][by_category]
    place = np.empty(len(keys), np.int64)  # of each in its category, in the order of the keys
    place[by_category] = np.arange(len(keys)) - np.searchsorted(in_turn, in_turn, side="left")
    is_within = place < most
    within, beyond = by_key[is_within][:num], by_key[~is_within]
    in_turns = np.argsort(place[~is_within], kind="stable")
    return np.concatenate([within, beyond[in_turns[: num - len(within)]]])


def full_categories(codes: Ints, drawn: Ints, most: int) -> list[int]:
    """Those that have as many as they may, and samples left over."""
    num_codes = int(codes.max()) + 1
    size, taken = (np.bincount(each, minlength=num_codes) for each in (codes, codes[drawn]))
    return [int(code) for code in np.flatnonzero((taken >= most) & (size > taken))]
