"""``edco bench scoring``: what cheaper scores cost, and whether they keep the order, on this pool.

Every setting really scores the sample, as a run would, and is timed.  The reference is the entropy
of the whole answer.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from edco_core.config import Config, parse_config
from edco_core.errors import InputError
from edco_core.records import Pool
from flows.display import progress
from flows.prepare import check_writable, complete, load_inputs
from flows.reading import Answer
from storage.queries import Rows

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.records import Floats

WANTED_SPEARMAN, WANTED_OVERLAP = 0.95, 0.85
MIN_SAMPLES = 20
FORMATS = (".html", ".json", ".png")
_LENGTHS = (1, 2, 4, 8, 16, 32)
_REPEATS = 3
_SAME_COST = 1.1
"""Costs whose ratio is less cannot be told apart: repeats of one setting differ as much."""
_TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)
_COLUMNS = {
    "setting": "setting", "ms_per_sample": "ms per sample", "cost": "cost",
    "spearman": "Spearman", "spearman_interval": "95 %", "kendall": "Kendall",
    "overlap": "top overlap", "overlap_interval": "95 % ",
}  # fmt: skip

Setting = Mapping[str, Any]


def settings_to_try(config: Config) -> dict[str, Setting]:
    """Name to ``scoring`` section; the first is the reference, the run's own comes second."""
    budget = {"max_batch_tokens": config.scoring.max_batch_tokens}
    own = config.scoring.model_dump(mode="json", exclude={"rescore", "shard_size"})
    if own.get("engine") == "transformers":
        own = {key: value for key, value in own.items() if not key.startswith("engine")}
    longest = own["max_new_tokens"] if own["type"] == "full_entropy" else 256
    grid: dict[str, Setting] = {
        "full": {"type": "full_entropy", "max_new_tokens": longest},
        "configured": own,
    }
    for quick in (False, True):
        for length in _LENGTHS:
            name = f"prefix {length}{', quick' if quick else ''}"
            grid[name] = {
                "type": "prefix_entropy", "prefix_tokens": length, "quick_answer": quick,
            }  # fmt: skip
    for length in (4, 16):
        grid[f"reference prefix {length}"] = {
            "type": "reference_prefix_entropy", "prefix_tokens": length,
        }  # fmt: skip
    grid["loss"] = {"type": "loss"}
    grid["edco_released"] = {"type": "prefix_entropy", "preset": "edco_released"}
    return {name: {**budget, **each} for name, each in grid.items()}


def bench_scoring(config: Config, num_samples: int, output: Path | None) -> Answer:
    """Measure all settings on a sample of the pool; raises InputError for what cannot be."""
    if output is not None:
        if output.suffix not in FORMATS:
            raise InputError(
                f"-o {output}: '{output.suffix}' is no format of this. Allowed: "
                f"{', '.join(FORMATS)}."
            )
        check_writable(output.parent, "-o")
    inputs = load_inputs(config, config.store_url())
    if len(inputs.pool) < MIN_SAMPLES:
        raise InputError(
            f"{config.data.train}: {len(inputs.pool)} samples are too few to compare orders; at "
            f"least {MIN_SAMPLES} are needed."
        )
    config = complete(inputs).config
    if inputs.parent is not None:
        inputs.parent.make()
    pool = _sample(inputs.pool, num_samples, config.run.seed)
    top_share = config.curriculum.count(len(inputs.pool)) / len(inputs.pool)
    rows = _measure(config, pool, top_share)
    advice, lines = recommend(rows)
    facts = {
        "model": config.model.name_or_path,
        "pool": config.data.train,
        "samples": len(pool),
        "top_share": top_share,
        "device": rows[0].pop("device"),
        "settings": rows,
        "recommendation": advice,
        "yaml": lines,
    }
    if output is not None:
        _write(output, facts)
    shown = [
        row
        | {
            "cost": f"{row['cost']:.1%}",
            "spearman_interval": _interval(row["spearman_interval"]),
            "overlap_interval": _interval(row["overlap_interval"]),
        }
        for row in rows
    ]
    head = (
        f"{len(pool)} of {len(inputs.pool)} samples, on {facts['device']}; cost and order against "
        f"the whole answer's entropy, overlap of the highest {top_share:.1%}"
    )
    after = [advice, *lines.splitlines()]
    if output is not None:
        after.append(f"wrote {output}")
    return Answer(facts, Rows(rows[0], rows), _COLUMNS, shown, lines=[head], after=after)


def _sample(pool: Pool, num_samples: int, seed: int) -> Pool:
    """So many samples of the pool, in its order."""
    drawn = np.random.default_rng(seed).permutation(len(pool))[:num_samples]
    return dataclasses.replace(pool, table=pool.table.take(np.sort(drawn)))


def _measure(config: Config, pool: Pool, top_share: float) -> list[dict[str, Any]]:
    # torch is loaded here, once everything that is quick to check has been.
    from edco_core.loading import ModelHost
    from edco_core.scoring.fidelity import fidelity, resampled

    host = ModelHost(config.model, seed=config.run.seed)
    host.load_base()
    grid = settings_to_try(config)
    rows: list[dict[str, Any]] = []
    reference: Floats | None = None
    full_seconds = 0.0
    warm_up = dataclasses.replace(pool, table=pool.table.slice(0, MIN_SAMPLES))
    with progress("bench scoring") as on_progress:
        for done, (name, section) in enumerate(grid.items()):
            settings = parse_config(
                {**config.for_ledger(), "scoring": dict(section)}, source=f"setting '{name}'"
            ).scoring
            if name != "full":
                _score(settings, warm_up, host, config.run.seed)
            # What is quick is timed several times, and its fastest counts: others use the machine.
            seconds, scores = min(
                (
                    _score(settings, pool, host, config.run.seed)
                    for _ in range(1 if name in ("full", "edco_released") else _REPEATS)
                ),
                key=lambda timed: timed[0],
            )
            if reference is None:
                reference, full_seconds = scores, seconds
            agreement = fidelity(scores, reference, top_share=top_share)
            reach = resampled(scores, reference, top_share=top_share)
            rows.append(
                {
                    "setting": name,
                    "ms_per_sample": 1000 * seconds / len(pool),
                    "cost": seconds / full_seconds,
                    "spearman": float(np.nan_to_num(agreement.spearman)),  # all alike: no order
                    "spearman_interval": reach.spearman,
                    "kendall": float(np.nan_to_num(agreement.kendall)),
                    "overlap": agreement.top_overlap,
                    "overlap_interval": reach.top_overlap,
                    "scoring": dict(section),
                }
            )
            on_progress(done + 1, len(grid))
    rows[0]["device"] = str(host.device)
    return rows


def _score(settings: Any, pool: Pool, host: ModelHost, seed: int) -> tuple[float, Floats]:
    """Seconds from the texts to the scores, and the scores by ordinal."""
    from edco_core.scoring import build_scorer

    start = time.perf_counter()
    scorer = build_scorer(settings, pool, host, seed=seed)
    scores = np.empty(len(pool))
    nobody = np.empty(0, dtype=np.int64)
    everybody = np.arange(len(pool), dtype=np.int64)
    for shard in scorer.score(everybody, nobody, lambda done, total: None, interval=0):
        scores[shard.ordinals] = shard.scores
    return time.perf_counter() - start, scores


def recommend(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """One sentence, and the lines for the configuration."""
    others = [row for row in rows[1:] if row["cost"] < 1]
    good = [
        row
        for row in others
        if row["spearman"] >= WANTED_SPEARMAN and row["overlap"] >= WANTED_OVERLAP
    ]
    if good:
        most = _SAME_COST * min(row["cost"] for row in good)
        best = max((row for row in good if row["cost"] <= most), key=lambda row: row["spearman"])
        advice = (
            f"Recommended: {best['setting']}, the truest of the cheapest that keep the order "
            f"(Spearman at least {WANTED_SPEARMAN}, overlap at least {WANTED_OVERLAP}): "
            f"{best['cost']:.1%} of the cost"
        )
    elif others:
        best = max(others, key=lambda row: row["spearman"])
        advice = (
            f"No setting keeps the order as wanted (Spearman at least {WANTED_SPEARMAN}, overlap "
            f"at least {WANTED_OVERLAP}); the nearest is {best['setting']}: Spearman "
            f"{best['spearman']:.3f} at {best['cost']:.1%} of the cost"
        )
    else:
        best, advice = rows[0], "Nothing is cheaper here than the whole answer's entropy"
    section = {
        key: value
        for key, value in best["scoring"].items()
        if value is not None and key != "max_batch_tokens"
    }
    lines = yaml.safe_dump({"scoring": section}, sort_keys=False, allow_unicode=True).rstrip()
    return f"{advice}.", lines


def _interval(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f}–{interval[1]:.3f}"


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    elif path.suffix == ".png":
        path.write_bytes(plot(facts))
    else:
        path.write_text(_page(facts), encoding="utf-8")


def plot(facts: Mapping[str, Any]) -> bytes:
    """Cost against Spearman, as PNG: what lies up and to the left is best."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(9, 5.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    groups = {
        "prefix": ("o-", "tab:blue", "prefix entropy, by prefix length"),
        "quick": ("s-", "tab:orange", "the same, asked for a quick answer"),
        "reference": ("^", "tab:green", "on the reference answer"),
        "other": ("D", "tab:gray", "others"),
    }
    for group, (style, colour, label) in groups.items():
        rows = [row for row in facts["settings"][1:] if _group(row["setting"]) == group]
        if not rows:
            continue
        costs = [100 * row["cost"] for row in rows]
        values = [row["spearman"] for row in rows]
        reach = [
            [row["spearman"] - row["spearman_interval"][0] for row in rows],
            [row["spearman_interval"][1] - row["spearman"] for row in rows],
        ]
        reach = [[max(0.0, each) for each in side] for side in reach]
        axes.errorbar(
            costs, values, yerr=reach, fmt=style, color=colour, label=label,
            linewidth=0.8, elinewidth=0.8, capsize=2, markersize=5,
        )  # fmt: skip
        for row, cost, value in zip(rows, costs, values, strict=True):
            text = row["setting"].removeprefix("prefix ").removesuffix(", quick")
            below = group in ("quick", "other")
            axes.annotate(
                text, (cost, value), xytext=(4, -11 if below else 5), textcoords="offset points",
                fontsize=8, color=colour,
            )  # fmt: skip
    axes.axhline(WANTED_SPEARMAN, color="tab:red", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    costs = [100 * row["cost"] for row in facts["settings"][1:]]
    axes.set_xlim(min(costs) / 1.2, max(costs) * 1.5)  # room for the names
    ticks = [tick for tick in _TICKS if min(costs) / 1.2 <= tick <= max(costs) * 1.5]
    axes.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("cost, of the whole answer's entropy")
    axes.set_ylabel("Spearman with the whole answer's entropy (bars: 95 %)")
    axes.set_title(
        f"{Path(facts['model']).name} on {Path(facts['pool']).name}, {facts['samples']} samples",
        fontsize=11,
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _group(setting: str) -> str:
    if setting.startswith("prefix "):
        return "quick" if setting.endswith("quick") else "prefix"
    return "reference" if setting.startswith("reference") or setting == "loss" else "other"


def _page(facts: Mapping[str, Any]) -> str:
    """One file that needs nothing else: the plot, the table, the advice."""
    cells = [
        [
            row["setting"], f"{row['ms_per_sample']:.2f}", f"{row['cost']:.1%}",
            f"{row['spearman']:.3f} ({_interval(row['spearman_interval'])})",
            f"{row['kendall']:.3f}",
            f"{row['overlap']:.3f} ({_interval(row['overlap_interval'])})",
        ]
        for row in facts["settings"]
    ]  # fmt: skip
    head = ["setting", "ms per sample", "cost", "Spearman", "Kendall", "top overlap"]
    table = "".join(
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in [("th", head), *(("td", row) for row in cells)]
    )
    title = html.escape(f"Scoring: {facts['model']} on {facts['pool']}")
    picture = base64.b64encode(plot(facts)).decode()
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:15px system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td,th{padding:.2rem .8rem;text-align:right}td:first-child,th:first-child{text-align:left}"
        "img{max-width:100%}</style>"
        f"<h1>{title}</h1><p>{facts['samples']} samples on {html.escape(facts['device'])}; overlap "
        f"of the highest {facts['top_share']:.1%}.</p>"
        f'<img alt="cost against order" src="data:image/png;base64,{picture}">'
        f"<table>{table}</table><p>{html.escape(facts['recommendation'])}</p>"
        f"<pre>{html.escape(facts['yaml'])}</pre></html>\n"
    )
