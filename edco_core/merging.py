"""A checkpoint made a model of its own, so that another run can start from it.

Its adapter is added into the base model's weights.  What a run starts from is then a plain model
folder, whoever made it: its adapter begins at zero, and switching that off gives the start again,
which is the reference of GRPO's KL term.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from edco_core.checkpoints import verify, write_atomically
from edco_core.config import ModelSection
from edco_core.loading import load_model, load_tokenizer
from edco_core.records import Checkpoint

MADE_FROM = "made_from.json"
"""In the folder: the run and the weights it was made from."""


def merge(
    checkpoint: Checkpoint, base: ModelSection, folder: Path, made_from: dict[str, Any]
) -> None:
    """Write the model of a checkpoint with its tokenizer to ``folder``, unless it is there.

    ``base`` is the base model the checkpoint was trained on.  The sum is made and kept in float32,
    so that small updates are not rounded away; ``model.dtype`` decides when it is loaded.  Raises
    TrainingError when the checkpoint's files are not what the ledger knows, and ModelError.
    """
    if folder.is_dir():  # it is renamed last of all
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".making"):
        if not folder.is_dir():  # else another process was first
            _make(checkpoint, base, folder, made_from)


def _make(
    checkpoint: Checkpoint, base: ModelSection, folder: Path, made_from: dict[str, Any]
) -> None:
    verify(checkpoint)
    settings = base.model_copy(update={"dtype": "float32", "load_in_4bit": False})
    if (Path(checkpoint.path) / "adapter_config.json").is_file():
        model = load_model(settings, base.name_or_path, torch.device("cpu"))
        with warnings.catch_warnings():  # of tied embeddings, which are seen to
            warnings.filterwarnings("ignore", message=".*tie_word_embeddings")
            model = _merged(PeftModel.from_pretrained(model, checkpoint.path))
    else:
        model = load_model(settings, checkpoint.path, torch.device("cpu"))
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    model.save_pretrained(str(temporary))
    load_tokenizer(base).save_pretrained(str(temporary))
    write_atomically(temporary / MADE_FROM, json.dumps(made_from, indent=1))
    temporary.replace(folder)


def _merged(model: Any) -> Any:
    """The model with its adapter added in.

    Where input and output embeddings are one tensor and the adapter is on the input alone, they
    become two: PEFT would add it to both.
    """
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(inputs, BaseTunerLayer) and not isinstance(outputs, BaseTunerLayer):
        outputs.weight = torch.nn.Parameter(outputs.weight.detach().clone())
        model.config.get_text_config().tie_word_embeddings = False
        model.config.tie_word_embeddings = False
    return model.merge_and_unload()


def read_made_from(folder: Path) -> dict[str, Any]:
    """What ``merge`` was told that a folder is made from; nothing for any other folder."""
    try:
        found: dict[str, Any] = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))
    except OSError:
        return {}
    return found
