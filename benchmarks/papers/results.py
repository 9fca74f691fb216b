"""Where analyses keep what came out: numbers as JSON, and one picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.measuring import machine
from flows.charts import png
from flows.prepare import package_versions

FOLDER = Path(__file__).with_name("results")


def keep(name: str, facts: dict[str, Any], draw: Callable[[], Figure], *, quick: bool) -> None:
    """Write ``results/NAME.json`` and ``.png``; those of a quick pass are thrown away."""
    told = {
        "analysis": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": package_versions(),
        **facts,
    }
    written, picture = json.dumps(told, indent=1), png(draw)
    if quick:
        return
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(written + "\n", encoding="utf-8")
    (FOLDER / f"{name}.png").write_bytes(picture)
    print(f"wrote {FOLDER / name}.json and .png")
