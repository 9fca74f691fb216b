"""When reinforcement learning has narrowed the policy down: the alarm on its entropy."""

from __future__ import annotations

from collections.abc import Sequence


def collapsed(entropies: Sequence[float | None], alarm_share: float) -> list[bool]:
    """Which intervals' mean policy entropy is below ``alarm_share`` of the first interval's.

    Entropy collapse is what the EDCO paper (arXiv 2601.03725) sets out to avoid: a policy that is
    sure of every token samples the same answers, whose advantages are then zero.  ``entropies`` are
    in nats per token, None where an interval has none yet.
    """
    known = [entropy for entropy in entropies if entropy is not None]
    limit = alarm_share * known[0] if known else 0.0
    return [entropy is not None and entropy < limit for entropy in entropies]
