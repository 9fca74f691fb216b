"""Texts of samples that are not in the ledger: read from the data file, and kept out of records."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edco_core.errors import (
    EdcoError,
    LeaseLostError,
    LedgerError,
    ModelError,
    StopRequested,
    TrainingError,
    WithheldError,
)
from flows.display import say
from storage import Ledger

_TEXTS = ("prompt", "completion", "answer")
_QUOTE_NO_SAMPLE = (
    LeaseLostError, LedgerError, ModelError, OSError, StopRequested, TrainingError, WithheldError,
)  # fmt: skip


@contextmanager
def withholding_texts(*, keep_texts: bool) -> Iterator[None]:
    """Print errors whose words may quote samples, where no text is to be kept.

    The ledger and Prefect's server keep the words of errors: a WithheldError takes their place.
    """
    try:
        yield
    except _QUOTE_NO_SAMPLE:
        raise
    except Exception as error:
        if keep_texts:
            raise
        if isinstance(error, EdcoError):
            say(str(error), log=False)
        else:
            traceback.print_exception(error)
        raise WithheldError(error) from None


def with_texts(ledger: Ledger, run_id: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows about samples of a run, by ``sample_id``, with the texts the ledger does not keep.

    Where ``prompt`` or ``completion`` is None, that and ``answer`` are read from the data file in
    the run's configuration, if it is at hand and the hash of the sample's content is still the one
    in the ledger; else they stay None.  Of a file of JSON lines only the sample's own line is
    taken apart.  A snapshot of the ledger ends before the file is read.
    """
    missing = [
        row["sample_id"]
        for row in rows
        if any(name in row and row[name] is None for name in ("prompt", "completion"))
    ]
    if not missing:
        return list(rows)
    # Only for a ledger without texts; the reading commands start quickly without these.
    from edco_core.config import DataSection
    from edco_core.data import find_samples
    from edco_core.errors import DataError

    run = ledger.run_state(run_id)
    places = ledger.sample_places(run.dataset_id, missing)
    data = DataSection.model_validate(run.config["data"])
    ledger.end_snapshot()  # the file may be long, and a run want to write meanwhile
    try:
        found = find_samples(data.train, data, dict(places.values()), split="train")
    except DataError:  # not at hand
        return list(rows)
    samples = {
        sample_id: found[content_hash]
        for sample_id, (content_hash, _) in places.items()
        if content_hash in found
    }
    return [
        row | {name: getattr(samples[row["sample_id"]], name) for name in _TEXTS if name in row}
        if row["sample_id"] in samples
        else row
        for row in rows
    ]
