"""Figures: what was measured, against which reference, with which aim, on what machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from flows.prepare import package_versions

RESULTS = Path(__file__).with_name("results")


class NoDataError(Exception):
    """Real data that a benchmark needs is not at hand."""


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound for a ratio, inclusive."""

    sign: str
    """``≤`` or ``≥``."""
    bound: float

    def met(self, ratio: float) -> bool:
        return ratio <= self.bound if self.sign == "≤" else ratio >= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.  Repeat i gave ``measured[i]`` and, next to it, ``reference[i]``."""

    name: str
    measured: Sequence[float]
    reference: Sequence[float]
    reference_name: str
    unit: str = "s"
    aim: Aim | None = None
    """None: shown because it explains another figure."""

    @property
    def ratios(self) -> list[float]:
        """Per repeat, so that a slow moment of the machine is in both parts of a ratio."""
        return [m / r for m, r in zip(self.measured, self.reference, strict=True)]

    @property
    def met(self) -> bool | None:
        return None if self.aim is None else self.aim.met(statistics.median(self.ratios))


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found."""

    figures: list[Figure]
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON-able: sizes, settings and raw samples behind the figures."""


def print_report(name: str, report: Report) -> None:
    """The figures as medians with their range, on standard output."""
    table = Table(title=name, title_justify="left", header_style="bold", box=box.SIMPLE)
    table.add_column("name")
    table.add_column("measured", justify="right")
    table.add_column("reference", justify="right")
    table.add_column("against")
    for heading in ("ratio", "aim"):
        table.add_column(heading, justify="right")
    table.add_column("met")
    for figure in report.figures:
        table.add_row(
            figure.name,
            f"{_median_and_range(figure.measured)} {figure.unit}",
            f"{_median_and_range(figure.reference)} {figure.unit}",
            figure.reference_name,
            _median_and_range(figure.ratios),
            str(figure.aim or "–"),
            {True: "yes", False: "NO", None: "–"}[figure.met],
        )
    console = Console()
    # Piped output has no width of its own; a cut table would be worse than a long line.
    (console if console.is_terminal else Console(width=180)).print(table)


def write_report(name: str, report: Report, *, quick: bool, load_before: float) -> Path:
    """Keep a report, with what it depends on; quick ones are no results and stay untracked."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / (f"{name}.quick.local.json" if quick else f"{name}.json")
    figures = [
        asdict(figure)
        | {
            "aim": str(figure.aim) if figure.aim else None,
            "ratio": _summary(figure.ratios),
            "met": figure.met,
        }
        for figure in report.figures
    ]
    content = {
        "benchmark": name,
        "quick": quick,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine() | {"load_before": load_before, "load_after": load()},
        "versions": package_versions(),
        "figures": figures,
        "facts": report.facts,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """What the figures depend on and a name of the machine would not tell."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def load() -> float:
    """Processes that ran or waited to run in the last minute, on average."""
    return round(os.getloadavg()[0], 2)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _summary(samples: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples)}


def _median_and_range(samples: Sequence[float]) -> str:
    digits = 3 if max(samples) < 10 else 1
    numbers = _summary(samples)
    return (
        f"{numbers['median']:.{digits}f} ({numbers['min']:.{digits}f}–{numbers['max']:.{digits}f})"
    )
