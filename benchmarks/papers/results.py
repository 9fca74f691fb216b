"""Where analyses keep what came out: numbers as JSON, and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.measuring import machine
from flows.charts import png
from flows.prepare import package_versions

FOLDER = Path(__file__).with_name("results")


def keep(
    name: str, facts: dict[str, Any], pictures: Mapping[str, Callable[[], Figure]], *, quick: bool
) -> None:
    """Write ``results/NAME.json``, and a ``.png`` for each picture, by its name.

    Those of a quick pass are thrown away.
    """
    told = {
        "analysis": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": package_versions(),
        **facts,
    }
    written = json.dumps(told, indent=1)
    drawn = {each: png(draw) for each, draw in pictures.items()}
    if quick:
        return
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(written + "\n", encoding="utf-8")
    for each, image in drawn.items():
        (FOLDER / f"{each}.png").write_bytes(image)
    print(f"wrote {', '.join([f'{name}.json', *(f'{each}.png' for each in drawn)])} in {FOLDER}")
