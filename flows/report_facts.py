"""What the report says of its runs: plain values, for the page's template and its charts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from edco_core.records import Alarm
from flows.display import label_of, number
from flows.reading import live_status
from flows.report_charts import Category, Curves
from storage.queries import Rows

_MOST_CATEGORIES = 24
_TEXT_CHARS = 2000
_NOT_OF_SCORES = ("type", "max_batch_tokens", "shard_size")


@dataclass(frozen=True, slots=True)
class Told:
    """What the ledger says about a run."""

    run: dict[str, Any]
    config: dict[str, Any]
    versions: dict[str, str]
    intervals: Rows
    evaluations: Rows
    composition: Rows
    data_map: Rows
    grid: tuple[int, int]
    """Columns and rows of the data map."""
    persistent: Rows
    histories: dict[str, list[dict[str, Any]]]
    alarms: Sequence[Alarm] = ()

    @property
    def run_id(self) -> str:
        return str(self.run["run_id"])

    @property
    def score(self) -> str:
        """What a score is, with its unit."""
        scorer = label_of(self.run["scorer"])
        unit = self.config.get("scoring", {}).get("unit", "nats")
        return f"{scorer} ({unit})" if "entropy" in scorer else scorer


def facts_of(told: Sequence[Told]) -> list[tuple[str, list[str]]]:
    """What a person wants to know of each run first, and how the runs differ."""
    rows: dict[str, Callable[[Told], str]] = {
        "run": lambda t: t.run_id,
        "status": lambda t: ": ".join(filter(None, (live_status(t.run), t.run["message"]))),
        "intervals": lambda t: f"{t.run['intervals_done']} of {t.run['intervals_planned']}",
        "strategy": lambda t: _section(t, "curriculum", "strategy", ("type", "intervals")),
        "scorer": lambda t: _section(t, "scoring", "scorer", _NOT_OF_SCORES),
        "model": lambda t: str(t.run["model"]),
        "trainer": lambda t: _section(t, "training", "trainer", ("type",)),
        "pool": lambda t: f"{t.run['pool_size']:,} samples, {t.run['top_n']:,} per interval "
        f"({t.run['dataset_id']})",
        "data": lambda t: str(t.config.get("data", {}).get("train", "–")),
        "seed": lambda t: str(t.run["seed"]),
        "metric": _metric_words,
        "time": lambda t: ", ".join(
            f"{stage} {number(t.run[f'{stage}_seconds'], 1)} s"
            for stage in ("scoring", "training", "evaluation")
        ),
        "created": lambda t: str(t.run["created_at"])[:16].replace("T", " ") + " UTC",
        "versions": lambda t: ", ".join(
            f"{name} {t.versions[name]}"
            for name in ("edco", "torch", "transformers", "trl", "peft", "python")
            if name in t.versions
        ),
    }  # fmt: skip
    return [(name, [words(each) for each in told]) for name, words in rows.items()]


def _section(told: Told, section: str, name: str, left_out: Sequence[str]) -> str:
    """A part of the configuration in a line: what was set, without what says nothing."""
    if told.run[name] == "none":  # a pool that was only scored: settings nobody used
        return "–"
    settings = {
        key: value
        for key, value in _flat(told.config.get(section, {})).items()
        if key not in left_out and value is not None
    }
    words = ", ".join(f"{key.removeprefix('args.')} {_word(v)}" for key, v in settings.items())
    return str(told.run[name]) + (f": {words}" if words else "")


def _metric_words(told: Told) -> str:
    run = told.run
    if run["metric"] is None:
        return "–"
    first, last, best = (number(run[f"{name}_metric"]) for name in ("baseline", "last", "best"))
    return f"{label_of(run['metric'])} {first} before, {last} last, {best} best"


def groups_of(told: Sequence[Told]) -> dict[str, list[Told]]:
    """Runs that differ in nothing but their seed, by what tells them from the others."""
    settings = [_settings(each) for each in told]
    keys = [
        key
        for key in dict.fromkeys(key for each in settings for key in each)
        if len({json.dumps(each.get(key), default=str) for each in settings}) > 1
    ]
    groups: dict[tuple[str, ...], list[Told]] = {}
    for each, own in zip(told, settings, strict=True):
        others = [s for t, s in zip(told, settings, strict=True)
                  if t.run["strategy"] == each.run["strategy"]]  # fmt: skip
        told_apart = [key for key in keys if any(s.get(key) != own.get(key) for s in others)]
        words = (f"{key.rpartition('.')[2]} {_word(own.get(key))}" for key in told_apart)
        groups.setdefault((each.run["strategy"], *words), []).append(each)
    labels: dict[str, list[Told]] = {}
    for whole, members in groups.items():
        label = short = shortened(", ".join(map(shortened, whole)), 48)
        while label in labels:  # what tells them apart was cut off
            label = f"{short} ({sum(known.startswith(short) for known in labels) + 1})"
        labels[label] = members
    return labels


def _settings(told: Told) -> dict[str, Any]:
    """All that decides what a run comes to, but its seed: also where a pool is made for each."""
    found = _flat({k: v for k, v in told.config.items() if k not in ("run", "store")})
    seed = rf"(?<!\d){told.run['seed']}(?!\d)"
    if isinstance(path := found.get("data.train"), str):
        found["data.train"] = re.sub(seed, "{seed}", path)
    if found.get("data.train") == path:
        found["dataset"] = told.run["dataset_id"]
    return found | {"evaluation set": told.run["eval_dataset_id"]}


def _word(value: Any) -> str:
    """A setting as YAML has it, numbers as short as they are, of a path its end."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value.rpartition("/")[2] or value
    return json.dumps(value, ensure_ascii=False)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


_Line = tuple[list[int], list[float]]


def curves_of(groups: Mapping[str, Sequence[Told]], line: Callable[[Told], _Line]) -> list[Curves]:
    found = []
    for label, members in groups.items():
        drawn = [member for member in members if line(member)[0]]
        seeds = {member.run["seed"] for member in drawn}
        of = "seeds" if len(seeds) == len(drawn) else "runs"
        count = f" ({len(drawn)} {of})" if len(drawn) > 1 else ""
        if drawn:
            found.append(Curves(label + count, [line(member) for member in drawn]))
    return found


def metric_line(metric: str, told: Told) -> _Line:
    rows = [r for r in told.evaluations if r["metric"] == metric and r["category"] is None]
    return values_of(rows, "value")


def values_of(rows: Sequence[Mapping[str, Any]], key: str) -> _Line:
    known = [(row["interval"], row[key]) for row in rows if row[key] is not None]
    return [interval for interval, _ in known], [value for _, value in known]


def categories_of(told: Told) -> tuple[list[Category], int]:
    """The largest categories, largest first, and how many there are."""
    metric = told.run["metric"]
    evaluated = [r for r in told.evaluations if r["metric"] == metric and r["category"] is not None]
    last = max((r["interval"] for r in evaluated), default=-1)
    counts: dict[int | None, dict[str | None, int]] = {}
    for row in told.composition:
        counts.setdefault(row["interval"], {})[row["category"]] = row["n"]
    pool = counts.pop(None, {})
    names = {r["category"] for r in evaluated} | pool.keys()
    if names <= {None}:
        return [], 0
    curricula = [counts[interval] for interval in sorted(k for k in counts if k is not None)]

    measured = {(row["category"], row["interval"]): row for row in evaluated}

    def value(name: str | None, interval: int, key: str) -> Any:
        return measured.get((name, interval), {}).get(key)

    found = [
        Category(
            name="(none)" if name is None else shortened(name),
            n_evaluated=value(name, last, "n"),
            before=value(name, -1, "value"),
            after=value(name, last, "value") if last >= 0 else None,
            pool_share=pool[name] / sum(pool.values()) if name in pool else None,
            shares=[each.get(name, 0) / sum(each.values()) for each in curricula],
        )
        for name in sorted(
            names,
            key=lambda name: (-pool.get(name, 0), -(value(name, last, "n") or 0), str(name)),
        )
    ]
    return found[:_MOST_CATEGORIES], len(found)


def persistent_sample(told: Told, row: Mapping[str, Any]) -> dict[str, Any]:
    history = told.histories[row["sample_id"]]
    prompt = row["prompt"]
    return {
        **row,
        "learned": row["score_last"] < row["score_first"],
        "spark": _sparkline(history),
        "category": row["category"] or "",
        "begins": None if prompt is None else shortened(" ⏎ ".join(prompt.splitlines()), 90),
        "prompt": None if prompt is None else shortened(prompt, _TEXT_CHARS),
    }


def _sparkline(history: Sequence[Mapping[str, Any]]) -> Markup:
    """The scores of a sample as a line of a few pixels, with a dot where it was selected."""
    scores = [each["score"] for each in history]
    low, span = min(scores, default=0), (max(scores, default=0) - min(scores, default=0)) or 1.0
    step = min(14.0, 110 / max(1, len(scores) - 1))
    points = [(4 + i * step, 22 - 18 * (score - low) / span) for i, score in enumerate(scores)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>'
        for (x, y), each in zip(points, history, strict=True)
        if each["selected"]
    )
    width = 8 + step * max(1, len(scores) - 1)
    label = ", ".join(f"{score:.3f}" for score in scores)
    return Markup(
        f'<svg class="spark" viewBox="0 0 {width:.0f} 26" width="{width:.0f}" height="26">'
        f'<title>{label}</title><polyline points="{line}"/>{dots}</svg>'
    )


def shortened(text: str, width: int = 34) -> str:
    """The text, or what fits of it."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
