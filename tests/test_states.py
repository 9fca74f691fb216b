"""Models that keep a state beside, or in place of, keys and values by position."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edco_core.errors import ModelError
from edco_core.scoring.decoding import Decoded, decode
from edco_core.scoring.drawing import Drawing
from edco_core.scoring.reading import negative_log_likelihood, read_completions
from edco_core.scoring.token_entropy import entropy_from_logits

VOCABULARY, NEW_TOKENS = 50, 8
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 32,
    "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2,
}  # fmt: skip


def qwen3() -> Any:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZES, head_dim=16))


def qwen3_5() -> Any:
    config = transformers.Qwen3_5TextConfig(
        **SIZES, head_dim=16, layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=16,
        linear_value_head_dim=16,
    )  # fmt: skip
    return transformers.Qwen3_5ForCausalLM(config)


def lfm2() -> Any:
    config = transformers.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"])
    return transformers.Lfm2ForCausalLM(config)


def falcon_h1() -> Any:
    config = transformers.FalconH1Config(
        **SIZES, head_dim=16, mamba_d_ssm=32, mamba_n_heads=2, mamba_d_head=16, mamba_d_state=8
    )
    return transformers.FalconH1ForCausalLM(config)


@pytest.fixture(scope="module", params=[qwen3, qwen3_5, lfm2, falcon_h1], ids=lambda f: f.__name__)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    made = request.param()
    for weights in made.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.3)  # so that what was read before matters
    return made.eval()


def sequences(*lengths: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(2, VOCABULARY, num).astype(np.int32) for num in lengths]


def decoded(model: Any, prompts: list[Any], ends: set[int], **settings: Any) -> Decoded:
    return decode(
        model, prompts, max_new_tokens=NEW_TOKENS, pad_token_id=0, eos_token_ids=ends,
        entropy=entropy_from_logits, **settings,
    )  # fmt: skip


def test_answers_of_a_batch_are_those_of_each_prompt_alone(model: Any) -> None:
    prompts, ends = sequences(3, 17, 9, 1, 5), set(range(2, 40, 3))
    together = decoded(model, prompts, ends)
    assert len(set(together.lengths_N.tolist())) > 1  # some end before the others
    for row, prompt in enumerate(prompts):
        alone = decoded(model, [prompt], ends)
        assert together.token_ids[row] == alone.token_ids[0]
        assert together.entropies_NL is not None
        assert alone.entropies_NL is not None
        num = alone.lengths_N[0]
        assert together.entropies_NL[row, :num] == pytest.approx(
            alone.entropies_NL[0, :num], abs=1e-4
        )


def test_several_answers_to_a_prompt_are_drawn_from_what_it_says(model: Any) -> None:
    prompts = sequences(3, 11)
    drawing = Drawing(0, 0, range(2), NEW_TOKENS, temperature=1.0, top_p=1.0, answers_per_prompt=3)
    found = decoded(model, prompts, set(), drawing=drawing).token_ids
    for row, tokens in enumerate(found):
        ids = torch.tensor([[*prompts[row // 3].tolist(), *tokens]])
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[0]
        again = Drawing(
            0, 0, range(2), NEW_TOKENS, temperature=1.0, top_p=1.0, answers_per_prompt=3
        )
        for place, token in enumerate(tokens):
            before = logits[len(prompts[row // 3]) + place - 1][None]
            assert int(again.draw(before, torch.tensor([row]), place)) == token


def test_losses_of_a_batch_are_those_of_each_sample_alone(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, completions = sequences(4, 1, 6), sequences(9, 3, 6)
    monkeypatch.setattr("edco_core.scoring.reading._MAX_LOGITS", 1)  # a position at a time
    values, counts = read_completions(
        model, prompts, completions, negative_log_likelihood, pad_token_id=0
    )
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        ids = torch.tensor(np.concatenate([prompt, completion])[None], dtype=torch.long)
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        expected = negative_log_likelihood(logits, ids[0, len(prompt) :])
        assert values[row][counts[row]] == pytest.approx(expected.numpy(), abs=1e-4)


def test_a_model_with_a_cache_of_another_kind_is_refused() -> None:
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4
    )
    with pytest.raises(ModelError, match=r"MambaForCausalLM keeps .* a cache of its own"):
        decoded(transformers.MambaForCausalLM(config).eval(), sequences(3), set())
