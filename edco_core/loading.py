"""Models and tokenizers: loaded once, kept warm, set to the weights of any checkpoint.

This module and those that import it are the only ones that load torch; ``edco --help`` and the
reading commands never come here.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from edco_core.base_model import base_folder, explain_loading, refuse_missing_folder
from edco_core.checkpoints import verify, weights_sha256
from edco_core.config import LoraSection, ModelSection
from edco_core.errors import ModelError
from edco_core.records import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Bars are ours, on terminals only; loading a large model is the one thing transformers shows.
transformers_logging.disable_progress_bar()

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ModelHost:
    """The one model of a process.

    The base model is loaded once; ``load_weights`` puts a checkpoint's adapter on it, or does
    nothing when those weights are in place already.  Full fine-tuning loads the whole folder.
    """

    def __init__(self, settings: ModelSection, *, seed: int) -> None:
        self.settings = settings
        self.device = pick_device()
        self.tokenizer = load_tokenizer(settings)
        self.model: Any = None
        self._seed = seed
        self._weights: str | None = None  # hash of what the model holds; None: unknown
        self.weights_version = 0
        """Grows whenever the model's weights may have changed."""

    @property
    def pad_token_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @property
    def eos_token_ids(self) -> set[int]:
        """All tokens that end an answer: the tokenizer's and the generation config's."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        return {int(i) for i in [self.tokenizer.eos_token_id, *ids] if i is not None}

    def load_base(self) -> None:
        """Load the base model, with a fresh adapter derived from the seed where one is used."""
        if self.model is not None:
            return
        model = load_model(self.settings, self.settings.name_or_path, self.device)
        if self.settings.peft is not None:
            model = _add_adapter(model, self.settings.peft, self._seed)
        self.model = model
        self._weights = None
        self.weights_version += 1

    def save_start(self, folder: Path) -> Path:
        """Where the run starts: the fresh adapter, saved to ``folder``, or the base model."""
        self.load_base()
        if self.settings.peft is None:
            return base_folder(self.settings)
        self.model.save_pretrained(str(folder))
        return folder

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """Make the model that checkpoint; raises TrainingError when the files are not it."""
        if self._weights == checkpoint.weights_sha256 and self.model is not None:
            return
        verify(checkpoint)
        self.weights_version += 1
        if self.settings.peft is None:
            self.model = None
            _free_memory()
            self.model = load_model(self.settings, checkpoint.path, self.device)
        else:
            # PEFT costs seconds to import: only where an adapter is really loaded.
            from peft import load_peft_weights, set_peft_model_state_dict

            self.load_base()
            weights = load_peft_weights(checkpoint.path, device=str(self.device))
            set_peft_model_state_dict(self.model, weights)
        self._weights = checkpoint.weights_sha256

    def load_folder(self, folder: Path | None) -> str:
        """Make the model what a folder holds, to score with: an adapter's or a whole model's.

        None is the base model itself.  Returns the hash of the weights; raises ModelError.
        """
        self.weights_version += 1
        base = self.settings.name_or_path
        if folder is None:
            self.model = load_model(self.settings, base, self.device)
            self._weights = weights_sha256(base_folder(self.settings))
        elif (folder / "adapter_config.json").is_file():
            from peft import PeftModel

            model = load_model(self.settings, base, self.device)
            try:
                self.model = PeftModel.from_pretrained(model, str(folder))
            except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
                raise ModelError(
                    f"{folder}: the adapter does not go onto the base model '{base}' "
                    f"({str(error).strip().splitlines()[0]}). Give the model it was trained on as "
                    "model.name_or_path."
                ) from error
            self._weights = weights_sha256(folder)
        else:
            _check_weights(folder)
            self.model = load_model(self.settings, str(folder), self.device)
            self._weights = weights_sha256(folder)
        return self._weights

    def model_for_inference(self) -> PreTrainedModel:
        """The model in evaluation mode: no dropout."""
        self.model.eval()
        return self.model

    @contextmanager
    def lent_for_training(self) -> Iterator[Any]:
        """Lend the model to a trainer, which changes its weights and wraps its forward pass.

        On the way out whatever the trainer put over the model is taken off again, so that scoring
        runs the model's own forward pass.  What it holds is unknown until ``holds`` says so.
        """
        self._weights = None
        self.weights_version += 1
        if self.settings.peft is None:  # saved once; or the trainer warns that they are missing
            self.model._keys_to_ignore_on_save.update(self.model.all_tied_weights_keys)
        try:
            yield self.model
        finally:
            self.undo_cast()
            for module in self.model.modules():
                # TRL's fused head and accelerate's autocast are set on the instance; accelerate
                # would not wrap a model again that still bears its mark.
                for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
                    module.__dict__.pop(name, None)
            if hasattr(self.model, "gradient_checkpointing_disable"):
                self.model.gradient_checkpointing_disable()
            _free_memory()

    def undo_cast(self) -> None:
        """Give the adapter of a quantised model its float32 back, which TRL's trainers take away.

        Loading an adapter makes it float32 again, so that a training that was stopped and resumed
        would otherwise go on with other numbers than one that was not.
        """
        if getattr(self.model, "is_loaded_in_4bit", False):
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.to(torch.float32)

    def holds(self, checkpoint: Checkpoint) -> None:
        """State that the model in memory is this checkpoint: a trainer has just saved it."""
        self._weights = checkpoint.weights_sha256


def pick_device() -> torch.device:
    """The device of this process: the first CUDA device, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load_tokenizer(settings: ModelSection) -> PreTrainedTokenizerBase:
    """The tokenizer, with a padding token; raises ModelError naming what is missing."""
    name = settings.name_or_path
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelError(explain_loading(name, "tokenizer", error)) from error
    # For a folder without tokenizer files transformers makes one that knows no text.
    if not tokenizer("a", add_special_tokens=False)["input_ids"]:
        raise ModelError(explain_loading(name, "tokenizer", "there is none, or an empty one"))
    if tokenizer.eos_token is None:
        raise ModelError(
            f"model.name_or_path: the tokenizer of '{name}' has no end-of-sequence token; "
            "set eos_token in its tokenizer_config.json, else answers never end."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # as TRL does
    return tokenizer


def check_model(settings: ModelSection) -> PreTrainedTokenizerBase:
    """Check, without loading weights, that model and tokenizer are there and fit this machine."""
    name = settings.name_or_path
    refuse_missing_folder(name)
    try:
        config = AutoConfig.from_pretrained(
            name, revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(explain_loading(name, "model", error)) from error
    if Path(name).is_dir():
        _check_weights(Path(name))
    if settings.load_in_4bit:
        _check_4bit()
    tokenizer = load_tokenizer(settings)
    vocabulary = config.get_text_config().vocab_size
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f"model.name_or_path: the tokenizer of '{name}' has {len(tokenizer)} tokens, the model "
            f"only {vocabulary}: they do not belong together."
        )
    return tokenizer


def _check_weights(folder: Path) -> None:
    """Refuse a folder without weights, or with files cut short; only their headers are read."""
    weights = [file for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]
    if not weights:
        raise ModelError(explain_loading(str(folder), "model", "the folder holds no weights"))
    for file in weights:
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt"):
                    pass
            except (OSError, SafetensorError) as error:
                reason = f"{file.name} is damaged or only a pointer to a large file: {error}"
                raise ModelError(explain_loading(str(folder), "model", reason)) from error


def load_model(settings: ModelSection, name: str, device: torch.device) -> Any:
    """The whole model of a folder or hub id, loaded as ``settings`` say; raises ModelError."""
    dtype = _DTYPES.get(settings.dtype)
    if dtype is None:
        # Full fine-tuning updates these very weights, and bfloat16 rounds small updates away.
        frozen = settings.peft is not None
        dtype = torch.bfloat16 if device.type == "cuda" and frozen else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": settings.trust_remote_code}
    if settings.attn_implementation is not None:
        options["attn_implementation"] = settings.attn_implementation
    if name == settings.name_or_path:
        options["revision"] = settings.revision
    if settings.load_in_4bit:
        _check_4bit()
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        options["device_map"] = {"": device}
    if sys.stderr.isatty():
        transformers_logging.enable_progress_bar()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            name, output_loading_info=True, **options
        )
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"model.name_or_path: '{name}' does not fit into the memory of {device}. Use a smaller "
            "model, a 16-bit dtype, or 'load_in_4bit: true'."
        ) from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        mismatch = "mismatched_sizes" in str(error)
        reason = "its config.json does not fit its weights" if mismatch else error
        raise ModelError(explain_loading(name, "model", reason)) from error
    finally:
        transformers_logging.disable_progress_bar()
    missing = sorted(info["missing_keys"])
    if missing:  # transformers would go on with random numbers in their place
        reason = f"its weights lack {len(missing)} tensors of the model, such as {missing[0]}"
        raise ModelError(explain_loading(name, "model", reason))
    return model if settings.load_in_4bit else model.to(device)


def _add_adapter(model: Any, settings: LoraSection, seed: int) -> Any:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    config = LoraConfig(task_type="CAUSAL_LM", **settings.model_dump(exclude={"type"}))
    quantized = getattr(model, "is_loaded_in_4bit", False)
    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise ModelError(f"model.peft: {error}") from error
    if quantized:
        # TRL rounds them so whenever it is handed the model: done here, a start made after a kill
        # is the start that was killed.
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16).to(torch.float32)
    for name in settings.modules_to_save or ():
        if not any(f".{path}".endswith(f".{name}") for path, _ in model.named_modules()):
            raise ModelError(f"model.peft.modules_to_save: the model has no module '{name}'")
    return adapted


def _check_4bit() -> None:
    if not torch.cuda.is_available():
        raise ModelError(
            "model.load_in_4bit: QLoRA needs a CUDA device, and none is visible here. "
            "Use 'load_in_4bit: false' (LoRA), or run on a machine with a GPU."
        )
    try:
        import bitsandbytes  # noqa: F401  (only whether it is there)
    except ImportError as error:
        raise ModelError(
            "model.load_in_4bit: QLoRA needs bitsandbytes. Type: pip install 'edco[qlora]'"
        ) from error


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
