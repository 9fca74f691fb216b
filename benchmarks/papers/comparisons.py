"""Curricula against the random draw, by ``edco compare``, on pools that are varied.

Most pools are parts of Loghub (16 systems; prompt: raw line, completion: its template), the model
the one of ``examples/loghub.yaml``, which has seen half of the systems.  An analysis is one or more
comparisons that differ in one thing, such as the share of wrong answers planted in the pool.  All
its runs are in one ledger beside the data, so an analysis that was stopped goes on where it was.

Each seed has a pool of its own, since much of supervised training depends on no seed.  Only
reinforcement learning, which samples, has one pool for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from benchmarks.demo_inputs import CACHE
from benchmarks.papers.results import keep
from benchmarks.tasks import CALCULATIONS, LOGHUB, Task, write_rows
from edco_core.config import parse_config
from edco_core.config_compare import load_comparison
from edco_core.demo_model import Recipe
from flows.begin import has_ledger
from flows.charts import PAPER
from flows.compare_charts import draw_differences, looks_of
from flows.compare_launch import compare_strategies
from flows.compare_result import Result
from flows.launch import resume_run, start_run
from storage import open_ledger
from storage.queries import runs

Section = dict[str, Any]

_OWN_HISTORY = "benchmarks.papers.own_history:OwnHistory"

LOSS: Section = {"scoring": {"type": "loss"}}
PAPER_RULE: Section = {"type": "edco", "preset": "paper", "label": "paper"}
FEW: list[str | Section] = ["random", "edco", PAPER_RULE]
"""What the analyses of a pool's nature compare: the default, the paper's rule, and chance."""
BASELINES: list[str | Section] = [
    "length",
    "answer_complexity",
    {"type": "dynamic_ppl", "set": LOSS},
    {"type": "perplexity", "set": LOSS},
]
"""What EDCO was measured against, beside chance, where there are no rewards."""


@dataclass(frozen=True)
class Variant:
    """One comparison."""

    label: str
    strategies: Sequence[str | Section]
    config: Section = field(default_factory=dict)
    """Sections merged into the configuration."""
    noise: float = 0.0
    """Share of the pool whose completions change places among themselves."""
    per_template: int | None = None
    """At most so many lines of the pool have the same completion."""
    pool_size: int = 1000
    task: Task = LOGHUB
    model: Recipe | None = None
    """Of another size than the task's own."""
    num_start: int = 0
    """So many other lines first teach the model, supervised."""
    names_category: bool = False
    """The answer is the row's category: a few tokens, which are cheap to sample."""
    num_seeds: int = 5


SFT = Variant(
    "supervised, equal steps",
    [
        *FEW,
        {"type": "edco", "temperature": 2.0, "temperature_end": 0.5, "label": "annealed"},
        {"type": "edco", "max_category_share": 0.15, "label": "capped"},
        {"type": "edco", "temperature": 0.5, "label": "edco-0.5"},
        {"type": _OWN_HISTORY, "args": {"weight": 1.0}, "label": "falling"},
        {"type": _OWN_HISTORY, "args": {"weight": -1.0}, "label": "not-falling"},
        *BASELINES,
        {"type": "campus", "set": LOSS},
    ],
)
_TRAINING: Section = {
    "learning_rate": 1e-3,
    "lr_scheduler_type": "linear",
    "per_device_train_batch_size": 16,
}
_GRPO: Section = {
    "curriculum": {"intervals": 5, "top_n": 0.096},
    "training": {
        "type": "grpo",
        "rewards": [{"type": "exact_match"}],
        "args": {
            "num_generations": 8,
            "per_device_train_batch_size": 64,
            "max_completion_length": 8,
            "learning_rate": 2e-4,
            "temperature": 0.6,
            "lr_scheduler_type": "constant",
            "beta": 0.0,
        },
    },
    "evaluation": {"max_new_tokens": 8, "every": 1},
}
_GRPO_LINES: Section = _GRPO | {
    "training": {
        **_GRPO["training"],
        "args": _GRPO["training"]["args"] | {"max_completion_length": 24},
    },
    "evaluation": {"max_new_tokens": 24, "every": 5},
}
_START = "start"
"""The run that reinforcement learning starts from."""

_CURRICULA = """
SELECT s.interval, s.score_mean AS pool_score, avg(c.score) AS curriculum_score,
       s.n_first_time, s.n_returned, s.n_stayed, s.jaccard
FROM interval_summary s JOIN curriculum c ON c.run_id = s.run_id AND c.interval = s.interval
WHERE s.run_id = :run GROUP BY ALL ORDER BY s.interval
"""

ANALYSES: dict[str, tuple[str, Sequence[Variant]]] = {
    "supervised": ("every curriculum that needs no rewards, after equal steps", [SFT]),
    "gsm8k": (
        "the same on lines of gsm8k's worked answers",
        [
            Variant(
                "gsm8k, equal steps",
                [*FEW, *BASELINES, {"type": "campus", "set": LOSS}],
                task=CALCULATIONS,
            )
        ],
    ),
    "seconds": (
        "some of them after equal seconds, scoring included",
        [
            Variant(
                "supervised, equal seconds",
                [*FEW, "length"],
                {"compare": {"budget": {"seconds": 40}}},
            )
        ],
    ),
    "seconds-gsm8k": (
        "the same on lines of gsm8k's worked answers",
        [
            Variant(
                "gsm8k, equal seconds",
                [*FEW, "length"],
                {"compare": {"budget": {"seconds": 40}}},
                task=CALCULATIONS,
            )
        ],
    ),
    "noise": (
        "wrong answers planted in 10 and 30 % of the pool",
        [Variant(f"{share:.0%} wrong answers", FEW, noise=share) for share in (0.1, 0.3)],
    ),
    "share": (
        "curricula of a tenth and of a half of the pool",
        [
            Variant(f"N {share:.0%} of the pool", FEW, {"curriculum": {"top_n": share}})
            for share in (0.1, 0.5)
        ],
    ),
    "redundancy": (
        "a pool in which at most two lines have the same template",
        [Variant("no redundancy", FEW, per_template=2)],
    ),
    "longer": (
        "four times the pool and the training",
        [
            Variant(
                "pool of 4000, four times the training",
                FEW,
                {"training": {"args": _TRAINING | {"per_device_train_batch_size": 32}}},
                pool_size=4000,
            )
        ],
    ),
    "model": (
        "a model of half the width",
        [Variant("smaller model", FEW, model=Recipe(hidden_size=80, num_layers=4))],
    ),
    "reinforcement": (
        "curricula in GRPO, after equal steps",
        [
            Variant(
                "reinforcement, equal steps",
                [*FEW, *BASELINES, "sec", "cures"],
                _GRPO,
                num_start=350,
                names_category=True,
            )
        ],
    ),
    "reinforcement-gsm8k": (
        "some of them in GRPO, on lines of gsm8k's worked answers",
        [
            Variant(
                "reinforcement, gsm8k, equal steps",
                [*FEW, "cures"],
                _GRPO_LINES,
                task=CALCULATIONS,
                num_start=1000,
            )
        ],
    ),
}
"""Name to what is compared, and the comparisons of it."""


def analyse(name: str, *, quick: bool) -> None:
    """Carry out what is left of the comparisons, print their tables, keep them with a picture."""
    about, variants = ANALYSES[name]
    folder = CACHE / "comparisons" / (f"{name}-quick" if quick else name)
    folder.mkdir(parents=True, exist_ok=True)
    store = f"duckdb:///{folder / 'edco.duckdb'}"
    results, told = {}, []
    for number, variant in enumerate(variants):
        path = _write(folder, f"{name}-{number}", variant, store, quick=quick)
        result = compare_strategies(load_comparison(path), path, store, offline=True)
        answer = result.answer()
        answer.print()
        results[variant.label] = result
        told.append(
            {"variant": variant.label, **answer.facts, "curricula": _curricula(result, store)}
        )
    pictures = {name: lambda: _draw(results)}
    if len(results) == 1:
        (result,) = results.values()
        pictures[f"{name}-curricula"] = lambda: _draw_curricula(result, told[0]["curricula"])
    keep(name, {"about": about, "comparisons": told}, pictures, quick=quick)


def _write(folder: Path, name: str, variant: Variant, store: str, *, quick: bool) -> Path:
    """Data, model and configuration of a comparison; the path of the latter."""
    pool_size, eval_size = (120, 20) if quick else (variant.pool_size, 500)
    num_start = min(variant.num_start, 60) if quick else variant.num_start
    num_seeds = 2 if quick else variant.num_seeds
    write_rows(folder / f"{name}-eval.jsonl", _rows("eval", eval_size, variant))
    train = f"{name}-train.jsonl" if num_start else f"{name}-pool-{{seed}}.jsonl"
    for seed in range(1 if num_start else num_seeds):
        rows = _rows("train", pool_size + num_start, variant, seed)
        write_rows(folder / train.replace("{seed}", str(seed)), rows[:pool_size])
        if num_start:
            write_rows(folder / f"{name}-{_START}.jsonl", rows[pool_size:])
    model = variant.task.model(quick=quick, recipe=variant.model)
    config: Section = {
        "run": {"name": name, "output_dir": str(folder / "runs")},
        "model": {"name_or_path": str(model), "peft": None},
        "data": {"train": str(folder / train), "eval": str(folder / f"{name}-eval.jsonl")},
        "scoring": {"type": "prefix_entropy", "prefix_tokens": 4, "quick_answer": False},
        "curriculum": {"intervals": 8, "top_n": 0.25},
        "training": {"args": _TRAINING},
        "evaluation": {
            "metric": "exact_match",
            "max_new_tokens": variant.task.max_new_tokens,
            "every": 4,
        },
        "compare": {"strategies": list(variant.strategies), "seeds": num_seeds},
    }
    if num_start:
        _start(config, folder / f"{name}-{_START}.jsonl", store)
        config["model"]["name_or_path"] = f"run:{_START}"
    for section, values in variant.config.items():
        if section == "training":
            config[section] = values
        else:
            config[section] |= values
    if "budget" in config["compare"]:
        del config["curriculum"]["intervals"]
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def _start(config: Section, data: Path, store: str) -> None:
    """One pass over the lines to start with, unless the ledger has it already."""
    if has_ledger(store) and _START in {row["run_id"] for row in runs(open_ledger(store))}:
        resume_run(_START, store, offline=True)
        return
    values = {key: value for key, value in config.items() if key != "compare"}
    values["data"] = {**config["data"], "train": str(data)}
    values["curriculum"] = {"type": "random", "intervals": 1, "top_n": 1.0}
    start_run(parse_config(values), store, _START, offline=True)


def _rows(split: str, size: int, variant: Variant, seed: int = 0) -> list[Section]:
    """Rows of the task, drawn at random; only the pool is varied."""
    rng = np.random.default_rng(seed)
    rows = variant.task.draw(split, rng)
    if split == "train" and variant.per_template is not None:
        seen: Counter[str] = Counter()
        kept = []
        for row in rows:
            seen[row["completion"]] += 1
            if seen[row["completion"]] <= variant.per_template:
                kept.append(row)
        rows = kept
    rows = rows[:size]
    if variant.names_category:
        rows = [{**row, "completion": row["category"]} for row in rows]
    if split == "train" and variant.noise:
        wrong = rng.permutation(len(rows))[: int(variant.noise * len(rows))]
        answers = [rows[i]["completion"] for i in wrong]
        for i, answer in zip(wrong, answers[1:] + answers[:1], strict=True):
            rows[i] = {**rows[i], "completion": answer}
    return rows


def _curricula(result: Result, store: str) -> list[Section]:
    """Per strategy and interval, over seeds: entropy of pool and curriculum, and turnover."""
    ledger = open_ledger(store, read_only=True)
    by_place: dict[tuple[str, int], list[Section]] = {}
    for run in result.runs:
        if run.is_finished:
            names, rows = ledger.query(_CURRICULA, {"run": run.run.run_id})
            for row in rows:
                told = dict(zip(names, row, strict=True))
                by_place.setdefault((run.run.label, told["interval"]), []).append(told)
    return [
        {"label": label, "interval": interval}
        | {
            key: float(np.mean([row[key] for row in rows]))
            for key, value in rows[0].items()
            if key != "interval" and value is not None  # the first interval has no earlier one
        }
        for (label, interval), rows in by_place.items()
    ]


def _draw(results: dict[str, Result]) -> matplotlib.figure.Figure:
    """The differences to the random draw, a panel for each comparison."""
    most = max(len(result.records) for result in results.values())
    figure = matplotlib.figure.Figure(
        figsize=(5.6 * len(results), max(2.9, 1.2 + 0.34 * most)),
        layout="constrained", facecolor=PAPER,
    )  # fmt: skip
    panels: list[Axes] = list(np.atleast_1d(figure.subplots(1, len(results), sharex=True)))
    for axes, (label, result) in zip(panels, results.items(), strict=True):
        draw_differences(axes, result)
        axes.set_title(label)
    return figure


def _draw_curricula(result: Result, curricula: list[Section]) -> matplotlib.figure.Figure:
    """Entropy and turnover through training, of the first strategies that have the same scores."""
    figure = matplotlib.figure.Figure(figsize=(9.6, 5.6), layout="constrained", facecolor=PAPER)
    scoring = result.planned.arms[0].config.scoring
    shown = [arm.label for arm in result.planned.arms if arm.config.scoring == scoring][:6]
    panels: dict[str, Callable[[Section], float]] = {
        "mean entropy of the curriculum (nats)": lambda row: row["curriculum_score"],
        "mean entropy of the whole pool (nats)": lambda row: row["pool_score"],
        "samples that stay from the interval before": lambda row: row["n_stayed"],
        "samples for the first time": lambda row: row["n_first_time"],
    }
    axes: Axes
    for axes, (title, value_of) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        axes.set_title(title)
        axes.set_xlabel("interval")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for label in shown:
            rows = [row for row in curricula if row["label"] == label]
            look = looks_of(result)[label]
            axes.plot([row["interval"] for row in rows], [value_of(row) for row in rows],
                      color=look.color, linestyle=look.dash, marker="o", label=label)  # fmt: skip
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure
