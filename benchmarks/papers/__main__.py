"""``python -m benchmarks.papers NAME…``: one analysis each; JSON and a picture are kept.

These take from minutes to hours, so ``make bench`` leaves them out.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

from benchmarks.measuring import NoDataError
from benchmarks.papers import comparisons, gradients

NAMES = {
    name: (module, about)
    for module in (gradients, comparisons)
    for name, (about, _) in module.ANALYSES.items()
}


def main(
    names: Annotated[list[str], typer.Argument(help=f"Some of: {', '.join(NAMES)}.")],
    quick: Annotated[
        bool, typer.Option(help="A tiny model and pool: whether it runs, not what comes out.")
    ] = False,
) -> None:
    """Make an analysis of a paper again, on pools and models of a size for this machine."""
    for name in names:
        if name not in NAMES:
            known = "; ".join(f"{each}: {what}" for each, (_, what) in NAMES.items())
            print(f"no analysis '{name}'. There are: {known}", file=sys.stderr)
            raise typer.Exit(2)
    warnings.simplefilter("ignore", FutureWarning)
    for name in names:
        try:
            module, _ = NAMES[name]
            module.analyse(name, quick=quick)
        except NoDataError as error:
            print(f"{name} cannot be made: {error}", file=sys.stderr)
            raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
