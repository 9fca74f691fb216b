"""A checkpoint made a model of its own is the model that was trained, whoever makes it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from edco_core import merging
from edco_core.checkpoints import mark_complete
from edco_core.config import ModelSection
from edco_core.errors import ModelError
from edco_core.merging import merge, read_made_from
from edco_core.records import Checkpoint
from flows.lineage import Parent

IDS = torch.arange(5, 25)[None]


def adapter_on(module: str, tiny_model: Path, folder: Path) -> tuple[Checkpoint, torch.Tensor]:
    """A checkpoint whose adapter changes much, and the logits of its model."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=[module]))
    torch.manual_seed(0)
    for name, weights in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weights)
    adapted.save_pretrained(str(folder))
    facts = mark_complete(folder, run_id="r", step=1, num_tokens=0)
    with torch.no_grad():
        logits = adapted.eval()(IDS).logits
    return Checkpoint(1, 1, str(folder), facts.weights_sha256), logits


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:.*save_embedding_layers")
@pytest.mark.parametrize("module", ["q_proj", "embed_tokens"])
def test_the_merged_model_is_the_model_with_its_adapter(
    tiny_model: Path, tmp_path: Path, module: str
) -> None:
    """Also where input and output embeddings are one tensor, as they are here."""
    checkpoint, logits = adapter_on(module, tiny_model, tmp_path / "checkpoint")
    merge(checkpoint, ModelSection(name_or_path=str(tiny_model)), tmp_path / "merged", {"a": 1})
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()(IDS).logits
    torch.testing.assert_close(merged, logits, rtol=1e-4, atol=1e-4)
    assert read_made_from(tmp_path / "merged") == {"a": 1}


def test_two_that_want_the_same_model_at_once_make_it_once(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, _ = adapter_on("q_proj", tiny_model, tmp_path / "checkpoint")
    together, made = threading.Barrier(2), []
    original = merging._make

    def make(*arguments: Any) -> None:
        made.append(arguments)
        original(*arguments)

    def want() -> None:
        together.wait()
        merge(checkpoint, ModelSection(name_or_path=str(tiny_model)), tmp_path / "merged", {})

    monkeypatch.setattr(merging, "_make", make)
    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    AutoModelForCausalLM.from_pretrained(tmp_path / "merged")


def test_an_adapter_goes_onto_no_other_base_model(tiny_model: Path, tmp_path: Path) -> None:
    checkpoint, _ = adapter_on("q_proj", tiny_model, tmp_path / "checkpoint")
    base = ModelSection(name_or_path=str(tiny_model))
    parent = Parent("first", checkpoint, base, "what it was", tmp_path / "merged")
    with pytest.raises(ModelError, match="of run first is not what that run began with"):
        parent.make()
    assert not (tmp_path / "merged").exists()
