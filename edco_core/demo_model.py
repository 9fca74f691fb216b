"""The demo's base model: a small Qwen3 made from nothing on the vendors the pool only partly has.

It stands in for the pretrained model a user brings: right on most lines of ``KNOWN_VENDORS``, wrong
on nearly all others, and small enough to be trained on two processor cores in about a minute.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from edco_core.demo_data import pretraining_corpus
from edco_core.errors import ModelError

Row = dict[str, str]

EOS, PAD = "<|endoftext|>", "<|pad|>"
IGNORED = -100
"""The label of a token that no loss is computed on."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the model is made with; another recipe or corpus makes a cached model stale."""

    vocab_size: int = 1536
    hidden_size: int = 160
    num_layers: int = 4
    num_heads: int = 4
    num_samples: int = 6000
    num_steps: int = 220
    batch_size: int = 32
    learning_rate: float = 2e-3
    num_merges: tuple[int | None, ...] = (None, 300, None, 100)
    """Steps take turns in cutting their samples by this many BPE merges (None: by all)."""


RECIPE = Recipe()
_MARKER = "edco_demo_base.json"


def build_base_model(
    folder: Path,
    *,
    seed: int = 0,
    corpus: Sequence[Mapping[str, object]] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Train and save the base model, or return at once if ``folder`` already holds this very one.

    ``corpus`` are rows with ``prompt`` and ``completion``; the demo's own by default.
    ``on_progress`` is called with (steps done, steps in all).  The folder appears complete or not
    at all; one made by another recipe is replaced, one with anything else in it raises
    :class:`ModelError`.
    """
    source = pretraining_corpus(seed=seed, num_samples=RECIPE.num_samples)
    rows = [
        {"prompt": str(row["prompt"]), "completion": str(row["completion"])}
        for row in (source if corpus is None else corpus)
    ]
    digest = hashlib.sha256(json.dumps([seed, asdict(RECIPE), rows]).encode()).hexdigest()
    if _digest_of(folder) == digest:
        return folder
    replaceable = folder.is_dir() and (_digest_of(folder) or not any(folder.iterdir()))
    if folder.exists() and not replaceable:
        raise ModelError(
            f"{folder} is taken by something that is no base model of the demo; "
            "choose another folder, or delete it"
        )
    tokenizer = _train_tokenizer(rows)
    model = _train_model(rows, tokenizer, seed=seed, on_progress=on_progress)

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    marker = {"digest": digest, "seed": seed, "recipe": asdict(RECIPE)}
    (temporary / _MARKER).write_text(json.dumps(marker, indent=2), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        temporary.rename(folder)
    except OSError:
        # Another process was faster: its model is as good as ours if it is the same.
        shutil.rmtree(temporary, ignore_errors=True)
        if _digest_of(folder) != digest:
            raise
    return folder


def _digest_of(folder: Path) -> str | None:
    """What the model in a folder was made from; None if it is not one of ours."""
    try:
        return str(json.loads((folder / _MARKER).read_text(encoding="utf-8"))["digest"])
    except (FileNotFoundError, NotADirectoryError):
        return None


def _train_tokenizer(corpus: list[Row]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        (row["prompt"] + row["completion"] for row in corpus),
        trainers.BpeTrainer(
            vocab_size=RECIPE.vocab_size,
            special_tokens=[EOS, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=EOS, pad_token=PAD)


def _train_model(
    corpus: list[Row],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> Qwen3ForCausalLM:
    heads, hidden_size = RECIPE.num_heads, RECIPE.hidden_size
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=RECIPE.num_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=hidden_size // heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    num_steps, peak = RECIPE.num_steps, RECIPE.learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.01)
    model.train()
    batches = _batches(corpus, tokenizer, seed=seed)
    for step, (tokens_BT, labels_BT, mask_BT) in enumerate(batches):
        warm = min(1.0, (step + 1) / 20)
        optimizer.param_groups[0]["lr"] = (
            peak * warm * (1 + math.cos(math.pi * step / num_steps)) / 2
        )
        loss = model(input_ids=tokens_BT, attention_mask=mask_BT, labels=labels_BT).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_progress is not None:
            on_progress(step + 1, num_steps)
    return model.eval()


def _batches(
    corpus: list[Row], tokenizer: PreTrainedTokenizerFast, *, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Token ids, labels and mask of each step; [B batch, T tokens], padded on the right.

    Words of the other vendors fall into short pieces, which whole words of the known ones hide: the
    model would never have met these tokens.  So a part of the samples is cut with fewer merges.
    """
    prompts = [row["prompt"] for row in corpus]
    completions = [row["completion"] + EOS for row in corpus]
    readings = []
    for num_merges in RECIPE.num_merges:
        bpe = _with_merges(tokenizer.backend_tokenizer, num_merges)
        encoded = zip(bpe.encode_batch(prompts), bpe.encode_batch(completions), strict=True)
        readings.append([(prompt.ids, completion.ids) for prompt, completion in encoded])
    generator = torch.Generator().manual_seed(seed)
    for step in range(RECIPE.num_steps):
        # One reading a step, since lengths differ between them and padding costs time.
        reading = readings[step % len(readings)]
        chosen = torch.randint(len(corpus), (RECIPE.batch_size,), generator=generator)
        rows = [reading[i] for i in chosen.tolist()]
        length = max(len(prompt) + len(completion) for prompt, completion in rows)
        tokens_BT = torch.full((len(rows), length), int(tokenizer.pad_token_id))
        labels_BT = torch.full((len(rows), length), IGNORED)
        for row, (prompt, completion) in enumerate(rows):
            end = len(prompt) + len(completion)
            tokens_BT[row, :end] = torch.tensor(prompt + completion)
            labels_BT[row, len(prompt) : end] = torch.tensor(completion)
        yield tokens_BT, labels_BT, (tokens_BT != tokenizer.pad_token_id).long()


def _with_merges(bpe: Tokenizer, num_merges: int | None) -> Tokenizer:
    """The same vocabulary, used only as far as the first ``num_merges`` merges lead."""
    parts = json.loads(bpe.to_str())
    parts["model"]["merges"] = parts["model"]["merges"][:num_merges]
    return Tokenizer.from_str(json.dumps(parts))
