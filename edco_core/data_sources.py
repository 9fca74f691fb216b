"""Finds a data set (file, folder, glob, saved folder, hub id) and gives all its rows in order.

The datasets library is imported where it is used: it takes seconds, and files do not need it.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import pyarrow as pa

from edco_core.config import DataSection, nearest
from edco_core.data_files import BATCH_ROWS, READERS, Lines, RawRow, arrow_rows, format_of
from edco_core.errors import DataError

Split = Literal["train", "eval"]

_DEFAULT_SPLIT: dict[Split, str] = {"train": "train", "eval": "test"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def read_rows(
    source: str,
    data: DataSection,
    split: Split,
    wanted: Mapping[str, Lines] | None = None,
) -> Iterator[tuple[str, int, Any]]:
    """All rows of a source in order, as ``(name, line, row)``; names are short, for people.

    Given ``wanted``, lines by name, only rows that stand there, and nothing behind the last is
    read.

    Raises DataError: nothing there, a format not known, a file that cannot be read, or a setting
    for hub data that would be ignored.
    """
    try:
        parts = _parts(source, data, split)
    except OSError as error:
        raise DataError(f"data.{split}: {source}: cannot be read: {error}") from error
    for name, read in parts:
        lines = None if wanted is None else wanted.get(name, ())
        last = max(lines, default=0) if lines is not None else None
        if last == 0:
            continue
        try:
            for line, row in read(lines):
                if lines is None or line in lines:
                    yield name, line, row
                if line == last:
                    break
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            raise DataError(f"data.{split}: {source}: {name} cannot be read: {error}") from error


_UNREAD = frozenset({".7z", ".bz2", ".lz4", ".xz", ".zip", ".zst"})
"""Compressions that no reader takes."""


def _parts(
    source: str, data: DataSection, split: Split
) -> list[tuple[str, Callable[[Lines], Iterator[RawRow]]]]:
    """What a source consists of: the name of each part for people, and what reads its rows."""
    if data.eval_split is not None and data.eval is None:
        raise DataError("data.eval_split: would be ignored, data.eval is not set. Set it too.")
    if is_hub_id(source):
        return [(_split_of(data, split), partial(_read_hub, source, data, split))]
    path = Path(os.path.expanduser(source))
    if not os.path.exists(path) and not glob.has_magic(source):
        _raise_not_found(source, path, f"data.{split}")
    _refuse_ignored_settings(path, data, split)
    if _is_saved_folder(path):
        return [(_split_of(data, split), partial(_read_saved_folder, path, data, split))]
    files = _find_files(source, path, f"data.{split}")
    return [(name, partial(READERS[format_of(file)], file)) for name, file in files]


def is_hub_id(source: str) -> bool:
    """Whether ``org/name`` is meant as a hub id: no path, no glob, no folder ``org`` here."""
    path = Path(os.path.expanduser(source))
    return (
        _HUB_ID.fullmatch(source) is not None
        and not os.path.exists(path)
        and not os.path.isdir(path.parent)
        and format_of(path) not in READERS
    )


def _split_of(data: DataSection, split: Split) -> str:
    chosen = data.train_split if split == "train" else data.eval_split
    return chosen or _DEFAULT_SPLIT[split]


def _refuse_ignored_settings(path: Path, data: DataSection, split: Split) -> None:
    """DataError for a setting of hub data that local data would leave without effect."""
    ignored = []
    split_key = f"{split}_split"
    if getattr(data, split_key) is not None and not (path / "dataset_dict.json").is_file():
        ignored.append(split_key)
    # One hub_config serves both sources: it has an effect if either of them is on the hub.
    if data.hub_config is not None and not any(
        is_hub_id(each) for each in (data.train, data.eval) if each is not None
    ):
        ignored.append("hub_config")
    if ignored:
        raise DataError(
            f"data.{', data.'.join(ignored)}: would be ignored for local data: {path}. Remove it. "
            "(Hub data has splits and configurations, a saved DatasetDict folder has splits.)"
        )


def _find_files(source: str, path: Path, key: str) -> list[tuple[str, Path]]:
    """The files of a local source, sorted, each with its name for people."""
    allowed = f"Allowed: {', '.join(sorted(READERS))}; all but .parquet also with .gz."
    if path.is_file():
        if format_of(path) not in READERS:
            raise DataError(f"{key}: {path}: '{path.suffix}' is no known format. {allowed}")
        return [(_text_name(path.name), path)]
    if path.is_dir():
        root, matches = path, [path / name for name in os.listdir(path)]
        _refuse_subfolders(source, path, key)
    else:
        fixed = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
        root = Path(*path.parts[:fixed])
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    files = sorted(
        match
        for match in matches
        if match.is_file() and not match.name.startswith(".") and format_of(match) in READERS
    )
    left_out = [
        match.name
        for match in matches
        if match.is_file() and not match.name.startswith(".") and _is_unread(match)
    ]
    if left_out:
        raise DataError(
            f"{key}: {source}: {', '.join(sorted(left_out)[:5])} would be left out, as that format "
            f"is not read. {allowed} Convert or move what is no data of yours, or give a glob."
        )
    if not files:
        there = sorted(m.name for m in matches if not m.name.startswith("."))[:10]
        raise DataError(
            f"{key}: {source}: no data files. {allowed} "
            f"Found: {', '.join(there) or 'nothing'}. For files in subfolders give a glob such as "
            f"{key}={root / '**' / '*.jsonl'}"
        )
    return [(_text_name(str(file.relative_to(root))), file) for file in files]


def _is_unread(file: Path) -> bool:
    """Whether it is data that no reader takes."""
    is_packed = file.suffix in _UNREAD and format_of(file.with_suffix("")) in READERS
    return is_packed or file.suffix == ".tsv"


def _refuse_subfolders(source: str, folder: Path, key: str) -> None:
    """DataError for data files in subfolders beside those that a folder stands for."""
    inside = sorted(
        file
        for file in folder.rglob("*")
        if file.parent != folder
        and format_of(file) in READERS
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )
    at_top = any(file.is_file() and format_of(file) in READERS for file in folder.iterdir())
    if inside and at_top:
        raise DataError(
            f"{key}: {source}: a folder stands for the files in it, and would leave out those in "
            f"its subfolders, such as {inside[0].relative_to(folder)}. For all of them give a glob "
            f"such as {key}={folder / '**' / '*.jsonl'}, for the others "
            f"{key}={folder / '*.jsonl'}"
        )


def _text_name(name: str) -> str:
    """A file name as text that every database takes, whatever bytes the file system holds."""
    return name.encode("utf-8", "replace").decode()


def _raise_not_found(source: str, path: Path, key: str) -> NoReturn:
    folder = path.parent
    if not folder.is_dir():
        missing = next(p for p in [folder, *folder.parents] if p.parent.is_dir())
        raise DataError(
            f"{key}: {source}: not found; there is no folder '{missing}'. "
            "Give a file, a folder, a glob, or a hub id (org/name)."
        )
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    close = difflib.get_close_matches(path.name, there, n=2, cutoff=0.7)
    candidates = close or [name for name in there if format_of(Path(name)) in READERS][:5]
    hint = f"Did you mean {' or '.join(str(folder / name) for name in close)}?" if close else ""
    if not close and candidates:
        hint = f"Data files in '{folder}': {', '.join(candidates)}."
    if _HUB_ID.fullmatch(source):
        hint += f" (Taken as a path, not as a hub id, since there is a folder '{folder}' here.)"
    raise DataError(
        f"{key}: {source}: not found. "
        f"{hint or 'Give a file, a folder, a glob, or a hub id (org/name).'}"
    )


def _is_saved_folder(path: Path) -> bool:
    """Whether ``save_to_disk`` of the datasets library made this folder."""
    is_one = (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    return is_one or (path / "dataset_dict.json").is_file()


def _read_saved_folder(
    path: Path, data: DataSection, split: Split, lines: Lines
) -> Iterator[RawRow]:
    import datasets

    key = f"data.{split}"
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # whatever the library meets in a broken folder
        raise DataError(f"{key}: {path}: not a readable folder of save_to_disk: {error}") from error
    if isinstance(saved, datasets.DatasetDict):
        name = _split_of(data, split)
        if name not in saved:
            raise DataError(
                f"{key}_split: no split '{name}' in {path}. "
                f"Allowed: {', '.join(sorted(saved))}.{nearest(name, saved)}"
            )
        saved = saved[name]
    yield from _dataset_rows(saved, lines)


def _read_hub(source: str, data: DataSection, split: Split, lines: Lines) -> Iterator[RawRow]:
    import datasets

    name = _split_of(data, split)
    try:
        found = datasets.load_dataset(source, data.hub_config, split=name)
    except Exception as error:  # not found, offline, gated, no such split: the library has a dozen
        raise DataError(
            f"data.{split}: '{source}' is no path here, and as a hub data set it could not be "
            f"loaded (split '{name}', configuration {data.hub_config or 'none'}): "
            f"{type(error).__name__}: {error}\n"
            f"A file or folder: give its path, such as ./{source}. Hub data: check the id, "
            f"data.{split}_split and data.hub_config; type 'hf auth login' where access is "
            f"restricted; without a network, load it once with one ('hf download --repo-type "
            f"dataset {source}') or give a local copy."
        ) from error
    yield from _dataset_rows(found, lines)


def _dataset_rows(dataset: Any, lines: Lines) -> Iterator[RawRow]:
    # Arrow batches: follows a shuffled or filtered data set, and decodes no images or audio.
    yield from arrow_rows(dataset.with_format("arrow").iter(batch_size=BATCH_ROWS), lines)
