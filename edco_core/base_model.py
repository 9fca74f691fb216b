"""The base model's files: where they are, which ones they are, and what is wrong with them.

Loads without torch.
"""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from edco_core.errors import ModelError

if TYPE_CHECKING:
    from edco_core.config import ModelSection

_MIB = 2**20


def base_folder(settings: ModelSection) -> Path:
    """The folder of the base model's files: the given one, or the hub's copy on this machine."""
    if Path(settings.name_or_path).is_dir():
        return Path(settings.name_or_path)
    return _from_hub(settings, ["*.json", "*.safetensors", "*.bin", "*.txt", "*.model", "*.jinja"])


def _from_hub(settings: ModelSection, patterns: list[str]) -> Path:
    """The folder with these files of a hub id; raises ModelError."""
    from huggingface_hub import snapshot_download

    name = settings.name_or_path
    refuse_missing_folder(name)
    try:
        return Path(snapshot_download(name, revision=settings.revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise ModelError(explain_loading(name, "model", error)) from error


def refuse_missing_folder(name: str) -> None:
    """Raise ModelError for what can be no hub id, before anybody looks for it on the network."""
    if Path(name).is_dir() or not (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        return
    folder = Path(name).parent
    there = [each.name for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
    close = difflib.get_close_matches(Path(name).name, there, n=1)
    hint = f" Did you mean '{folder / close[0]}'?" if close else ""
    raise ModelError(f"model.name_or_path: there is no folder '{name}'.{hint}")


def pinned(settings: ModelSection) -> ModelSection:
    """The same model; of the hub, at the commit it is at now, so that a resume finds that one."""
    if Path(settings.name_or_path).is_dir():
        return settings
    return settings.model_copy(update={"revision": _from_hub(settings, ["config.json"]).name})


def base_fingerprint(settings: ModelSection) -> str:
    """A hash that tells one base model and tokenizer from another, without reading all of it.

    Over the text files, and of each file of weights its name, size, first and last mebibyte.
    """
    digest = hashlib.sha256()
    for file in sorted(base_folder(settings).iterdir()):
        if file.suffix not in (".json", ".jinja", ".txt", ".model", ".safetensors", ".bin"):
            continue
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_MIB))
            if size > _MIB:
                stream.seek(max(_MIB, size - _MIB))
                digest.update(stream.read())
    return digest.hexdigest()[:16]


def explain_loading(name: str, what: str, reason: object) -> str:
    first_line = str(reason).strip().splitlines()[0] if str(reason).strip() else repr(reason)
    if Path(name).is_dir():
        files = ", ".join(sorted(p.name for p in Path(name).iterdir())[:12]) or "nothing"
        needed = {
            "tokenizer": "tokenizer.json and tokenizer_config.json",
            "model": "config.json and model.safetensors",
        }[what]
        return (
            f"model.name_or_path: no {what} could be loaded from the folder '{name}' "
            f"({first_line}). It holds {files}; it needs {needed}. Save one there with "
            f"{what}.save_pretrained('{name}')."
        )
    return (
        f"model.name_or_path: no {what} could be loaded from '{name}', which is no folder here, so "
        f"it was taken for a hub id ({first_line}). Give a folder that exists, or a hub id this "
        "machine can reach."
    )
