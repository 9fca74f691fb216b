"""Scores: exact, in nats, and untouched by how samples are batched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training_sft import make_pool

from edco_core.config import ModelSection, PrefixEntropySection
from edco_core.loading import ModelHost
from edco_core.records import Pool, ScoreShard
from edco_core.scoring import Scorer, build_scorer
from edco_core.scoring.batches import plan_batches
from edco_core.scoring.decoding import decode_greedily
from edco_core.scoring.token_entropy import entropy_from_logits


@pytest.fixture(scope="module")
def host(tiny_model: Path) -> ModelHost:
    host = ModelHost(ModelSection(name_or_path=str(tiny_model), peft=None), seed=0)
    host.load_base()
    return host


@pytest.fixture
def pool(log_files: tuple[Path, Path]) -> Pool:
    return make_pool(log_files[0])


def score_all(
    scorer: Scorer[Any], already: list[int] | None = None, *, interval: int = 0
) -> ScoreShard:
    done = np.array(already or [], dtype=np.int64)
    wanted = np.arange(80, dtype=np.int64)
    shards = list(scorer.score(wanted, done, lambda done, total: None, interval=interval))
    ordinals = np.concatenate([shard.ordinals for shard in shards])
    order = np.argsort(ordinals)
    return ScoreShard(
        ordinals[order],
        np.concatenate([shard.scores for shard in shards])[order],
        np.concatenate([shard.n_tokens for shard in shards])[order],
    )


class TestTokenEntropy:
    def test_agrees_with_float64(self) -> None:
        logits = torch.randn(64, 5000, generator=torch.Generator().manual_seed(0)) * 4
        p = torch.softmax(logits.double(), dim=-1)
        exact = -(p * p.log()).sum(dim=-1)
        torch.testing.assert_close(
            entropy_from_logits(logits).double(), exact, rtol=1e-5, atol=1e-6
        )

    def test_agrees_with_trl(self) -> None:
        from trl.trainer.utils import entropy_from_logits as trl_entropy

        logits = torch.randn(16, 3000, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(entropy_from_logits(logits), trl_entropy(logits))

    def test_equal_logits_have_the_logarithm_of_their_number(self) -> None:
        assert entropy_from_logits(torch.zeros(1, 1000)).item() == pytest.approx(np.log(1000))

    def test_a_certain_token_has_none_and_masked_tokens_add_nothing(self) -> None:
        certain = torch.tensor([[0.0, -torch.inf, -torch.inf]])
        half = torch.tensor([[0.0, 0.0, -torch.inf]])
        assert entropy_from_logits(certain).item() == 0.0
        assert entropy_from_logits(half).item() == pytest.approx(np.log(2))

    def test_large_batches_are_done_in_parts_without_changing_a_value(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logits = torch.randn(10, 50)
        whole = entropy_from_logits(logits)
        monkeypatch.setattr("edco_core.scoring.token_entropy._MAX_CHUNK_ELEMENTS", 150)
        assert torch.equal(entropy_from_logits(logits), whole)


class TestDecoding:
    def test_tokens_are_those_of_generate(self, host: ModelHost, pool: Pool) -> None:
        prompts = [host.tokenizer(p)["input_ids"] for p in pool.table["prompt"].to_pylist()[:12]]
        decoded = decode_greedily(
            host.model_for_inference(),
            prompts,
            max_new_tokens=12,
            pad_token_id=host.pad_token_id,
            eos_token_ids=host.eos_token_ids,
            with_entropies=False,
        )
        for prompt, tokens in zip(prompts, decoded.token_ids, strict=True):
            generated = host.model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=12,
                do_sample=False,
                pad_token_id=host.pad_token_id,
            )
            assert tokens == generated[0, len(prompt) :].tolist()

    def test_a_sequence_ends_with_its_end_token_and_the_others_go_on(
        self, host: ModelHost, pool: Pool
    ) -> None:
        prompts = [host.tokenizer(p)["input_ids"] for p in pool.table["prompt"].to_pylist()[:8]]

        def decode(eos: set[int]) -> list[list[int]]:
            return decode_greedily(
                host.model_for_inference(),
                prompts,
                max_new_tokens=10,
                pad_token_id=host.pad_token_id,
                eos_token_ids=eos,
                with_entropies=True,
            ).token_ids

        endless = decode(set())
        eos = endless[0][2]
        for ended, whole in zip(decode({eos}), endless, strict=True):
            stop = whole.index(eos) + 1 if eos in whole else len(whole)
            assert ended == whole[:stop]

    def test_a_plan_has_every_sample_once_and_keeps_the_budget(self) -> None:
        lengths = np.random.default_rng(0).integers(1, 300, size=500).tolist()
        batches = plan_batches(lengths, max_new_tokens=8, max_batch_tokens=1000)
        assert sorted(i for batch in batches for i in batch) == list(range(500))
        for batch in batches:
            assert len(batch) * (max(lengths[i] for i in batch) + 8) <= 1000

    def test_a_prompt_longer_than_the_budget_is_a_batch_of_its_own(self) -> None:
        batches = plan_batches([5, 900, 5], max_new_tokens=1, max_batch_tokens=100)
        assert [batch.tolist() for batch in batches] == [[1], [0, 2]]


class TestPrefixEntropy:
    def test_is_the_mean_entropy_of_the_models_own_greedy_prefix(
        self, host: ModelHost, pool: Pool
    ) -> None:
        settings = PrefixEntropySection(prefix_tokens=5, quick_answer=False)
        scored = score_all(build_scorer(settings, pool, host, seed=0))
        model = host.model_for_inference()
        for ordinal in (0, 31, 79):
            prompt = host.tokenizer(pool.table["prompt"][ordinal].as_py())["input_ids"]
            ids, entropies = list(prompt), []
            for _ in range(5):  # the whole sequence again at each position: no cache, no batch
                with torch.no_grad():
                    logits = model(torch.tensor([ids])).logits[0, -1].double()
                p = torch.softmax(logits, dim=-1)
                entropies.append(-(p * p.log()).sum().item())
                ids.append(int(logits.argmax()))
                if ids[-1] in host.eos_token_ids:
                    break
            assert scored.scores[ordinal] == pytest.approx(np.mean(entropies), rel=1e-4)
            assert scored.n_tokens[ordinal] == len(entropies)

    @pytest.mark.parametrize("budget", [64, 300, 100_000])
    def test_batches_change_a_score_by_no_more_than_numeric_noise(
        self, host: ModelHost, pool: Pool, budget: int
    ) -> None:
        def scores(max_batch_tokens: int) -> ScoreShard:
            settings = PrefixEntropySection(
                prefix_tokens=6, quick_answer=False, max_batch_tokens=max_batch_tokens
            )
            return score_all(build_scorer(settings, pool, host, seed=0))

        np.testing.assert_allclose(scores(budget).scores, scores(1000).scores, rtol=2e-4)

    def test_a_half_scored_pool_is_completed_to_the_very_same_scores(
        self, host: ModelHost, pool: Pool
    ) -> None:
        settings = PrefixEntropySection(
            prefix_tokens=4, quick_answer=False, max_batch_tokens=300, shard_size=20
        )
        whole = score_all(build_scorer(settings, pool, host, seed=0))
        scorer = build_scorer(settings, pool, host, seed=0)
        first = next(
            iter(scorer.score(np.arange(80), np.arange(0), lambda done, total: None, interval=0))
        )
        rest = score_all(build_scorer(settings, pool, host, seed=0), first.ordinals.tolist())
        assert set(first.ordinals) | set(rest.ordinals) == set(range(80))
        assert not set(first.ordinals) & set(rest.ordinals)
        for part in (first, rest):
            assert part.scores.tolist() == whole.scores[part.ordinals].tolist()

    def test_progress_counts_samples_up_to_the_whole_pool(
        self, host: ModelHost, pool: Pool
    ) -> None:
        told: list[tuple[int, int]] = []
        settings = PrefixEntropySection(prefix_tokens=1, max_batch_tokens=900)
        scorer = build_scorer(settings, pool, host, seed=0)
        list(
            scorer.score(
                np.arange(80),
                np.array([3, 4]),
                lambda done, total: told.append((done, total)),
                interval=0,
            )
        )
        assert told[-1] == (80, 80)
        assert [done for done, _ in told] == sorted({done for done, _ in told})
        assert told[0][0] > 2

    @pytest.mark.parametrize("quick_answer", [True, "zh", "Q: {prompt} A:"])
    def test_quick_answer_prompting_changes_what_the_model_reads(
        self, host: ModelHost, pool: Pool, quick_answer: bool | str
    ) -> None:
        def scorer(setting: bool | str) -> Any:
            settings = PrefixEntropySection(prefix_tokens=1, quick_answer=setting)
            return build_scorer(settings, pool, host, seed=0)

        texts = host.tokenizer.batch_decode(scorer(quick_answer)._prompts)
        plain = host.tokenizer.batch_decode(scorer(False)._prompts)
        assert plain == pool.table["prompt"].to_pylist()
        assert all(p in t and p != t for p, t in zip(plain, texts, strict=True))


def test_dropout_is_off_while_scoring(tiny_model: Path, pool: Pool) -> None:
    from edco_core.config import LoraSection

    section = ModelSection(name_or_path=str(tiny_model), peft=LoraSection(lora_dropout=0.5))
    host = ModelHost(section, seed=0)
    host.load_base()
    host.model.train()
    for parameter in host.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    settings = PrefixEntropySection(prefix_tokens=2, quick_answer=False)
    first, second = (score_all(build_scorer(settings, pool, host, seed=0)) for _ in range(2))
    assert first.scores.tolist() == second.scores.tolist()
