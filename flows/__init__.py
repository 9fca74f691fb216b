"""Order, retries and the command line: the only place that knows both models and the ledger."""

from __future__ import annotations

import os

QUIET_LIBRARIES = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",  # the bars are ours
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment of every process that loads models; the user's own values stay."""


def say_nothing_more() -> None:
    """For the end of a process: DuckDB takes what torch keeps alive for leaks, and says so while
    Python is taken down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
