"""Every scorer: one contract for all of them, then what each promises."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_prompts import PLAIN, chat_model, pool_of
from test_scoring import host, pool, score_all
from test_training_sft import Loop

from edco_core.config import ModelSection, SftSection
from edco_core.config_scoring import (
    EntropySection,
    FullEntropySection,
    LossSection,
    PassRateSection,
    PerplexitySection,
    PrefixEntropySection,
    ReferencePrefixEntropySection,
)
from edco_core.errors import ModelError
from edco_core.loading import ModelHost
from edco_core.prompts import prompt_token_ids, reference_token_ids
from edco_core.records import Pool, ScoreShard
from edco_core.rewards import Answered
from edco_core.scoring import SCORERS, Scorer, build_scorer
from edco_core.scoring import reading as reading_module
from edco_core.scoring.decoding import decode
from edco_core.scoring.drawing import Drawing, uniforms
from edco_core.scoring.shared_prefix import common_beginning
from edco_core.scoring.token_entropy import aggregated, entropy_function

__all__ = ["chat_model", "host", "pool"]  # fixtures

NOISE = 2e-4
"""Relative: what batching may change in a score in float32."""

SECTIONS: list[Any] = [
    PrefixEntropySection(prefix_tokens=4),
    PrefixEntropySection(prefix_tokens=6, decoding="sample", temperature=0.8, top_p=0.9),
    # As edco_released, but shorter.
    PrefixEntropySection(
        prefix_tokens=10, decoding="sample", temperature=0.7, top_p=0.7, quick_answer=False,
        vocabulary="top_k", unit="bits", aggregate="top_fraction", chat_template=False,
    ),
    FullEntropySection(max_new_tokens=12),
    ReferencePrefixEntropySection(prefix_tokens=3),
    LossSection(),
    PerplexitySection(),
    PassRateSection(k=3, max_new_tokens=6),
]  # fmt: skip


def build(settings: Any, pool: Pool, host: ModelHost, **changes: Any) -> Scorer[Any]:
    return build_scorer(settings.model_copy(update=changes), pool, host, seed=5)


@pytest.fixture(params=SECTIONS, ids=lambda s: f"{s.type}-{getattr(s, 'decoding', '')}")
def settings(request: pytest.FixtureRequest) -> Any:
    return request.param


class TestEveryScorer:
    def test_every_registered_scorer_is_tested_here(self) -> None:
        assert {section.type for section in SECTIONS} == set(SCORERS)

    def test_batches_change_a_score_by_no_more_than_numeric_noise(
        self, settings: Any, host: ModelHost, pool: Pool
    ) -> None:
        """One sample a batch against many: padding, batch size, order, shared beginnings."""
        alone, together = (
            score_all(build(settings, pool, host, max_batch_tokens=tokens))
            for tokens in (1, 20_000)
        )
        np.testing.assert_allclose(together.scores, alone.scores, rtol=NOISE)
        assert together.n_tokens.tolist() == alone.n_tokens.tolist()

    def test_a_half_scored_set_is_completed_to_the_very_same_scores(
        self, settings: Any, host: ModelHost, pool: Pool
    ) -> None:
        scorer = build(settings, pool, host, max_batch_tokens=600, shard_size=20)
        whole = score_all(scorer)
        done = whole.ordinals[::3]  # not whole batches: even so only the missing are scored
        rest = score_all(scorer, done.tolist())
        assert sorted({*done.tolist(), *rest.ordinals.tolist()}) == list(range(80))
        assert not set(done.tolist()) & set(rest.ordinals.tolist())
        wanted, shards = np.arange(10, 50), []
        for shard in scorer.score(wanted, np.arange(0), lambda *_: None, interval=0):
            shards.append(shard)
            break
        for shard in scorer.score(wanted, shards[0].ordinals, lambda *_: None, interval=0):
            shards.append(shard)
        assert sorted(np.concatenate([s.ordinals for s in shards]).tolist()) == list(range(10, 50))
        in_one_go = scorer.score(wanted, np.arange(0), lambda *_: None, interval=0)
        expected = {
            int(ordinal): score
            for shard in in_one_go
            for ordinal, score in zip(shard.ordinals, shard.scores, strict=True)
        }
        for shard in shards:
            assert shard.scores.tolist() == [expected[int(o)] for o in shard.ordinals]

    def test_scores_are_finite_and_tell_samples_apart(
        self, settings: Any, host: ModelHost, pool: Pool
    ) -> None:
        scored = score_all(build(settings, pool, host))
        assert np.isfinite(scored.scores).all()
        assert (scored.n_tokens > 0).all()
        if settings.type != "pass_rate":  # the random model is never right
            assert len(np.unique(scored.scores)) > 40

    def test_token_entropies_belong_to_their_samples(
        self, settings: Any, host: ModelHost, pool: Pool
    ) -> None:
        scorer = build(settings, pool, host)
        (shard,) = scorer.score(np.arange(80), np.arange(0), lambda *_: None, interval=0)
        assert (shard.token_entropies is not None) is isinstance(settings, EntropySection)
        if shard.token_entropies is None:
            return
        parts = np.split(shard.token_entropies, np.cumsum(shard.n_tokens)[:-1])
        fraction = settings.fraction
        for part, score in zip(parts, shard.scores, strict=True):
            num = len(part) if fraction is None else max(1, int(fraction * len(part)))
            assert np.sort(part)[-num:].mean() == pytest.approx(score)

    def test_memory_that_runs_out_halves_the_batch_and_the_scores_are_the_same(
        self,
        settings: Any,
        host: ModelHost,
        pool: Pool,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        expected = score_all(build(settings, pool, host))
        forward, rows = host.model.forward, []

        def short_of_memory(*args: Any, **kwargs: Any) -> Any:
            rows.append(len(kwargs["input_ids"]))
            if rows[-1] > 30:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(*args, **kwargs)

        monkeypatch.setattr(host.model, "forward", short_of_memory)
        with caplog.at_level(logging.WARNING):
            found = score_all(build(settings, pool, host))
        np.testing.assert_allclose(found.scores, expected.scores, rtol=NOISE)
        assert any(num > 30 for num in rows)
        assert "going on with" in caplog.text


def test_a_sample_that_does_not_fit_alone_is_an_error(
    host: ModelHost, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: Any, **kwargs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(host.model, "forward", no_memory)
    with pytest.raises(ModelError, match=r"out of memory with the .* tokens of a single sample"):
        score_all(build(LossSection(), pool, host))


def test_what_did_not_fit_once_is_not_tried_again(
    host: ModelHost, pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forward = host.model.forward

    def short_of_memory(*args: Any, **kwargs: Any) -> Any:
        if kwargs["input_ids"].numel() > 300:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")
        return forward(*args, **kwargs)

    monkeypatch.setattr(host.model, "forward", short_of_memory)
    scorer = build(LossSection(), pool, host, max_batch_tokens=500)
    with caplog.at_level(logging.WARNING):
        assert len(score_all(scorer).scores) == 80
    assert caplog.text.count("out of memory") == 1


class TestSampling:
    SETTINGS = PrefixEntropySection(prefix_tokens=8, decoding="sample", quick_answer=False)

    def test_a_draw_belongs_to_seed_interval_and_sample(self, host: ModelHost, pool: Pool) -> None:
        scorer = build(self.SETTINGS, pool, host)
        first = score_all(scorer)
        assert score_all(scorer).scores.tolist() == first.scores.tolist()
        other_interval = score_all(scorer, interval=1)
        other_seed = score_all(build_scorer(self.SETTINGS, pool, host, seed=6))
        assert not np.allclose(other_interval.scores, first.scores)
        assert not np.allclose(other_seed.scores, first.scores)

    def test_random_numbers_never_meet(self) -> None:
        keys = [(s, i, o, a) for s in (0, 1) for i in (0, 1) for o in (0, 1) for a in (0, 1)]
        assert len({tuple(uniforms(*key, 3)) for key in keys}) == len(keys)
        assert uniforms(1, 2, 3, 0, 5)[:2].tolist() == uniforms(1, 2, 3, 0, 2).tolist()

    def test_tokens_are_drawn_as_often_as_they_are_likely(self) -> None:
        num = 20_000
        logits = torch.tensor([2.0, -1.0, 1.0, 0.0, -torch.inf])
        for temperature, top_p in ((1.0, 1.0), (0.7, 1.0), (1.0, 0.8)):
            p = torch.softmax(logits / temperature, dim=-1)
            if top_p < 1:  # 0.644, 0.237, 0.087: the smallest set with at least 0.8
                p = p * torch.tensor([1.0, 0, 1, 0, 0])
                p = p / p.sum()
            drawing = Drawing(0, 0, range(num), 1, temperature=temperature, top_p=top_p)
            drawn = drawing.draw(logits.expand(num, -1), torch.arange(num), 0)
            found = np.bincount(drawn.numpy(), minlength=5) / num
            np.testing.assert_allclose(found, p.numpy(), atol=0.012)
            assert (found[p.numpy() == 0] == 0).all()

    def test_answers_to_one_prompt_differ_and_each_is_one_drawn_alone(
        self, host: ModelHost, pool: Pool
    ) -> None:
        """The prompt is read once for all its answers: nothing else changes."""
        prompts = prompt_token_ids(pool, host.tokenizer)[:4]
        options: dict[str, Any] = {
            "max_new_tokens": 6, "pad_token_id": host.pad_token_id,
            "eos_token_ids": host.eos_token_ids,
        }  # fmt: skip
        model = host.model_for_inference()

        def draw(num_answers: int) -> list[list[int]]:
            drawing = Drawing(
                0, 0, range(4), 6, temperature=1.0, top_p=1.0, answers_per_prompt=num_answers
            )
            return decode(model, prompts, drawing=drawing, **options).token_ids

        alone, many = draw(1), draw(3)
        assert many[::3] == alone
        assert many[0] != many[1]


class TestPassRate:
    def test_counts_wrong_answers(
        self, host: ModelHost, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reward for texts of even length gives what counting them gives."""
        texts: list[str] = []

        def even(batch: Sequence[Answered]) -> list[bool]:
            texts.extend(each.text for each in batch)
            return [len(each.text) % 2 == 0 for each in batch]

        module = ModuleType("rewards_of_this_test")
        module.even = even  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        settings = PassRateSection.model_validate(
            {"k": 4, "max_new_tokens": 5, "metric": f"{module.__name__}:even"}
        )
        scored = score_all(build(settings, pool, host))
        assert len(texts) == 4 * 80
        assert 0.2 < scored.scores.mean() < 0.8
        odd = sum(len(text) % 2 for text in texts)
        assert scored.scores.sum() * 4 == pytest.approx(odd)


class TestReference:
    @pytest.mark.parametrize("kind", ["plain", "chat"])
    def test_tokens_are_those_trl_trains_on(
        self, kind: str, tiny_model: Path, chat_model: Path, tmp_path: Path
    ) -> None:
        from datasets import load_from_disk

        pool = pool_of([*PLAIN, {"prompt": "x = 1", "completion": "23, no space"}], tmp_path)
        model = tiny_model if kind == "plain" else chat_model
        settings = SftSection(args={"per_device_train_batch_size": 20})
        loop = Loop(model, pool, tmp_path / "run", settings, None)
        loop.trainer.prepare()
        trained = load_from_disk(str(tmp_path / "run" / "tokenized"))
        prompts, completions = reference_token_ids(pool, loop.host.tokenizer)
        for prompt, completion, row in zip(prompts, completions, trained, strict=True):
            assert [*prompt.tolist(), *completion.tolist()] == row["input_ids"]
            assert row["labels"][len(prompt) :] == completion.tolist()
            assert set(row["labels"][: len(prompt)]) == {-100}

    def test_loss_is_that_of_transformers(self, host: ModelHost, pool: Pool) -> None:
        scored = score_all(build(LossSection(), pool, host))
        perplexities = score_all(build(PerplexitySection(), pool, host))
        prompts, completions = reference_token_ids(pool, host.tokenizer)
        for ordinal in (0, 17, 79):
            ids = torch.tensor([[*prompts[ordinal].tolist(), *completions[ordinal].tolist()]])
            labels = ids.clone()
            labels[0, : len(prompts[ordinal])] = -100
            with torch.no_grad():
                loss = host.model(input_ids=ids, labels=labels).loss.item()
            assert scored.scores[ordinal] == pytest.approx(loss, rel=1e-4)
            assert perplexities.scores[ordinal] == pytest.approx(math.exp(loss), rel=1e-3)
            assert scored.n_tokens[ordinal] == len(completions[ordinal])

    @pytest.mark.parametrize("settings", [LossSection(), ReferencePrefixEntropySection()])
    def test_logits_exist_for_a_few_positions_at_a_time_and_change_nothing(
        self, settings: Any, host: ModelHost, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = score_all(build(settings, pool, host))
        limit = 80 * 400 * 3
        monkeypatch.setattr(reading_module, "_MAX_LOGITS", limit)
        forward, sizes = host.model.forward, []

        def watched(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            sizes.append(output.logits.numel())
            return output

        monkeypatch.setattr(host.model, "forward", watched)
        in_pieces = score_all(build(settings, pool, host))
        np.testing.assert_allclose(in_pieces.scores, whole.scores, rtol=NOISE)
        assert max(sizes) <= limit
        assert len(sizes) > 3

    def test_prefix_entropy_is_that_of_a_forward_pass_over_prompt_and_reference(
        self, host: ModelHost, pool: Pool
    ) -> None:
        scored = score_all(build(ReferencePrefixEntropySection(prefix_tokens=5), pool, host))
        prompts, completions = reference_token_ids(pool, host.tokenizer)
        for ordinal in (2, 50):
            prompt, completion = prompts[ordinal].tolist(), completions[ordinal].tolist()[:5]
            with torch.no_grad():
                logits = host.model(torch.tensor([prompt + completion])).logits[0].double()
            p = torch.softmax(logits[len(prompt) - 1 : -1], dim=-1)
            entropies = -(p * p.log()).sum(dim=-1)
            assert len(entropies) == len(completion)
            assert scored.scores[ordinal] == pytest.approx(entropies.mean().item(), rel=1e-4)


class TestSharedPrefix:
    def test_is_the_longest_beginning_of_all_that_leaves_each_a_token(self) -> None:
        rows = [np.array(r, dtype=np.int32) for r in ([1, 2, 3, 4], [1, 2, 3], [1, 2, 3, 9, 9])]
        assert common_beginning(rows).tolist() == [1, 2]
        assert common_beginning(rows[::2]).tolist() == [1, 2, 3]
        assert common_beginning([np.array([5]), np.array([6])]).tolist() == []

    def test_is_read_once_for_all_batches_and_changes_nothing(
        self, host: ModelHost, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = PrefixEntropySection(prefix_tokens=3, max_batch_tokens=1000, quick_answer=True)
        monkeypatch.setattr("edco_core.scoring.shared_prefix._MIN_TOKENS", 10_000)
        without = score_all(build(settings, pool, host))
        monkeypatch.undo()
        forward, shapes = host.model.forward, []

        def watched(*args: Any, **kwargs: Any) -> Any:
            shapes.append(tuple(kwargs["input_ids"].shape))
            return forward(*args, **kwargs)

        monkeypatch.setattr(host.model, "forward", watched)
        shared = score_all(build(settings, pool, host))
        np.testing.assert_allclose(shared.scores, without.scores, rtol=NOISE)
        beginnings = [shape for shape in shapes if shape[0] == 1]
        assert len(beginnings) == 1
        assert beginnings[0][1] > 20

    def test_is_read_again_when_the_weights_have_changed(
        self, tiny_model: Path, pool: Pool
    ) -> None:
        own = ModelHost(ModelSection(name_or_path=str(tiny_model), peft=None), seed=0)
        own.load_base()
        settings = PrefixEntropySection(prefix_tokens=2)
        scorer = build(settings, pool, own)
        score_all(scorer)
        with own.lent_for_training() as model, torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
        warm, fresh = score_all(scorer), score_all(build(settings, pool, own))
        assert warm.scores.tolist() == fresh.scores.tolist()


class TestEntropySettings:
    def test_top_k_is_renormalised_and_bits_are_nats_over_ln_2(self) -> None:
        logits = torch.randn(9, 500, generator=torch.Generator().manual_seed(0)) * 3
        p = torch.softmax(logits.double(), dim=-1).topk(20).values
        p = p / p.sum(dim=-1, keepdim=True)
        exact = -(p * p.log()).sum(dim=-1)
        found = entropy_function(20, "nats")(logits)
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(entropy_function(20, "bits")(logits), found / math.log(2))
        assert entropy_function(900, "nats")(logits).shape == (9,)

    def test_top_fraction_is_the_mean_of_the_highest_and_of_one_at_the_least(self) -> None:
        entropies = np.array([[5.0, 1, 4, 2, 3, 9], [7.0, 8, 9, 9, 9, 9]])
        counts = np.arange(6)[None] < np.array([[5], [2]])
        assert aggregated(entropies, counts, 0.4).tolist() == [4.5, 8.0]
        assert aggregated(entropies, counts, None).tolist() == [3.0, 7.5]
        assert aggregated(entropies, counts, 1.0).tolist() == [3.0, 7.5]

    def test_the_released_setting_is_what_the_paper_released(self) -> None:
        section = PrefixEntropySection(preset="edco_released")
        assert (section.prefix_tokens, section.decoding, section.unit) == (128, "sample", "bits")
        assert (section.temperature, section.top_p, section.k) == (0.7, 0.7, 20)
        assert (section.aggregate, section.fraction, section.chat_template) == (
            "top_fraction", 0.2, False,
        )  # fmt: skip
        again = PrefixEntropySection.model_validate(section.model_dump(mode="json"))
        assert again == section

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"k": 5}, "'k' would be ignored: it belongs to 'vocabulary: top_k'"),
            ({"fraction": 0.1}, "'fraction' would be ignored: it belongs to 'aggregate: top_frac"),
            ({"temperature": 1.0}, "'temperature' would be ignored: it belongs to 'decoding: samp"),
            ({"decoding": "greedy", "top_p": 0.5}, "'top_p' would be ignored"),
            ({"preset": "edco_released", "k": 5}, "preset 'edco_released' decides k"),
            ({"preset": "edco_released", "unit": "nats"}, "preset 'edco_released' decides unit"),
        ],
    )
    def test_a_setting_that_would_be_ignored_is_refused(
        self, values: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValidationError, match=message):
            PrefixEntropySection(**values)

    def test_without_the_chat_template_a_chat_model_gets_plain_text(
        self, chat_model: Path, tmp_path: Path
    ) -> None:
        pool = pool_of(PLAIN, tmp_path)
        host = ModelHost(ModelSection(name_or_path=str(chat_model), peft=None), seed=0)
        ids = prompt_token_ids(pool, host.tokenizer, chat_template=False)
        texts = [host.tokenizer.decode(each) for each in ids]
        assert texts == pool.table.column("prompt").to_pylist()


def test_full_entropy_goes_on_to_the_end_of_the_answer(host: ModelHost, pool: Pool) -> None:
    """Over answers that all end by themselves it is prefix entropy with as many tokens."""
    full: ScoreShard = score_all(build(FullEntropySection(max_new_tokens=9), pool, host))
    prefix = score_all(build(PrefixEntropySection(prefix_tokens=9, quick_answer=False), pool, host))
    assert full.scores.tolist() == prefix.scores.tolist()
