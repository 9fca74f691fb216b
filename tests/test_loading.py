"""Models: loaded once, refused with a reason, and handed over so that others can load them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Edco
from test_training_sft import ARGS, Loop, make_pool

from edco_core.base_model import base_fingerprint, base_folder, pinned
from edco_core.checkpoints import mark_complete, weights_sha256, write_final_model
from edco_core.config import LoraSection, ModelSection, SftSection
from edco_core.errors import ModelError, TrainingError
from edco_core.loading import ModelHost, check_model, load_tokenizer
from edco_core.records import Checkpoint, Evaluation


def new_host(model: Path, *, seed: int = 1, **settings: Any) -> ModelHost:
    return ModelHost(ModelSection(name_or_path=str(model), **settings), seed=seed)


def saved_start(host: ModelHost, folder: Path) -> Checkpoint:
    host.save_start(folder)
    facts = mark_complete(folder, run_id="r", step=0, num_tokens=0)
    return Checkpoint(0, 0, str(folder), facts.weights_sha256)


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    inputs = tokenizer("Log: FAN 3 speed", return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits
    return found


def adapter_of(host: ModelHost) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in host.model.named_parameters() if "lora_" in n}


def test_weights_the_model_holds_already_are_not_read_again(
    tiny_model: Path, tmp_path: Path
) -> None:
    host = new_host(tiny_model)
    start = saved_start(host, tmp_path / "start")
    host.load_weights(start)
    warm = host.model
    shutil.rmtree(tmp_path / "start")
    host.load_weights(start)
    assert host.model is warm


def test_weights_it_was_told_to_hold_are_not_read_at_all(tiny_model: Path) -> None:
    host = new_host(tiny_model)
    host.load_base()
    trained = Checkpoint(1, 5, "/nowhere", "a" * 64)
    host.holds(trained)
    host.load_weights(trained)


def test_weights_are_read_again_once_a_trainer_has_had_the_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    host = new_host(tiny_model)
    start = saved_start(host, tmp_path / "start")
    host.load_weights(start)
    before = adapter_of(host)
    with host.lent_for_training() as model, torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(1.0)
    host.load_weights(start)
    after = adapter_of(host)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_other_files_under_a_checkpoints_name_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    host = new_host(tiny_model)
    start = saved_start(host, tmp_path / "start")
    other = new_host(tiny_model, seed=2)
    other.save_start(tmp_path / "start")
    with pytest.raises(TrainingError, match="the weights changed since they were saved"):
        host.load_weights(start)


def test_the_first_adapter_is_a_function_of_the_seed_alone(tiny_model: Path) -> None:
    hosts = []
    for seed, disturbance in ((1, 0), (1, 99), (2, 0)):
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        hosts.append(new_host(tiny_model, seed=seed))
        hosts[-1].load_base()
        assert torch.equal(torch.get_rng_state(), before)  # nor does it touch the global one
    first, again, other = (adapter_of(host) for host in hosts)
    assert first
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_final_adapter_is_loaded_by_peft_and_is_the_last_checkpoint(
    finished: Edco, tiny_model: Path
) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    final = finished.folder / "runs" / "whole" / "final"
    model = AutoPeftModelForCausalLM.from_pretrained(final)
    tokenizer = AutoTokenizer.from_pretrained(final)
    host = new_host(tiny_model, seed=3, peft=LoraSection(r=4, lora_dropout=0.1))
    folder = max((final.parent / "checkpoints" / "interval-002").iterdir())
    host.load_weights(Checkpoint(3, 15, str(folder), weights_sha256(folder)))
    expected = logits(host.model_for_inference(), host.tokenizer)
    assert torch.equal(logits(model, tokenizer), expected)
    host.model.disable_adapter_layers()
    assert not torch.allclose(logits(host.model, host.tokenizer), expected)
    left = {path.name for path in final.iterdir()}
    assert not left & {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert left >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}


def test_the_model_card_names_run_intervals_and_metrics(finished: Edco, tiny_model: Path) -> None:
    card = (finished.folder / "runs" / "whole" / "final" / "README.md").read_text()
    front = card.split("---")[1]
    assert f'base_model: "{tiny_model}"' in front
    assert "library_name: peft" in front
    assert "| run | `whole` |" in card
    assert "| intervals trained | 3 |" in card
    assert "| optimizer steps | 15 |" in card
    show = finished.json("show", "whole")
    measured = [e for e in show["evaluations"] if e["category"] is None]
    assert [e["interval"] for e in measured] == [-1, 0, 1, 2]
    for each in measured:
        when = "before training" if each["interval"] < 0 else each["interval"]
        assert f"| {when} | {each['value']:.4f} | {each['n']} |" in card
    assert "AutoPeftModelForCausalLM.from_pretrained" in card


def test_a_full_fine_tune_ends_in_a_folder_transformers_loads(
    tiny_model: Path, log_files: tuple[Path, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    loop = Loop(tiny_model, make_pool(log_files[0]), tmp_path, SftSection(args=ARGS), None)
    checkpoint = loop.train(0, loop.start()).checkpoint
    final = tmp_path / "final"
    write_final_model(
        checkpoint,
        final,
        run_id="t",
        name="full",
        base_model=str(tiny_model),
        strategy="edco",
        trainer="sft",
        evaluations=[Evaluation(0, "exact_match", 0.25, 20, {}, 1.0)],
    )
    model = AutoModelForCausalLM.from_pretrained(final)
    tokenizer = loop.host.tokenizer
    assert torch.equal(logits(model, tokenizer), logits(loop.host.model_for_inference(), tokenizer))
    card = (final / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "\nmodel = AutoModelForCausalLM.from_pretrained" in card
    assert "| 0 | 0.2500 | 20 |" in card


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_qlora_without_cuda_is_refused_with_what_to_do(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"QLoRA needs a CUDA device.*load_in_4bit: false"):
        check_model(ModelSection(name_or_path=str(tiny_model), load_in_4bit=True))


@pytest.fixture
def spoilt(tiny_model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny model without some files, or with others in their place."""

    def spoil(without: tuple[str, ...] = (), **instead: bytes) -> Path:
        folder = tmp_path / "spoilt"
        shutil.copytree(tiny_model, folder)
        for name in without:
            (folder / name).unlink()
        for name, content in instead.items():
            (folder / f"{name}.safetensors").write_bytes(content)
        return folder

    return spoil


@pytest.mark.parametrize(
    ("without", "message"),
    [
        (
            ("tokenizer.json", "tokenizer_config.json"),
            "no tokenizer could be loaded.*tokenizer.json",
        ),
        (("tokenizer.json",), "no tokenizer could be loaded.*it needs tokenizer.json"),
        (("model.safetensors",), "the folder holds no weights.*it needs config.json and model.saf"),
        (("config.json",), "no model could be loaded.*it needs config.json and model.safetensors"),
    ],
)
def test_a_model_folder_that_lacks_a_file_is_refused_with_what_it_needs(
    spoilt: Callable[..., Path], without: tuple[str, ...], message: str
) -> None:
    folder = spoilt(without)
    with pytest.raises(ModelError, match=message) as caught:
        check_model(ModelSection(name_or_path=str(folder)))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n"


@pytest.mark.parametrize("content", [POINTER, b"", b"\x08\0\0\0\0\0\0\0{}"])
def test_weights_that_are_cut_short_or_only_a_pointer_are_refused_before_loading(
    spoilt: Callable[..., Path], content: bytes
) -> None:
    folder = spoilt(model=content)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged or only a pointer"):
        check_model(ModelSection(name_or_path=str(folder)))


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_tokenizer_larger_than_the_model_is_refused_with_both_sizes(
    spoilt: Callable[..., Path],
) -> None:
    folder = spoilt()
    num_tokens = len(load_tokenizer(ModelSection(name_or_path=str(folder))))
    change_config(folder, vocab_size=num_tokens - 1)
    with pytest.raises(
        ModelError, match=f"has {num_tokens} tokens, the model only {num_tokens - 1}"
    ):
        check_model(ModelSection(name_or_path=str(folder)))


def test_weights_of_another_shape_are_refused(spoilt: Callable[..., Path]) -> None:
    folder = spoilt()
    change_config(folder, hidden_size=32)
    with pytest.raises(ModelError, match=r"its config\.json does not fit its weights"):
        new_host(folder).load_base()


def test_weights_that_lack_a_layer_are_refused_and_not_made_up(
    spoilt: Callable[..., Path],
) -> None:
    folder = spoilt()
    change_config(folder, num_hidden_layers=3, layer_types=["full_attention"] * 3)
    with pytest.raises(ModelError, match=r"its weights lack \d+ tensors .*model\.layers\.2"):
        new_host(folder).load_base()


def test_a_name_that_is_no_folder_is_said_to_be_taken_for_a_hub_id() -> None:
    with pytest.raises(ModelError, match=r"such/model', which is no folder here"):
        check_model(ModelSection(name_or_path="such/model"))


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        ({"target_modules": ["q_prj"]}, r"model\.peft: Target modules.*q_prj"),
        ({"modules_to_save": ["head"]}, "modules_to_save: the model has no module 'head'"),
    ],
)
def test_an_adapter_for_modules_the_model_lacks_is_refused(
    tiny_model: Path, peft: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        new_host(tiny_model, peft=LoraSection(**peft)).load_base()


def test_a_checkpoint_is_called_complete_only_when_all_of_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoint-1"
    (folder / "inner").mkdir(parents=True)
    files = [folder / name for name in ("model.safetensors", "optimizer.pt", "inner/state.json")]
    for file in files:
        file.write_bytes(b"content")
    synced: list[int] = []
    before: list[set[int]] = []
    replace = Path.replace

    def replacing(path: Path, target: Path) -> Path:
        before.append(set(synced))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", lambda opened: synced.append(os.fstat(opened).st_ino))
    monkeypatch.setattr(Path, "replace", replacing)
    mark_complete(folder, run_id="r", step=1, num_tokens=0)
    wanted = {path.stat().st_ino for path in [*files, folder, folder / "inner", tmp_path]}
    assert wanted <= before[0]
    assert synced[-1] == folder.stat().st_ino  # that has the marker's name by now


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "a/b/c"])
def test_a_path_without_a_folder_is_never_looked_for_on_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked"))
    settings = ModelSection(name_or_path=name)
    for ask in (check_model, base_folder, base_fingerprint, pinned):
        with pytest.raises(ModelError, match=f"there is no folder '{name}'"):
            ask(settings)  # type: ignore[operator]


def test_the_folder_that_was_meant_is_named(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    with pytest.raises(ModelError, match=rf"Did you mean '{tmp_path}/tiny'"):
        check_model(ModelSection(name_or_path=str(tmp_path / "tinny")))


def test_a_hub_that_has_no_such_model_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="taken for a hub id"):
        base_fingerprint(ModelSection(name_or_path="nobody/nothing"))
