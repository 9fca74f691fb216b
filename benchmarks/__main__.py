"""``python -m benchmarks [NAME…]``: measure, print tables, write JSON to ``benchmarks/results``."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from typing import Annotated

import typer

from benchmarks.measuring import NoDataError, load, print_report, write_report

NAMES = {
    "start": "start:measure",
    "scoring": "scoring:measure",
    "scoring_cost": "scoring_cost:measure",
    "rescoring": "rescoring:measure",
    "orchestration": "orchestration:measure",
    "prefect": "prefect:measure",
    "ledger_writing": "ledger:measure_writes",
    "ledger_queries": "ledger:measure_questions",
    "ledger_memory": "ledger:measure_memory",
    "grpo": "grpo:measure",
    "selection": "selection:measure",
}
"""Name to module and function; each has its table and its file."""


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Some of: {', '.join(NAMES)}. Default: all.")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="A tiny model and pool: whether it runs, not how fast.")
    ] = False,
) -> None:
    """Speed of EDCO as ratios, each against a reference measured in the same run."""
    for name in names or NAMES:
        if name not in NAMES:
            print(f"no benchmark '{name}'; allowed: {', '.join(sorted(NAMES))}", file=sys.stderr)
            raise typer.Exit(2)
    warnings.simplefilter("ignore", FutureWarning)
    # As the command line sets them: the libraries' own bars and warnings would be in the tables.
    for key in ("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(key, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in names or NAMES:
        load_before = load()
        # Imported here, for the one on start needs none of what the others load.
        module, _, function = NAMES[name].partition(":")
        try:
            report = getattr(importlib.import_module(f"benchmarks.{module}"), function)(quick=quick)
        except NoDataError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        print_report(name, report)
        path = write_report(name, report, quick=quick, load_before=load_before)
        print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
