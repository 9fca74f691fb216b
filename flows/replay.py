"""``edco replay``: selections made again from what the ledger stores, without a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from edco_core.config import parse_config, with_overrides
from edco_core.curriculum import build_strategy, generator_from
from edco_core.errors import InputError
from flows.reading import Answer
from storage import Ledger

_COLUMNS = {
    "interval": "interval",
    "n_selected": "selected",
    "overlap": "overlap",
    "result": "result",
}


def replay_run(
    ledger: Ledger, prefix: str, strategy: str | None, overrides: list[str]
) -> tuple[Answer, bool]:
    """Each interval's stored curriculum beside the one made again; and whether all is as it was.

    With the run's own strategy every curriculum must come out the same, in the same order. With
    another ``strategy``, or other settings, ``overlap`` is the share of the stored curriculum that
    it would have picked as well; that is never a failure.
    """
    run_id = ledger.find_run(prefix)
    state = ledger.run_state(run_id)
    values = dict(state.config)
    if strategy is not None:
        kept = {key: values["curriculum"][key] for key in ("intervals", "top_n")}
        values["curriculum"] = {"type": strategy, **kept}
    values = with_overrides(values, [f"curriculum.{each}" for each in overrides])
    config = parse_config(values, source=f"curriculum of run {run_id}")
    same_rule = values["curriculum"] == state.config["curriculum"]
    rule = build_strategy(config.curriculum)
    num_samples = config.curriculum.count(ledger.pool_size(state.dataset_id))

    rows: list[dict[str, Any]] = []
    for interval in range(int(state.plan["num_intervals"])):
        if not ledger.stage_done(run_id, interval, "selection"):
            break
        stored = ledger.selection(run_id, interval)
        scores = ledger.scores(run_id, interval).scores
        again = rule.select(scores, num_samples, generator_from(stored.generator))
        both = len(np.intersect1d(stored.ordinals, again.ordinals))
        rows.append(
            {
                "interval": interval,
                "n_selected": len(again.ordinals),
                "overlap": both / len(stored.ordinals),
                "result": _compare(stored.ordinals.tolist(), again.ordinals.tolist()),
            }
        )
    if not rows:
        raise InputError(f"run {run_id} has no selection yet; see: edco show {run_id}")
    as_stored = all(row["result"] == "identical" for row in rows)
    facts = {"run_id": run_id, "strategy": config.curriculum.type, "intervals": rows}
    lines = [f"run {run_id}, strategy {config.curriculum.type}"]
    return Answer(facts, lines, rows, _COLUMNS, []), as_stored or not same_rule


def _compare(stored: list[int], again: list[int]) -> str:
    if stored == again:
        return "identical"
    if sorted(stored) == sorted(again):
        return "the same samples in another order"
    position = next(
        (i for i, (a, b) in enumerate(zip(stored, again, strict=False)) if a != b),
        min(len(stored), len(again)),
    )
    return f"differs from position {position} on"
