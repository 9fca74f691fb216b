"""Gradients of selected samples against random ones, through a run (EDCO, arXiv 2601.03725).

The paper explains its curriculum by two numbers of a batch: *direction consistency*, the mean
cosine between the gradients of two of its samples (0.92 selected, 0.82 random), and the norm of its
gradient.  Here both are measured at every checkpoint of a run under the paper's rule, for batches
of the highest entropy, of a tempered draw, and of the whole pool, all scored by that checkpoint.
Gradients are of the completion's mean loss, over all weights of the model.

Shapes: W = weights of the model, B = samples of a batch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.papers.results import keep
from benchmarks.rescoring import task_config
from benchmarks.tasks import CALCULATIONS, LOGHUB
from edco_core.config import Config, EdcoSection, parse_config
from edco_core.curriculum import KnownEvidence, build_strategy
from edco_core.loading import ModelHost
from edco_core.prompts import reference_token_ids
from flows import opening, stages
from flows.charts import BLUE, GREY, PAPER, RED
from flows.display import progress
from flows.prepare import complete, load_inputs
from storage import open_ledger

if TYPE_CHECKING:
    from edco_core.prompts import TokenIds
    from edco_core.records import Floats, Ints
    from flows.open_run import OpenRun

    Tokens = tuple[list[TokenIds], list[TokenIds]]

SEEDS = (0, 1, 2)
BATCH = 32
BATCHES = 4
"""Of each kind, at each checkpoint."""
RULES: dict[str, EdcoSection | None] = {
    "highest entropy": EdcoSection(temperature=0.0),
    "tempered draw": EdcoSection(temperature=1.0),
    "random": None,
}
_COLORS = {"highest entropy": RED, "tempered draw": BLUE, "random": GREY}


ANALYSES = {
    "gradients": (
        "do selected samples pull in one direction, and how hard (EDCO, section on why)", LOGHUB
    ),
    "gradients-gsm8k": ("the same on lines of gsm8k's worked answers", CALCULATIONS),
}  # fmt: skip
"""Name to what is asked, and of which task."""


def analyse(name: str, *, quick: bool) -> None:
    """A run for each seed; the table and the picture are over all of them."""
    _, task = ANALYSES[name]
    rows: list[dict[str, Any]] = []
    seeds = SEEDS[:1] if quick else SEEDS
    with tempfile.TemporaryDirectory(prefix="edco-paper-") as folder:
        config = task_config(task, Path(folder), quick=quick)
        for seed in seeds:
            rows += _run(config, seed, Path(folder), quick=quick)
    means = _means(rows)
    _print(means)
    facts = {"seeds": list(seeds), "batch": BATCH, "batches": BATCHES, "means": means, "rows": rows}
    pictures = {name: lambda: _draw(means)}
    keep(name, {**facts, "config": config.for_ledger()}, pictures, quick=quick)


def _run(config: Config, seed: int, folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    """Consistency and norm of each kind of batch at each interval of one run."""
    values = config.model_dump(mode="json")
    values["run"]["seed"] = seed
    values["curriculum"] |= {"preset": "paper", "temperature": 0.0, "order": "descending"}
    config = parse_config(values)
    host = ModelHost(config.model, seed=seed)
    host.load_base()
    url = f"duckdb:///{folder / f'{seed}.duckdb'}"
    prepared = complete(load_inputs(config, url))
    run = opening.create(lambda: open_ledger(url), prepared, f"gradients-{seed}", host)
    rows = []
    with run.owned():
        run.warm_up()
        for interval in range(run.plan.num_intervals):
            stages.take_checkpoint(run, interval)
            stages.score_pool(run, interval)
            rows += _of_checkpoint(run, interval, seed, 1 if quick else BATCHES)
            stages.select_curriculum(run, interval)
            stages.train_interval(run, interval)
    return rows


def _of_checkpoint(
    run: OpenRun, interval: int, seed: int, num_batches: int
) -> list[dict[str, Any]]:
    scores = run.ledger.scores(run.run_id, interval).scores
    tokens = reference_token_ids(run.pool, run.host.tokenizer)
    rows = []
    with progress(f"gradients · interval {interval}") as on_progress:
        for i, (rule, section) in enumerate(RULES.items()):
            for batch in range(num_batches):
                rng = np.random.default_rng([seed, interval, i, batch])
                chosen = _draw_batch(section, scores, run.plan.samples_per_interval, rng)
                consistency, norm = gradients(run, tokens, chosen)
                rows.append(
                    {
                        "seed": seed,
                        "interval": interval,
                        "rule": rule,
                        "consistency": consistency,
                        "norm": norm,
                        "mean_score": float(scores[chosen].mean()),
                    }
                )
                on_progress(i * num_batches + batch + 1, len(RULES) * num_batches)
    return rows


def _draw_batch(
    section: EdcoSection | None, scores: Floats, num_selected: int, rng: np.random.Generator
) -> Ints:
    """Some of the curriculum that the rule would select, or of the pool."""
    among = np.arange(len(scores))
    if section is not None:
        among = build_strategy(section).select(KnownEvidence(scores), num_selected, rng).ordinals
    return rng.permutation(among)[:BATCH]


def gradients(run: OpenRun, tokens: Tokens, ordinals: Ints) -> tuple[float, float]:
    """Mean cosine of two samples' gradients, and the norm of the batch's mean gradient.

    ``tokens`` are prompts and completions of the pool.
    With unit gradients u_i, the mean over pairs of u_i . u_j is (|sum u_i|^2 - B) / (B (B - 1)).
    """
    model = run.host.model_for_inference()
    weights = [each for each in model.parameters() if each.requires_grad]
    size = sum(each.numel() for each in weights)
    units_W = torch.zeros(size, dtype=torch.float64)
    mean_W = torch.zeros(size, dtype=torch.float64)
    prompts, completions = tokens
    for ordinal in ordinals:
        prompt, completion = prompts[ordinal].tolist(), completions[ordinal].tolist()
        ids = torch.tensor([[*prompt, *completion]], device=model.device)
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        model.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        gradient_W = torch.cat([each.grad.flatten() for each in weights]).double().cpu()
        units_W += gradient_W / gradient_W.norm().clamp(min=1e-12)
        mean_W += gradient_W / len(ordinals)
    model.zero_grad()
    num = len(ordinals)
    return float((units_W @ units_W - num) / (num * (num - 1))), float(mean_W.norm())


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the batches of a seed, and then the seeds with their standard deviation."""
    found = []
    for interval in sorted({row["interval"] for row in rows}):
        for rule in RULES:
            told: dict[str, Any] = {"interval": interval, "rule": rule}
            for key in ("consistency", "norm", "mean_score"):
                by_seed = [
                    np.mean([r[key] for r in rows
                             if (r["seed"], r["interval"], r["rule"]) == (seed, interval, rule)])
                    for seed in sorted({row["seed"] for row in rows})
                ]  # fmt: skip
                told[key] = float(np.mean(by_seed))
                told[f"{key}_std"] = float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else 0.0
            found.append(told)
    return found


def _print(means: list[dict[str, Any]]) -> None:
    table = Table("interval", "batch of", "consistency", "gradient norm", "mean entropy")
    for row in means:
        table.add_row(
            str(row["interval"]),
            row["rule"],
            *(
                f"{row[key]:.3f} ± {row[f'{key}_std']:.3f}"
                for key in ("consistency", "norm", "mean_score")
            ),
        )
    Console().print(table)


def _draw(means: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained", facecolor=PAPER)
    for axes, key, label in zip(
        figure.subplots(1, 2), ("consistency", "norm"),
        ("mean cosine of two samples' gradients", "norm of the batch's gradient"), strict=True,
    ):  # fmt: skip
        for rule in RULES:
            rows = [row for row in means if row["rule"] == rule]
            x, y = [row["interval"] for row in rows], np.array([row[key] for row in rows])
            spread = np.array([row[f"{key}_std"] for row in rows])
            axes.plot(x, y, marker="o", color=_COLORS[rule], label=rule)
            axes.fill_between(x, y - spread, y + spread, color=_COLORS[rule], alpha=0.15)
        axes.set_title(label)
        axes.set_xlabel("interval")
    axes.legend()
    return figure
