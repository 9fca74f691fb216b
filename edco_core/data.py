"""A data set becomes a :class:`~edco_core.records.Pool`: checked, without duplicates, in one order.

A row is ``prompt`` and ``completion``, both texts or both lists of messages (the completion's are
assistant turns), or ``messages`` alone, whose last turn, the assistant's, is the completion.
``answer``, ``category`` and ``sample_id`` are optional: null, or an empty text, means absent.
Every other field that is not null goes to ``metadata``.

**Sample ids.** A row without ``sample_id`` gets the first 16 hex digits of the SHA-256 of its
content: the UTF-8 JSON list ``[prompt,completion,answer]`` without blanks, keys sorted, non-ASCII
characters as they are, an absent answer as null.  Content that is equal is one sample; of its
rows the first is kept, but the smallest id where they give different ones, so that ids and
fingerprint never depend on the order of rows or files.  The hash itself is the sample's
``content_hash``, whatever its id.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import get_args

import pyarrow as pa
import pyarrow.compute as pc

from edco_core.config import DataSection, Field_
from edco_core.data_files import shown
from edco_core.data_rows import BadRowError, Sample, SampleReader, content_id, to_json
from edco_core.data_sources import Split, is_hub_id, read_rows
from edco_core.errors import DataError
from edco_core.records import Pool, SkippedRow

__all__ = ["COLUMNS", "content_id", "find_samples", "load_pool"]

COLUMNS = (
    "sample_id", "prompt", "completion", "answer", "category", "metadata", "source",
    "content_hash",
)  # fmt: skip

_BATCH_ROWS = 8192
_SHOWN_BAD_ROWS = 5
_MAX_STRING_BYTES = 2**31 - 1
"""What Arrow's string type can hold in one array; large_string beyond."""


def load_pool(
    source: str, data: DataSection, *, split: Split, needs: frozenset[str] = frozenset()
) -> Pool:
    """Read all samples of a file, a folder, a glob, a saved ``datasets`` folder or a hub id.

    ``needs`` names the optional fields that every row must have here, such as ``answer``.

    Raises DataError: the source cannot be read, has no samples, or has bad rows and
    ``data.on_bad_rows`` is ``error``.
    """
    assert needs <= set(get_args(Field_)), needs
    skip = data.on_bad_rows == "skip"
    reader = SampleReader(data.columns, needs)
    builder = _PoolBuilder()
    bad: list[SkippedRow] = []
    num_rows = num_bad = 0
    for name, line, row in read_rows(source, data, split):
        num_rows += 1
        where = f"{name}:{line}"
        try:
            builder.add(reader.read(row), where)
        except BadRowError as problem:
            num_bad += 1
            if skip or num_bad <= _SHOWN_BAD_ROWS:
                # Names of columns may hold what no terminal or database takes.
                text = str(problem).encode("utf-8", "backslashreplace").decode()
                bad.append(SkippedRow(where, text.replace("\0", "\\0")))
    key = f"data.{split}"
    if not num_rows:
        raise DataError(
            f"{key}: {source}: no samples, it is empty. Expected rows with prompt and completion, "
            "or messages."
        )
    reader.refuse_unknown_columns(source)
    if num_bad and (num_bad == num_rows or not skip):
        raise DataError(_explain_bad_rows(f"{key}: {source}", bad, num_bad, num_rows))
    return builder.finish(source, tuple(bad))


def find_samples(
    source: str, data: DataSection, wanted: Mapping[str, str | None], *, split: Split
) -> dict[str, Sample]:
    """Samples by the hash of their content, read again from where they once came.

    ``wanted`` gives for each hash file and line, as in the pool's column ``source``, where it is
    looked for first; what has moved is looked for in all rows.  A hash whose content is nowhere any
    more is left out, so that a row that was changed never passes for what it was.  Data on the hub
    is not asked for.  Raises DataError: the source cannot be read.
    """
    found: dict[str, Sample] = {}
    if is_hub_id(source):
        return found
    places: defaultdict[str, set[int]] = defaultdict(set)
    for place in wanted.values():
        name, _, line = (place or "").rpartition(":")
        if line.isdecimal():
            places[name].add(int(line))
    reader = SampleReader(data.columns, frozenset())
    for rows in (read_rows(source, data, split, places), read_rows(source, data, split)):
        if len(found) == len(wanted):
            break
        for _, _, row in rows:
            try:
                sample = reader.read(row)
            except BadRowError:
                continue
            if sample.content_hash in wanted:
                found.setdefault(sample.content_hash, sample)
                if len(found) == len(wanted):
                    break
    return found


def _explain_bad_rows(source: str, bad: list[SkippedRow], num_bad: int, num_rows: int) -> str:
    rows = [f"  {row.source}: {row.problem}" for row in bad[:_SHOWN_BAD_ROWS]]
    if num_bad > len(rows):
        rows.append(f"  and {num_bad - len(rows)} more")
    if num_bad == num_rows:
        head = "all rows are bad" if num_rows > 1 else "its only row is bad"
        advice = (
            "If its columns only have other names, give them: data.columns: {field: their_name}"
        )
    else:
        head = "1 bad row" if num_bad == 1 else f"{num_bad} bad rows"
        advice = "Correct them, or go on without them: data.on_bad_rows: skip"
    return "\n".join([f"{source}: {head} (of {num_rows}):", *rows, advice])


class _PoolBuilder:
    """Collects samples in Arrow batches, so that no text is kept twice while reading."""

    def __init__(self) -> None:
        self._rows: list[tuple[str | None, ...]] = []
        self._batches: list[pa.RecordBatch] = []
        self._ids: list[str] = []
        self._row_of_content: dict[str, int] = {}
        self._content_of_given_id: dict[str, str] = {}
        self._replaced: set[int] = set()
        self._conversational: bool | None = None
        self._first = ""
        self._num_duplicates = 0

    def add(self, sample: Sample, where: str) -> None:
        if self._conversational is None:
            self._conversational, self._first = sample.conversational, where
        elif self._conversational is not sample.conversational:
            forms = ("plain text", "messages")
            raise BadRowError(
                f"prompt and completion: {forms[sample.conversational]} came. Expected "
                f"{forms[self._conversational]}, as the first sample has ({self._first})."
            )
        content = sample.content_hash
        sample_id = sample.given_id or content
        self._refuse_id_of_other_content(sample_id, content)
        if sample.given_id is not None:
            self._content_of_given_id[sample_id] = content
        known = self._row_of_content.get(content)
        if known is not None:
            self._num_duplicates += 1
            if sample_id >= self._ids[known]:
                return
            self._replaced.add(known)
        self._row_of_content[content] = len(self._ids)
        self._ids.append(sample_id)
        self._rows.append(
            (
                sample_id,
                sample.prompt,
                sample.completion,
                sample.answer,
                sample.category,
                sample.metadata,
                where,
                content,
            )
        )
        if len(self._rows) == _BATCH_ROWS:
            self._flush()

    def _refuse_id_of_other_content(self, sample_id: str, content: str) -> None:
        other = self._content_of_given_id.get(sample_id, content) != content
        if not other and sample_id != content:  # a given id may equal the hash of another sample
            row = self._row_of_content.get(sample_id)
            other = row is not None and self._ids[row] == sample_id
        if other:
            raise BadRowError(
                f"sample_id: {shown(sample_id)} came, which an earlier row with another prompt, "
                "completion or answer has. Expected one id for one content."
            )

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(COLUMNS)
        arrays = [pa.array(column, pa.string()) for column in columns]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, names=list(COLUMNS)))
        self._rows.clear()

    def finish(self, source: str, skipped: tuple[SkippedRow, ...]) -> Pool:
        self._flush()
        unsorted = pa.Table.from_batches(self._batches)
        self._batches.clear()
        order = pc.sort_indices(unsorted["sample_id"])
        if self._replaced:
            order = pa.array([row for row in order.to_pylist() if row not in self._replaced])
        columns = {}
        for name in COLUMNS:  # one at a time: each column's first copy is freed before the next
            column = unsorted[name]
            if column.nbytes > _MAX_STRING_BYTES:
                column = column.cast(pa.large_string())
            columns[name] = column.take(order).combine_chunks()
            unsorted = unsorted.drop_columns([name])
        return Pool(
            fingerprint=self._fingerprint(order.to_pylist()),
            source=source,
            table=pa.table(columns),
            conversational=bool(self._conversational),
            num_duplicates=self._num_duplicates,
            skipped=skipped,
        )

    def _fingerprint(self, order: list[int]) -> str:
        """Over the sorted ids; a given id says nothing of the content, whose hash then follows."""
        contents: list[str] | None = None
        if self._content_of_given_id:
            contents = [""] * len(self._ids)
            for content, row in self._row_of_content.items():
                contents[row] = content
        digest = hashlib.sha256()
        for row in order:
            sample_id = self._ids[row]
            digest.update(f"{to_json(sample_id)}\n".encode())
            if contents is not None and contents[row] != sample_id:
                digest.update(f"{contents[row]}\n".encode())
        return digest.hexdigest()[:16]
