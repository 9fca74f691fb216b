"""The other engine of answer entropies: vLLM, for CUDA machines (``scoring.engine: vllm``).

vLLM pins versions of torch and transformers that are rarely ours, so it runs in a process of its
own (``vllm_worker.py``), by a Python that has it.  The weights go over as the adapter's folder,
written anew whenever they have changed; full fine-tuning starts another engine for each interval.

A *canary* says whether the engine scores with the weights it should: prompts whose first token's
entropy the model in this process knows too.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edco_core.config_scoring import AnswerEntropySection
from edco_core.errors import ConfigError, ModelError
from edco_core.scoring.decoding import Decoded, decode
from edco_core.scoring.token_entropy import entropy_function

if TYPE_CHECKING:
    from edco_core.loading import ModelHost
    from edco_core.prompts import TokenIds
    from edco_core.records import Floats

NUM_CANARIES = 8
TOLERANCE = {torch.float32: 0.02, torch.bfloat16: 0.1, torch.float16: 0.1}
"""Mean difference of the canaries' entropies that two engines may have, in nats: kernels round
differently, and 16-bit models much more."""
_STILL = 1e-3
"""Canaries that moved less than this since the weights before cannot tell both apart, in nats."""

_PATIENCE_S = 20.0

_ENVIRONMENT = (
    "vLLM wants versions of its own, so give it an environment: python3 -m venv vllm-env && "
    "vllm-env/bin/pip install vllm, and set scoring.engine_python: vllm-env/bin/python"
)


def check_vllm(settings: AnswerEntropySection) -> str:
    """The Python that has vLLM; raises ConfigError saying what to install where there is none."""
    python = settings.engine_python or sys.executable
    found = shutil.which(python)
    if found is None:
        raise ConfigError(
            f"scoring.engine_python: there is no program '{python}'. Give the Python of an "
            f"environment that has vLLM. {_ENVIRONMENT}."
        )
    looked = subprocess.run(
        [found, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"],
        check=False,
    )
    if looked.returncode != 0:
        raise ConfigError(
            f"scoring.engine: vllm is not installed for {python}. {_ENVIRONMENT}; or use engine: "
            "transformers."
        )
    return found


class VllmEngine:
    """Generates with vLLM under whatever weights the host holds; started when first used."""

    def __init__(
        self, settings: AnswerEntropySection, host: ModelHost, canaries: Sequence[TokenIds],
        *, max_new_tokens: int,
    ) -> None:  # fmt: skip
        """``canaries`` are prompts of the pool, ``NUM_CANARIES`` at most."""
        self._settings = settings
        self.host = host
        self._canaries = canaries
        self._max_new_tokens = max_new_tokens
        self._python = check_vllm(settings)
        self._folder = Path(tempfile.mkdtemp(prefix="edco-vllm-"))
        self._worker: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._version: int | None = None
        self._adapter: tuple[str, int, str] | None = None
        self._before: Floats | None = None
        atexit.register(self.close)

    def decode(self, prompts: Sequence[TokenIds], seeds: Sequence[int | None]) -> Decoded:
        """As ``decoding.decode``; ``seeds`` (N,) are those of a draw, None where it is greedy."""
        self._follow_weights()
        return self._ask(prompts, seeds, self._max_new_tokens)

    def rest(self) -> None:
        """Give the device's memory to the training that follows, where vLLM can."""
        if self._connection is not None:
            self._exchange({"do": "sleep"})

    def close(self) -> None:
        """End the worker and remove what was written for it."""
        self._end_worker()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end_worker(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._worker is not None:
            try:
                self._worker.wait(timeout=_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._worker.kill()
                self._worker.wait()
            self._worker = None

    def _follow_weights(self) -> None:
        if self._version == self.host.weights_version and self._connection is not None:
            return
        model = self.host.model_for_inference()
        folder = self._folder / f"weights-{self.host.weights_version}"
        is_adapter = hasattr(model, "peft_config")
        if is_adapter or self.host.settings.peft is None:
            model.save_pretrained(str(folder))
        if is_adapter:
            self._adapter = (folder.name, self.host.weights_version + 1, str(folder))
        elif folder.is_dir():  # all weights: an engine cannot change those
            self.host.tokenizer.save_pretrained(str(folder))
            self._end_worker()
        if self._connection is None:
            self._start(str(folder) if folder.is_dir() and not is_adapter else None)
        self._check_canaries()
        self._version = self.host.weights_version
        for old in self._folder.iterdir():
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def _start(self, folder: str | None) -> None:
        settings = self.host.settings
        ours, theirs = socket.socketpair()
        self._worker = subprocess.Popen(
            [self._python, str(Path(__file__).with_name("vllm_worker.py")), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if _is_real_file(sys.stderr) else subprocess.DEVNULL,
            env={"VLLM_LOGGING_LEVEL": "WARNING", **os.environ},
        )
        theirs.close()
        self._connection = Connection(ours.detach())
        args: dict[str, Any] = {
            "model": folder or settings.name_or_path,
            "revision": None if folder else settings.revision,
            "trust_remote_code": settings.trust_remote_code,
            "dtype": str(self.host.model.dtype).removeprefix("torch."),
        }
        if self.host.device.type == "cuda":
            # The model that is trained lives on the same device.
            args |= {"gpu_memory_utilization": 0.4, "enable_sleep_mode": True}
        if self._adapter is not None:
            args |= {"enable_lora": True, "max_lora_rank": _rank(self.host)}
        first = {
            "k": self._settings.k,
            "unit": self._settings.unit,
            "args": {**args, **self._settings.engine_args},
        }
        self._exchange(first)

    def _ask(
        self, prompts: Sequence[TokenIds], seeds: Sequence[int | None], max_new_tokens: int
    ) -> Decoded:
        is_drawn = self._settings.decoding == "sample"
        answer = self._exchange(
            {
                "do": "generate",
                "prompts": [[int(i) for i in prompt] for prompt in prompts],
                "seeds": list(seeds),
                "max_new_tokens": max_new_tokens,
                "temperature": (self._settings.temperature or 1.0) if is_drawn else 0.0,
                "top_p": (self._settings.top_p or 1.0) if is_drawn else 1.0,
                "eos_token_ids": sorted(self.host.eos_token_ids),
                "adapter": self._adapter,
            }
        )
        lengths = np.array([len(ids) for ids in answer["tokens"]], np.int64)
        tokens = np.full((len(prompts), int(lengths.max())), self.host.pad_token_id, np.int64)
        entropies = np.zeros(tokens.shape)
        for row, (ids, values) in enumerate(
            zip(answer["tokens"], answer["entropies"], strict=True)
        ):
            if None in values:
                raise ModelError(
                    "scoring.engine: this vLLM does not show its sampler's logits for every token; "
                    "use another version of it, or engine: transformers."
                )
            tokens[row, : len(ids)] = ids
            entropies[row, : len(ids)] = values
        return Decoded(tokens, lengths, entropies)

    def _check_canaries(self) -> None:
        """Raise ModelError where the engine does not have the host's weights."""
        host = self.host
        entropy = entropy_function(self._settings.k, self._settings.unit)
        ours = decode(
            host.model_for_inference(), self._canaries, max_new_tokens=1,
            pad_token_id=host.pad_token_id, eos_token_ids=host.eos_token_ids, entropy=entropy,
        ).entropies_NL  # fmt: skip
        theirs = self._ask(self._canaries, [0] * len(self._canaries), 1).entropies_NL
        assert ours is not None
        assert theirs is not None
        check_canaries(ours[:, 0], theirs[:, 0], self._before, TOLERANCE[host.model.dtype])
        self._before = ours[:, 0]

    def _exchange(self, request: dict[str, Any]) -> Any:
        assert self._connection is not None
        try:
            self._connection.send(request)
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            answer = {"error": f"the process ended ({error or 'no reason given'})"}
        if "error" in answer:
            self._connection.close()
            self._connection = None
            raise ModelError(
                f"scoring.engine: vLLM failed: {answer['error']} What it said is above. See "
                "scoring.engine_args, or use engine: transformers."
            )
        return answer


def check_canaries(ours: Floats, theirs: Floats, before: Floats | None, tolerance: float) -> None:
    """Raise ModelError where the engine's entropies are not those of the weights it should have.

    All have shape (C,), in nats.  ``before`` are ours under the weights before; small steps of
    training move entropies by less than two engines differ, so the engine's have to be nearer to
    what they should be now than to what they were.
    """
    off = float(np.abs(theirs - ours).mean())
    problem = None
    if off > tolerance:
        problem = (
            f"differ from this model's by {off:.3g} on average (up to {tolerance} is rounding)"
        )
    elif (
        before is not None
        and float(np.abs(ours - before).mean()) > _STILL
        and float(np.abs(theirs - before).mean()) < off
    ):
        problem = "are those of the weights before"
    if problem is not None:
        raise ModelError(
            f"scoring.engine: vLLM does not score with the current weights: the entropies of "
            f"{len(ours)} canary prompts {problem}. Use engine: transformers, or another version "
            "of vLLM."
        )


def draw_seed(seed: int, interval: int, ordinal: int) -> int:
    """The seed of one sample's draw, 32 bits wide."""
    digest = hashlib.sha256(f"{seed} {interval} {ordinal}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _rank(host: ModelHost) -> int:
    """The least rank vLLM takes that holds the adapter's."""
    rank = host.model.peft_config["default"].r
    return next((each for each in (1, 8, 16, 32, 64, 128, 256, 320, 512) if each >= rank), rank)


def _is_real_file(stream: Any) -> bool:
    try:
        stream.fileno()
    except (OSError, AttributeError):
        return False
    return True
