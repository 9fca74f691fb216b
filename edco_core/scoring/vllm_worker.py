"""vLLM in a process of its own: prompts in, tokens and their exact entropies out.

Started by ``vllm_engine.py`` as a script, by whichever Python has vLLM, so it imports nothing of
this project but the entropy itself.  It serves one engine over one connection and ends with it.

Entropies are taken where vLLM hands its logits to the sampler, before temperature and top-p, over
the full vocabulary: they never leave the device, while log-probabilities by vLLM's own interface
would be a Python object for each token of the vocabulary.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import torch

# One process, so that what the sampler sees is in reach.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.v1.sample.logits_processor import (
    BatchUpdate,
    LogitsProcessor,
    MoveDirectionality,
)

_NUMBER = "edco_number"
"""Of a request's ``extra_args``: which of the prompts it is."""


class EntropyRecorder(LogitsProcessor):  # type: ignore[misc]
    """Looks at the logits of every generated token, and changes nothing."""

    entropy: ClassVar[Any] = None
    """Logits (N, V) to entropies (N,)."""
    steps: ClassVar[list[tuple[list[int], list[int], torch.Tensor]]] = []
    """Of each step: numbers of the prompts, positions, entropies on the device."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, tuple[int, list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        return False  # or greedy decoding would pass it by

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for row in batch_update.removed:
            self._rows.pop(row, None)
        for row, params, _, output_ids in batch_update.added:
            number = (params.extra_args or {}).get(_NUMBER)
            self._rows.pop(row, None)
            if number is not None:
                self._rows[row] = (number, output_ids)
        for source, target, direction in batch_update.moved:
            moved, there = self._rows.pop(source, None), self._rows.pop(target, None)
            if moved is not None:
                self._rows[target] = moved
            if there is not None and direction == MoveDirectionality.SWAP:
                self._rows[source] = there

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        rows = sorted(self._rows)
        if rows:
            asked = [self._rows[row] for row in rows]
            every = rows == list(range(len(logits)))
            entropies = EntropyRecorder.entropy(logits if every else logits[rows])
            # A prompt read in parts comes by several times with nothing generated: the last counts.
            positions = [len(output_ids) for _, output_ids in asked]
            self.steps.append(([number for number, _ in asked], positions, entropies))
        return logits


def main(connection: Connection) -> None:
    """Serve requests until the other side is gone."""
    first = connection.recv()
    EntropyRecorder.entropy = staticmethod(_entropy_function()(first["k"], first["unit"]))
    llm = LLM(**first["args"], logits_processors=[EntropyRecorder])
    sleeps = bool(first["args"].get("enable_sleep_mode"))
    connection.send({"ready": True})
    asleep = False
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if request["do"] == "sleep":
            if sleeps and not asleep:
                llm.sleep(level=1)
                asleep = True
            connection.send({})
            continue
        if asleep:
            llm.wake_up()
            asleep = False
        connection.send(_generate(llm, request))


def _generate(llm: LLM, request: dict[str, Any]) -> dict[str, Any]:
    """Tokens and entropies of each prompt, lists of lists in the order of the prompts."""
    EntropyRecorder.steps.clear()
    params = [
        SamplingParams(
            temperature=request["temperature"],
            top_p=request["top_p"],
            seed=seed,
            max_tokens=request["max_new_tokens"],
            stop_token_ids=request["eos_token_ids"],
            detokenize=False,
            extra_args={_NUMBER: number},
        )
        for number, seed in enumerate(request["seeds"])
    ]
    adapter = request["adapter"]
    outputs = llm.generate(
        [TokensPrompt(prompt_token_ids=ids) for ids in request["prompts"]],
        params,
        use_tqdm=False,
        lora_request=None if adapter is None else LoRARequest(*adapter),
    )
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    entropies: list[list[float | None]] = [[None] * len(ids) for ids in tokens]
    for numbers, positions, values in EntropyRecorder.steps:
        for number, position, value in zip(numbers, positions, values.tolist(), strict=True):
            if position < len(entropies[number]):  # behind the end a step may have begun
                entropies[number][position] = value
    return {"tokens": tokens, "entropies": entropies}


def _entropy_function() -> Any:
    """``entropy_function`` of the file beside this one, without the package it is in."""
    spec = importlib.util.spec_from_file_location(
        "token_entropy", Path(__file__).with_name("token_entropy.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.entropy_function


if __name__ == "__main__":
    to_parent = Connection(int(sys.argv[1]))
    try:
        main(to_parent)
    except Exception as error:  # the other side tells the user
        traceback.print_exc()
        to_parent.send({"error": f"{type(error).__name__}: {error}"})
        sys.exit(1)
