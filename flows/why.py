"""``edco why``: for each interval why a sample was in the curriculum, or why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edco_core.errors import ConfigError
from flows.reading import Answer, one_line
from flows.texts import with_texts
from storage import Ledger, queries
from storage.queries import Rows

if TYPE_CHECKING:
    from edco_core.curriculum import Strategy
    from edco_core.records import Ints

_SPARKS = "▁▂▃▄▅▆▇█"


def why_sample(ledger: Ledger, prefix: str, sample: str, interval: int | None) -> Answer:
    """Why a sample was in the curriculum of each interval, or why not."""
    run_id = ledger.find_run(prefix)
    whole = queries.why(ledger, run_id, sample)
    (found,), history = with_texts(ledger, run_id, [whole["sample"]]), whole["history"]
    facts = whole if interval is None else queries.at_interval(whole, interval)
    control = _control(ledger, run_id)
    explained = (
        _explained(row, history, found, _place(ledger, run_id, found, row, control))
        for row in facts["history"]
    )
    rows = Rows((*history.columns, "missed_by", "explanation"), explained)
    is_dated = any(row["scored_at_interval"] != row["interval"] for row in rows)
    rule = _rule(rows)
    facts = {"run_id": run_id, "sample": found, "rule": rule, "history": rows}
    lines = [
        f"sample      {found['sample_id']}"
        + (f"  category {found['category']}" if found["category"] else "")
        + (f"  from {found['source']}" if found["source"] else ""),
        f"prompt      {one_line(found['prompt'], 160)}",
        f"answer      {one_line(found['completion'], 160)}",
    ]
    if rule:
        parameters = (
            f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in rule["parameters"].items()
        )
        lines.append(f"rule        {rule['name']}: {', '.join(parameters)}")
    if len(history) > 1:
        lines += [
            f"{name:<10}  {sparkline([row[name] for row in history])}  "
            f"{history[0][name]:.{digits}f} → {history[-1][name]:.{digits}f}"
            for name, digits in (("score", 3), ("percentile", 1))
        ]
        times = [row["selected"] for row in history]
        marks = "".join("●" if selected else "·" for selected in times)
        lines.append(f"selected    {marks}  {sum(times)} of {len(times)} intervals")
    columns = {
        "interval": "interval", "score": "score",
        # Only of runs that rescore selectively: an older score, and when it was made.
        **({"scored_at_interval": "scored at"} if is_dated else {}),
        "rank": "rank", "percentile": "percentile",
        "cutoff": "cutoff", "checkpoint_id": "checkpoint", "explanation": "why",
    }  # fmt: skip
    after = [] if rows else ["no interval has been scored yet"]
    return Answer(facts, rows, columns, lines=lines, after=after)


def _rule(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The rule of the curricula and its parameters: what was the same at each of the intervals."""
    used = [row for row in history if row["selection_facts"] is not None]
    if not used:
        return None
    first = used[0]["selection_facts"]
    return {
        "name": first.get("rule", used[0]["selection_reason"]),
        "parameters": {
            name: value
            for name, value in first.items()
            if name != "rule" and all(r["selection_facts"].get(name) == value for r in used)
        },
    }


def _control(ledger: Ledger, run_id: str) -> Ints | None:
    """Ordinals of the samples that the run's guard keeps apart; None: it has no guard."""
    config = ledger.run_state(run_id).config
    guard = config.get("curriculum", {}).get("guard")
    if guard is None:
        return None
    # Reading commands otherwise load no NumPy.
    from edco_core.config_guard import GuardSection
    from edco_core.curriculum.guarded import control_of

    pool_size = queries.run(ledger, run_id)["pool_size"]
    return control_of(GuardSection(**guard), pool_size, config["run"]["seed"])


def _place(
    ledger: Ledger,
    run_id: str,
    sample: dict[str, Any],
    row: dict[str, Any],
    control: Ints | None,
) -> tuple[int, int] | None:
    """Rank of a sample's score, and of how many, as the strategy saw it; None: of the control."""
    if control is None:
        return row["rank"], row["n_scored"]
    ordinal = sample["ordinal"]
    if ordinal in control:
        return None
    scores = ledger.scores(run_id, row["interval"]).scores
    own, apart = scores[ordinal], scores[control]
    before = (apart > own) | ((apart == own) & (control < ordinal))  # ties by sample id
    return row["rank"] - int(before.sum()), row["n_scored"] - len(control)


def _explained(
    row: dict[str, Any], history: Rows, sample: dict[str, Any], place: tuple[int, int] | None
) -> dict[str, Any]:
    """A row of a sample's history with one interval's decision about it.

    ``missed_by`` is how much lower the score of a sample left out was than the lowest selected
    one, where scores decide; ``probability`` its chance to be drawn, where chance does.
    """
    rule = row["selection_facts"]
    row = {**row, "missed_by": None}
    if rule is None:
        return row | {"explanation": "scored; no curriculum has been selected yet"}
    if place is None:
        how = "kept apart as control and never selected (curriculum.guard)"
        return row | {"probability": 0.0, "explanation": f"out: {how}"}
    # Only here are strategies needed; reading commands otherwise load no NumPy.
    from edco_core.curriculum import Candidate

    candidate = Candidate(
        is_selected=row["selected"],
        scores=tuple(each["score"] for each in history if each["interval"] <= row["interval"]),
        rank=place[0],
        pool_size=place[1],
        **{name: row[name] for name in ("probability", "reason")},
        **{name: sample[name] for name in ("category", "prompt_chars", "prompt", "completion")},
        completion_chars=sample["completion_chars"] or 0,
        answers=tuple(
            None if each["n_answers"] is None else (each["n_answers"], each["n_correct"])
            for each in history
            if each["interval"] < row["interval"]
        ),
        belief=None if row["alpha"] is None else (row["alpha"], row["beta"]),
    )
    told = _strategy(rule).explain(rule, candidate)
    row["probability"] = told.probability
    guarded = f"; {rule['guard']}" if "guard" in rule else ""
    if row["selected"]:
        return row | {"explanation": f"in, at position {row['position']}: {told.how}{guarded}"}
    if told.by_score and row["cutoff"] is not None:
        row["missed_by"] = row["cutoff"] - row["score"]
    return row | {"explanation": f"out: {told.how}{_distance(row)}{guarded}"}


def _strategy(rule: dict[str, Any]) -> type[Strategy[Any]]:
    """The class that made a selection; the base class where a user's own is not at hand."""
    from edco_core.curriculum import Strategy, strategy_class

    try:
        return strategy_class(rule.get("rule", ""))
    except ConfigError:
        return Strategy


def _distance(row: dict[str, Any]) -> str:
    if row["missed_by"] is None:
        return ""
    if row["missed_by"] == 0:
        return "; as high as the lowest selected"
    where = "below" if row["missed_by"] > 0 else "above"
    return f"; {abs(row['missed_by']):.4f} {where} the lowest selected"


def sparkline(values: list[float]) -> str:
    """Values as a row of bars, lowest to highest."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_SPARKS[round((v - low) / span * (len(_SPARKS) - 1))] for v in values)
