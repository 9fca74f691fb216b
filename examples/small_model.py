"""Train a small Qwen3 and its tokenizer from nothing on a data file: EDCO without a download.

    python examples/small_model.py pool.jsonl models/small --category Spark --category BGL

takes the rows of these categories (all rows without --category), so that the pool is partly known
and partly new to the model, as it is to a real base model.  About a minute and a half on two cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edco_core.config import DataSection
from edco_core.data import load_pool
from edco_core.demo_model import build_base_model
from flows.display import progress


def main(
    data: Annotated[str, typer.Argument(help="File, folder or glob with prompt and completion.")],
    folder: Annotated[Path, typer.Argument(help="Where the model goes.")],
    category: Annotated[list[str] | None, typer.Option(help="Only rows of this category.")] = None,
) -> None:
    pool = load_pool(data, DataSection(train=data), split="train")
    rows = pool.table.select(["prompt", "completion", "category"]).to_pylist()
    corpus = [row for row in rows if not category or row["category"] in category]
    with progress("small model") as on_progress:
        build_base_model(folder, corpus=corpus, on_progress=on_progress)
    print(folder)


if __name__ == "__main__":
    typer.run(main)
