"""Peak memory of one batch of prefix entropy with a large vocabulary, and of all its logits.

    python -m benchmarks.scoring_memory ours|all_logits BATCH TOKENS VOCABULARY

prints the growth of the peak in bytes, measured in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.measuring import Figure

VOCABULARY = 151_936
"""Of Qwen3."""


def measure_memory(*, quick: bool) -> Figure:
    """Both ways, each once: memory does not vary from run to run."""
    batch, tokens, vocabulary = (8, 16, 4000) if quick else (64, 64, VOCABULARY)
    sizes = [
        [_in_own_process(way, batch, tokens, vocabulary) / 2**20] for way in ("ours", "all_logits")
    ]
    label = f"memory of a batch of {batch} × {tokens} tokens, vocabulary {vocabulary}"
    return Figure(label, sizes[0], sizes[1], "all logits of the prompts at once", "MiB")


def _in_own_process(way: str, *sizes: int) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scoring_memory", way, *map(str, sizes)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return int(done.stdout)


def _peak() -> int:
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1]) * 1024


def _run(way: str, batch: int, tokens: int, vocabulary: int) -> int:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from edco_core.scoring.decoding import decode_greedily

    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, head_dim=32, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    prompts = np.random.default_rng(0).integers(0, vocabulary, (batch, tokens))

    def ours(prompts: np.ndarray) -> None:
        decode_greedily(
            model, list(prompts), max_new_tokens=4, pad_token_id=0, eos_token_ids=set(),
            with_entropies=True,
        )  # fmt: skip

    ours(prompts[:1, :4])  # what a first call allocates for good
    before = _peak()
    if way == "ours":
        ours(prompts)
    else:
        with torch.inference_mode():
            model(torch.from_numpy(prompts))
    return _peak() - before


if __name__ == "__main__":
    print(_run(sys.argv[1], *map(int, sys.argv[2:])))
