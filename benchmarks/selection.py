"""How long strategies take to select a fourth of a large pool, and the memory they need for it.

Each runs in a process of its own beside two yardsticks on the same array: ``numpy.argpartition``,
which only finds the N highest, and ``Generator.choice`` without replacement, a plain weighted draw.
A selection does more: it is reproducible to the last tie, in training order, and tells everyone's
rank and chance.  Those that read the samples' texts, which they do once in a run, read lines of
Loghub; the time it takes is told apart, too.

``python -m benchmarks.selection NAME POOL_SIZE`` is such a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from benchmarks.measuring import Figure, Report
from benchmarks.tasks import LOGHUB_ALL
from edco_core.config import CurriculumSection
from edco_core.curriculum import STRATEGIES, KnownEvidence, build_strategy, derive_generator
from edco_core.curriculum.evidence import Samples
from edco_core.records import RolloutGroups

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints

POOL_SIZE, QUICK_POOL_SIZE = 10_000_000, 20_000
_NUM_CATEGORIES, _NUM_PROMPTS = 50, 2000
_ROWS_AT_ONCE = 65_536

PLAIN: dict[str, Callable[[Floats, int], Ints]] = {
    "argpartition": lambda scores, num: np.argpartition(-scores, num - 1)[:num],
    "weighted_draw": lambda scores, num: np.random.default_rng(0).choice(
        len(scores), num, replace=False, p=scores / scores.sum()
    ),
}

SETTINGS: dict[str, dict[str, Any]] = {
    "campus": {"perspectives": ["length", "mtld", "loss", "learned"]},
    "stages": {"stages": [{"strategy": {"type": "random"}}]},
}
_READ_TEXTS = {"answer_complexity": "num_different_words", "campus": "statistics"}
"""Strategy to what it makes of the texts."""


def measure(*, quick: bool) -> Report:
    size = QUICK_POOL_SIZE if quick else POOL_SIZE
    LOGHUB_ALL.rows("train")  # that they are missing is to be known at once
    plain = {name: _in_a_process(name, size) for name in PLAIN}
    figures, facts = [], {"pool_size": size, "plain": plain}
    for name in sorted(STRATEGIES):
        found = _in_a_process(name, size)
        facts[name] = found
        yardstick = "weighted_draw" if found["is_weighted"] else "argpartition"
        for what, unit in (("seconds", "s"), ("peak_mb", "MB")):
            figures.append(
                Figure(
                    f"{name}: {what.replace('_mb', ' memory')}",
                    [found[what]],
                    [plain[yardstick][what]],
                    yardstick.replace("_", " "),
                    unit=unit,
                )
            )
    return Report(figures, facts)


def _in_a_process(name: str, size: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.selection", name, str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def select(name: str, size: int) -> dict[str, Any]:
    """Seconds of one selection at the third interval, and the memory it took beside its input."""
    scores = np.random.default_rng(0).gamma(2.0, size=size)
    num = size // 4
    if name in PLAIN:
        seconds, peak_mb, _ = _measured(lambda: PLAIN[name](scores, num))
        return {"seconds": seconds, "peak_mb": peak_mb}
    known = _evidence(scores, num, with_texts=name in _READ_TEXTS)
    settings = {**SETTINGS.get(name, {}), "type": name}
    strategy = build_strategy(TypeAdapter(CurriculumSection).validate_python(settings))
    generator, _ = derive_generator(0, known.interval, "selection")
    reading: dict[str, float] = {}
    if name in _READ_TEXTS:
        seconds, peak_mb, _ = _measured(lambda: getattr(known.samples, _READ_TEXTS[name]))
        reading = {"reading_seconds": seconds, "reading_peak_mb": peak_mb}
    seconds, peak_mb, selection = _measured(lambda: strategy.select(known, num, generator))
    chances = selection.probabilities
    return {
        "seconds": seconds,
        "peak_mb": peak_mb,
        "is_weighted": chances is not None and bool(np.ptp(chances) > 0),
        **reading,
    }


def _evidence(scores: Floats, num: int, *, with_texts: bool) -> KnownEvidence:
    size, rng = len(scores), np.random.default_rng(1)
    table = pa.table(
        {
            "prompt_chars": rng.integers(10, 2000, size),
            "completion_chars": rng.integers(10, 2000, size),
            "category": pa.array([f"c{i}" for i in range(_NUM_CATEGORIES)]).take(
                pa.array(rng.integers(0, _NUM_CATEGORIES, size))
            ),
        }
    )
    if with_texts:
        for name, texts in _texts(size, rng).items():
            table = table.append_column(name, texts)
    samples = Samples(lambda names: table.select(list(names)))
    earlier = [rng.permutation(size)[:num] for _ in range(2)]
    known = KnownEvidence(
        scores,
        interval=2,
        samples=samples,
        earlier_scores=[scores * rng.uniform(0.9, 1.2, size) for _ in earlier],
        earlier_selections=earlier,
        earlier_rollouts=[_answered(each[:_NUM_PROMPTS], rng) for each in earlier],
    )
    # What a run has read before: of these only the strategies' own work is measured.
    _ = samples.categories, samples.prompt_chars, samples.completion_chars
    return known


def _texts(size: int, rng: np.random.Generator) -> dict[str, pa.ChunkedArray]:
    """Prompts and completions of lines drawn with replacement."""
    rows = LOGHUB_ALL.rows("train")
    drawn = [
        rng.integers(0, len(rows), min(_ROWS_AT_ONCE, size - start))
        for start in range(0, size, _ROWS_AT_ONCE)
    ]
    texts = {name: pa.array([row[name] for row in rows]) for name in ("prompt", "completion")}
    return {
        name: pa.chunked_array([column.take(pa.array(each)) for each in drawn])
        for name, column in texts.items()
    }


def _answered(ordinals: Ints, rng: np.random.Generator) -> RolloutGroups:
    num = len(ordinals)
    n_correct = rng.integers(0, 9, num)
    rates, zeros = n_correct / 8, np.zeros(num)
    return RolloutGroups(
        steps=np.arange(num) // 8 + 1, ordinals=ordinals, slots=np.arange(num) % 8,
        n=np.full(num, 8), n_correct=n_correct, reward_mean=rates,
        reward_std=np.sqrt(rates * (1 - rates)), advantage_abs_mean=rates * (1 - rates),
        n_tokens_mean=zeros, truncated_share=zeros,
    )  # fmt: skip


def _measured(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, peak memory in MB beyond what was in use before, and what came of it."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak begins anew
    before, start = _memory_mb("VmRSS"), time.perf_counter()
    made = work()
    return time.perf_counter() - start, _memory_mb("VmHWM") - before, made


def _memory_mb(what: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(status.partition(f"{what}:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(select(sys.argv[1], int(sys.argv[2]))))
