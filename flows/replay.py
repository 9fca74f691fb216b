"""``edco replay``: selections made again from what the ledger stores, without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config import parse_config, with_overrides
from edco_core.config_curriculum import check_categories
from edco_core.config_guard import check_room
from edco_core.curriculum import choose_curriculum, generator_from
from edco_core.errors import InputError
from flows.display import progress
from flows.evidence import LedgerEvidence, kept_samples
from flows.reading import Answer
from storage import Ledger, queries
from storage.queries import Rows

if TYPE_CHECKING:
    from edco_core.records import Ints, Selection

_COLUMNS = {
    "interval": "interval",
    "n_selected": "selected",
    "overlap": "overlap",
    "result": "result",
}
_ALL_COLUMNS = (*_COLUMNS, "first_difference", "stored_sample_id", "replayed_sample_id")


def replay_run(
    ledger: Ledger, prefix: str, strategy: str | None, overrides: list[str]
) -> tuple[Answer, bool]:
    """Each interval's stored curriculum beside the one made again; and whether all is as it was.

    With the run's own strategy every curriculum must come out the same, in the same order. With
    another ``strategy``, or other settings, ``overlap`` is the share of the stored curriculum that
    it would have picked as well; that is never a failure. ``first_difference`` is the first
    position at which the two hold different samples, None where there is none.
    """
    with ledger.snapshot():
        run_id = ledger.find_run(prefix)
        state = ledger.run_state(run_id)
        pool_size = ledger.pool_size(state.dataset_id)
    if "num_intervals" not in state.plan:
        raise InputError(f"run {run_id} only scored its pool: it has no selections to make again.")
    values = dict(state.config)
    # Stored scores are what there is, whoever was scored when; not every strategy goes with that.
    values["scoring"] = {k: v for k, v in values["scoring"].items() if k != "rescore"}
    if strategy is not None:
        own = values["curriculum"]
        kept = {key: own[key] for key in ("intervals", "top_n")}
        if own.get("guard") is not None:  # its control is kept apart, its alarms are not theirs
            kept["guard"] = own["guard"] | {"on_alarm": "warn"}
        values["curriculum"] = {"type": strategy, **kept}
    if any(each.partition("=")[0].strip() == "intervals" for each in overrides):
        raise InputError(
            "--set intervals: what is stored are this run's intervals, and each is selected again. "
            "Leave it out."
        )
    values = with_overrides(values, [f"curriculum.{each}" for each in overrides])
    config = parse_config(values, source=f"curriculum of run {run_id}")
    same_rule = values["curriculum"] == state.config["curriculum"]
    num_samples = config.curriculum.count(pool_size)
    check_room(config.curriculum, pool_size)
    samples, num_intervals = kept_samples(ledger, state.dataset_id), config.curriculum.intervals
    check_categories(config.curriculum, samples)
    alarms = ledger.alarms(run_id) if same_rule else ()
    made: Selection | None = None

    rows: list[dict[str, Any]] = []
    num_planned = int(state.plan["num_intervals"])
    with progress(f"replay of {run_id}") as on_progress:
        for interval in range(num_planned):
            with ledger.snapshot():  # closed while the strategy is at work: a run may want to write
                if not ledger.stage_done(run_id, interval, "selection"):
                    break
                stored = ledger.selection(run_id, interval)
                evidence = LedgerEvidence(
                    ledger, run_id, interval, num_intervals, config.scoring.type, samples
                )
            if not same_rule:  # another strategy goes on from what it itself would have remembered
                evidence.after(made)
            again = made = choose_curriculum(
                config.curriculum, evidence, num_samples, generator_from(stored.generator),
                seed=config.run.seed, alarms=alarms,
            )  # fmt: skip
            both = len(np.intersect1d(stored.ordinals, again.ordinals))
            rows.append(
                {
                    "interval": interval,
                    "n_selected": len(again.ordinals),
                    "overlap": both / len(stored.ordinals),
                    **_difference(ledger, run_id, stored.ordinals, again.ordinals),
                }
            )
            on_progress(interval + 1, num_planned)
    if not rows:
        raise InputError(f"run {run_id} has no selection yet; see: edco show {run_id}")
    different = [row for row in rows if row["result"] != "identical"]
    if not different:
        summary = f"all {len(rows)} curricula are identical"
    elif same_rule:
        summary = _first_difference(different[0])
    else:
        mean = sum(row["overlap"] for row in rows) / len(rows)
        summary = f"mean overlap {mean:.3f} with what was selected"
    facts = {"run_id": run_id, "strategy": config.curriculum.type, "intervals": rows}
    lines = [f"run {run_id}, strategy {config.curriculum.type}"]
    answer = Answer(facts, Rows(_ALL_COLUMNS, rows), _COLUMNS, lines=lines, after=[summary])
    return answer, not different or not same_rule


def _difference(ledger: Ledger, run_id: str, stored: Ints, again: Ints) -> dict[str, Any]:
    """How two curricula compare, and the samples at the first position where they differ."""
    shorter = min(len(stored), len(again))
    unequal = np.flatnonzero(stored[:shorter] != again[:shorter])
    if not len(unequal) and len(stored) == len(again):
        return {"result": "identical", **dict.fromkeys(_ALL_COLUMNS[4:])}
    position = int(unequal[0]) if len(unequal) else shorter
    result = f"differs from position {position} on"
    if np.array_equal(np.sort(stored), np.sort(again)):
        result = "the same samples in another order"
    with ledger.snapshot():
        ids = [
            queries.sample_at(ledger, run_id, int(each[position])) if position < len(each) else None
            for each in (stored, again)
        ]
    return {"result": result, **dict(zip(_ALL_COLUMNS[4:], (position, *ids), strict=True))}


def _first_difference(row: dict[str, Any]) -> str:
    return (
        f"first difference: interval {row['interval']}, position {row['first_difference']}: "
        f"stored {row['stored_sample_id'] or 'nothing'}, "
        f"recomputed {row['replayed_sample_id'] or 'nothing'}"
    )
