"""Checkpoints on disk: what makes one complete, its content hash, and the finished adapter.

A checkpoint is a folder as transformers' Trainer and PEFT write it, plus ``edco.json``.  That file
is written last, so a folder without it is the remains of a killed save and counts as nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from edco_core.errors import TrainingError
from edco_core.records import Checkpoint, Evaluation

MARKER = "edco.json"
ROLLOUTS = "rollouts.parquet"
"""What reinforcement learning sampled in the interval so far, kept with each of its saves."""
_WEIGHTS = ("adapter_model.safetensors", "model*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """The content of ``edco.json``."""

    run_id: str
    step: int
    """Optimizer steps behind the weights, over the whole run."""
    num_tokens: int
    """Tokens trained on so far, over the whole run."""
    weights_sha256: str


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights in a folder: of the one file, or over the list of all files' hashes.

    For an adapter it is what ``sha256sum adapter_model.safetensors`` prints.
    """
    for pattern in _WEIGHTS:
        files = sorted(folder.glob(pattern))
        if len(files) == 1:
            return _file_sha256(files[0])
        if files:
            listing = "".join(f"{_file_sha256(file)}  {file.name}\n" for file in files)
            return hashlib.sha256(listing.encode()).hexdigest()
    raise TrainingError(
        f"{folder}: no weights found; expected one of {', '.join(_WEIGHTS)}. "
        "If the checkpoint was removed, the run cannot go on from here."
    )


def mark_complete(folder: Path, *, run_id: str, step: int, num_tokens: int) -> CheckpointFacts:
    """Hash the weights and write the marker, last of all.

    By then everything else is on the disk, so that whatever a power loss takes, it takes the
    marker as well: trainers write optimizer and random states without waiting for the disk.
    """
    (folder / "README.md").unlink(missing_ok=True)  # a template; our card is with the final model
    facts = CheckpointFacts(run_id, step, num_tokens, weights_sha256(folder))
    below = sorted(folder.rglob("*"), reverse=True)  # files before the folder they are in
    for path in [*below, folder, folder.parent]:
        _wait_for_disk(path)
    write_atomically(folder / MARKER, json.dumps(asdict(facts), indent=1))
    _wait_for_disk(folder)
    return facts


def read_facts(folder: Path) -> CheckpointFacts | None:
    """The facts of a complete checkpoint; None for a folder that is missing or incomplete."""
    try:
        return CheckpointFacts(**json.loads((folder / MARKER).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):  # cut short, after a power loss
        return None


def latest_complete(folder: Path) -> tuple[Path, CheckpointFacts] | None:
    """The complete checkpoint with the most steps among the subfolders of ``folder``."""
    found = [
        (sub, facts)
        for sub in (folder.iterdir() if folder.is_dir() else ())
        if (facts := read_facts(sub)) is not None
    ]
    return max(found, key=lambda item: item[1].step, default=None)


def verify(checkpoint: Checkpoint) -> None:
    """Raise TrainingError unless the weights on disk are the ones the ledger knows."""
    found = weights_sha256(Path(checkpoint.path))
    if found != checkpoint.weights_sha256:
        raise TrainingError(
            f"{checkpoint.path}: the weights changed since they were saved: the ledger has "
            f"{checkpoint.weights_sha256[:16]}, the file {found[:16]}. Restore the file; a run "
            "cannot go on from other weights."
        )


_STATE = ("optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth", ROLLOUTS)


def drop_optimizer_state(folder: Path, run_id: str) -> None:
    """Remove what only resuming right behind a checkpoint needs; its model stays.

    What an interval sampled goes, too: it is in the ledger by then.

    Nothing is done to a folder that is no checkpoint of this run, such as a base model's or that of
    another run, from which this one started.
    """
    facts = read_facts(folder)
    if facts is not None and facts.run_id == run_id:
        for name in _STATE:
            (folder / name).unlink(missing_ok=True)


def remove_others(folder: Path, keep: Path) -> None:
    """Leave only ``keep`` in ``folder``: no saves from an interval's middle, no empty cards."""
    for other in folder.iterdir():
        if other.is_dir() and other != keep:
            shutil.rmtree(other)
        elif other.is_file():
            other.unlink()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else a power loss may leave an empty file of that name
    temporary.replace(path)


def write_final_model(
    checkpoint: Checkpoint,
    destination: Path,
    *,
    run_id: str,
    name: str,
    base_model: str,
    strategy: str,
    trainer: str,
    evaluations: Iterable[Evaluation],
) -> None:
    """Copy a checkpoint's model (no optimizer) to ``destination`` with a model card."""
    temporary = destination.with_name(f".{destination.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(
        checkpoint.path,
        temporary,
        ignore=shutil.ignore_patterns(
            MARKER,
            ROLLOUTS,
            "optimizer.*",
            "scheduler.pt",
            "scaler.pt",
            "rng_state*",
            "trainer_state.json",
            "training_args.bin",
        ),
    )
    adapter = (temporary / "adapter_config.json").exists()
    card = _model_card(
        checkpoint, run_id, name, base_model, strategy, trainer, list(evaluations), adapter
    )
    (temporary / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(destination, ignore_errors=True)
    temporary.replace(destination)


def _model_card(
    checkpoint: Checkpoint,
    run_id: str,
    name: str,
    base_model: str,
    strategy: str,
    trainer: str,
    evaluations: list[Evaluation],
    adapter: bool,
) -> str:
    front = ["---", f"base_model: {json.dumps(base_model)}"]
    front += ["library_name: peft"] if adapter else ["library_name: transformers"]
    tags = f"tags: [edco, curriculum-learning, {trainer}, trl]"
    front += ["pipeline_tag: text-generation", tags, "---"]
    loader = "AutoPeftModelForCausalLM" if adapter else "AutoModelForCausalLM"
    lines = [
        *front,
        "",
        f"# {name}",
        "",
        f"`{base_model}` fine-tuned under a dynamic curriculum (strategy `{strategy}`) with EDCO.",
        "",
        "| | |",
        "|---|---|",
        f"| run | `{run_id}` |",
        f"| intervals trained | {checkpoint.interval} |",
        f"| optimizer steps | {checkpoint.step} |",
        f"| weights (SHA-256) | `{checkpoint.weights_sha256}` |",
    ]
    if evaluations:
        lines += ["", f"| after interval | {evaluations[0].metric} | n |", "|---|---|---|"]
        lines += [
            f"| {'before training' if e.interval < 0 else e.interval} | {e.value:.4f} | {e.n} |"
            for e in sorted(evaluations, key=lambda e: e.interval)
        ]
    module = "peft" if adapter else "transformers"
    lines += [
        "",
        "```python",
        f"from {module} import {loader}",
        f'model = {loader}.from_pretrained("path/to/this/folder")',
        "```",
        "",
        f"How it was made, sample by sample: `edco show {run_id}`.",
        "",
    ]
    return "\n".join(lines)


def _wait_for_disk(path: Path) -> None:
    """Until a file's content, or a folder's list of names, is on the disk."""
    if path.is_symlink():  # its target is not ours
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
