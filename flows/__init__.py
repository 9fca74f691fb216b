"""Order, retries and the command line: the only place that knows both models and the ledger."""

from __future__ import annotations

import atexit
import logging
import os
import warnings

INSTALL = "pip install -e . -c constraints.txt"
"""What to type where a package is missing."""

QUIET_LIBRARIES = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",  # the bars are ours
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment of every process that loads models; the user's own values stay."""


def quiet_libraries() -> None:
    """For the start of a process: libraries say only what users can do something about."""
    atexit.register(say_nothing_more)  # first registered, so the last to be called
    # TRL, PEFT and transformers warn about each other's renamed settings; users can do nothing.
    warnings.simplefilter("ignore", FutureWarning)
    for key, value in QUIET_LIBRARIES.items():
        os.environ.setdefault(key, value)
    # PEFT imports it wherever it is installed, and it complains of what only it would use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def say_nothing_more() -> None:
    """For the end of a process: DuckDB takes what torch keeps alive for leaks, and says so while
    Python is taken down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
