"""A configuration says what it means: what is unknown, wrong or would be ignored is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edco_core.config import (
    DEFAULT_STORE_URL,
    LOOP_OWNED_ARGS,
    Config,
    EdcoSection,
    load_config,
    parse_config,
)
from edco_core.config_scoring import RANKING_STRATEGIES
from edco_core.curriculum import build_strategy
from edco_core.errors import ConfigError

SMALLEST: dict[str, Any] = {"model": {"name_or_path": "m"}, "data": {"train": "t", "eval": "e"}}


def problems(**sections: Any) -> list[str]:
    """What is wrong with the smallest configuration when these sections are laid over it."""
    values = dict(SMALLEST)
    for name, section in sections.items():
        base = values.get(name)
        together = isinstance(section, dict) and isinstance(base, dict)
        values[name] = {**base, **section} if together else section
    with pytest.raises(ConfigError) as caught:
        parse_config(values)
    head, *lines = str(caught.value).splitlines()
    assert head == "configuration:"
    return [line.strip() for line in lines]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"trainig": {}},
            "trainig: unknown key. Allowed here: curriculum, data, evaluation, model, run, "
            "scoring, store, training. Did you mean 'training'?",
        ),
        (
            {"run": {"sead": 1}},
            "run.sead: unknown key. Allowed here: experiment, keep_checkpoints, name, output_dir, "
            "seed. Did you mean 'seed'?",
        ),
        (
            {"model": {"peft": {"lora_alfa": 1}}},
            "model.peft.lora_alfa: unknown key. Allowed here: bias, lora_alpha, lora_dropout, "
            "modules_to_save, r, target_modules, type, use_dora, use_rslora. "
            "Did you mean 'lora_alpha'?",
        ),
        (
            {"data": {"columns": {"promt": "question"}}},
            "data.columns.promt: 'promt' came. Allowed: answer, category, completion, messages, "
            "prompt, sample_id. Did you mean 'prompt'?",
        ),
        (
            {"curriculum": {"type": "random", "temperature": 2.0}},
            "curriculum.temperature: unknown key. Allowed here: guard, intervals, top_n, type.",
        ),
        (
            {"curriculum": {"temprature": 2.0}},
            "curriculum.temprature: unknown key. Allowed here: guard, intervals, "
            "max_category_share, order, preset, random_share, skip_top, temperature, "
            "temperature_end, top_n, type. Did you mean 'temperature'?",
        ),
        (
            {"curriculum": {"type": "edko"}},
            "curriculum.type: 'edko' came. Allowed: adarft, ",
        ),
        (
            {"scoring": {"type": "prefix_entropie"}},
            "scoring.type: 'prefix_entropie' came. Allowed: full_entropy, loss, module:attribute, "
            "pass_rate, perplexity, prefix_entropy, reference_prefix_entropy. "
            "Did you mean 'prefix_entropy'?",
        ),
        (
            {"curriculum": "random"},
            "curriculum: should be a section, such as {type: random} (came: 'random'). Allowed: "
            "adarft, ",
        ),
        ({"scoring": 3}, "scoring: should be a section with a 'type' (came: 3). Allowed: "),
        ({"curriculum": {"type": None}}, "curriculum.type: missing. Allowed: adarft, "),
        (
            {"curriculum": {"type": "stages", "stages": [{"strategy": "random"}]}},
            "curriculum.stages.0.strategy: should be a section, such as {type: random}",
        ),
        (
            {"curriculum": {"intervals": 1, "temperature_end": 0.5}},
            "curriculum: temperature_end would be ignored: there is",
        ),
        (
            {"scoring": {"engine": "vllm", "max_batch_tokens": 99}},
            "scoring: max_batch_tokens would be ignored with engine: vllm",
        ),
        ({"training": {"type": "gpro"}}, "training.type: 'gpro' came. Allowed: grpo, sft."),
        ({"training": {"type": "grpo"}}, "training.rewards: missing; it has no default."),
        (
            {"training": {"type": "grpo", "rewards": [{"type": "numerik"}]}},
            "training.rewards.0.type: 'numerik' came. Allowed: ",
        ),
        (
            {"model": {"peft": {"type": "loha"}}},
            "model.peft.type: 'loha' came. Allowed: lora. Did you mean 'lora'?",
        ),
        (
            {"evaluation": {"metric": "exact_mach"}},
            "evaluation.metric: 'exact_mach' came. Allowed: choice, contains, exact_match, format, "
            "llm_judge, math, module:attribute, numeric, regex. Did you mean 'exact_match'?",
        ),
        (
            {"evaluation": {"metric": {"type": "exact_mach"}}},
            "evaluation.metric.type: 'exact_mach' came. Allowed: choice, contains, exact_match, "
            "format, llm_judge, math, module:attribute, numeric, regex. "
            "Did you mean 'exact_match'?",
        ),
        (
            {"evaluation": {"metric": {"type": "numeric", "tolerence": 1}}},
            "evaluation.metric.tolerence: unknown key. Allowed here: against, on_error, tag, "
            "tolerance, type, weight. Did you mean 'tolerance'?",
        ),
        (
            {"evaluation": {"metric": {"tolerance": 1}}},
            "evaluation.metric.type: missing. Allowed: choice, contains,",
        ),
        (
            {"evaluation": {"metric": {"type": "numeric", "weight": 2}}},
            "evaluation.metric: weight would be ignored: a metric is one reward alone",
        ),
        (
            {"evaluation": {"metric": "regex"}},
            "evaluation.metric.pattern: missing; it has no default.",
        ),
        (
            {"evaluation": {"pass_at_k": {"k": 4, "report": [1, 8]}}},
            "evaluation.pass_at_k: report: 8 came, but k: 4 answers are drawn.",
        ),
        (
            {"data": {"on_bad_rows": "skipp"}},
            "data.on_bad_rows: 'skipp' came. Allowed: error, skip. Did you mean 'skip'?",
        ),
        ({"model": {"name_or_path": None}}, "model.name_or_path: should be a valid string"),
    ],
)
def test_an_unknown_name_is_told_with_what_is_allowed_and_what_is_near(
    sections: dict[str, Any], message: str
) -> None:
    (problem,) = problems(**sections)
    assert problem.startswith(message)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.name_or_path: missing; it has no default"):
        parse_config({"model": {}, "data": {"train": "t"}})
    with pytest.raises(ConfigError, match=r"data: missing"):
        parse_config({"model": {"name_or_path": "m"}})


def test_all_mistakes_are_told_at_once_one_line_each() -> None:
    found = problems(
        run={"seed": -1}, curriculum={"top_n": "many"}, scoring={"quick_answer": 3}, model=None
    )
    assert len(found) == 4
    assert "run.seed: should be greater than or equal to 0 (came: -1)." in found
    assert "model: should be a section of 'key: value' lines (came: None)." in found


@pytest.mark.parametrize("key", sorted(LOOP_OWNED_ARGS))
def test_a_training_argument_that_the_loop_decides_is_refused_with_its_owner(key: str) -> None:
    (problem,) = problems(training={"args": {key: 1}})
    assert f"'{key}' is decided by {LOOP_OWNED_ARGS[key]}" in problem


def test_every_owner_that_is_a_setting_exists() -> None:
    sections = Config.model_fields
    for owner in LOOP_OWNED_ARGS.values():
        words = owner.split()
        name, _, key = words[0].rstrip(",:").partition(".")
        if name in sections and key:
            section = json.dumps(parse_config(SMALLEST).model_dump(mode="json")[name])
            assert f'"{key.split(".")[0]}"' in section, owner


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"eval": None}, "evaluation": {}}, "evaluation would be ignored without"),
        ({"model": {"load_in_4bit": True, "peft": None}}, "load_in_4bit needs 'peft'"),
        ({"curriculum": {"preset": "paper", "temperature": 1}}, "'paper' decides temperature"),
        (
            {"curriculum": {"preset": "paper", "skip_top": 0.1, "order": "shuffled"}},
            "'paper' decides order, skip_top",
        ),
    ],
)
def test_settings_that_would_be_ignored_are_errors(sections: dict[str, Any], message: str) -> None:
    (problem,) = problems(**sections)
    assert message in problem


def test_the_papers_preset_is_the_papers_rule_and_agrees_with_saying_it_twice() -> None:
    preset = EdcoSection.model_validate({"preset": "paper"})
    assert (preset.temperature, preset.skip_top, preset.order) == (0.0, 0.0, "descending")
    assert EdcoSection.model_validate({"preset": "paper", "temperature": 0}) == preset


class TestTopN:
    @pytest.mark.parametrize(
        "value", [0, -3, 0.0, 1.5, 800.0, float("nan"), "10%", "0.5", True, None, [1]]
    )
    def test_what_is_neither_count_nor_fraction_is_refused(self, value: Any) -> None:
        (problem,) = problems(curriculum={"top_n": value})
        assert problem.startswith("curriculum.top_n: ")

    @pytest.mark.parametrize(("top_n", "count"), [(1, 1), (1.0, 80), (80, 80), (0.25, 20)])
    def test_a_whole_number_is_a_count_and_one_with_a_point_a_fraction(
        self, top_n: float, count: int
    ) -> None:
        assert EdcoSection(top_n=top_n).count(80) == count

    def test_a_fraction_is_at_least_one_sample(self) -> None:
        assert EdcoSection(top_n=0.001).count(80) == 1

    def test_more_than_the_pool_is_refused_with_both_numbers(self) -> None:
        with pytest.raises(ConfigError, match="81 samples were asked for, the pool has 80"):
            EdcoSection(top_n=81).count(80)

    def test_more_than_skip_top_leaves_is_refused_with_what_it_leaves(self) -> None:
        with pytest.raises(ConfigError, match=r"skip_top 0\.5 leaves 40 of 80.*top_n up to 40"):
            EdcoSection(top_n=41, skip_top=0.5).count(80)
        assert EdcoSection(top_n=40, skip_top=0.5).count(80) == 40

    def test_a_random_share_of_less_than_a_sample_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"random_share: 0\.04 of 20 .* Allowed: 0, or 0\.05"):
            EdcoSection(top_n=20, random_share=0.04).count(80)
        assert EdcoSection(top_n=20, random_share=0.05).count(80) == 20

    @pytest.mark.parametrize("num", [7, 13, 30, 49, 1000])
    def test_the_share_that_the_refusal_names_is_taken(self, num: int) -> None:
        with pytest.raises(ConfigError) as refused:
            EdcoSection(top_n=num, random_share=1e-5).count(2000)
        share = float(re.findall(r"or (\S+) and more", str(refused.value))[0])
        assert EdcoSection(top_n=num, random_share=share).count(2000) == num


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "edco.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


class TestSet:
    @pytest.fixture
    def path(self, write: Callable[[str], Path]) -> Path:
        return write(yaml.safe_dump(SMALLEST))

    @pytest.mark.parametrize(
        ("override", "key", "value"),
        [
            ("training.args.learning_rate=1e-4", "training.args.learning_rate", 1e-4),
            ("training.args.learning_rate=2.5E-05", "training.args.learning_rate", 2.5e-5),
            ("curriculum.top_n=0.1", "curriculum.top_n", 0.1),
            ("curriculum.top_n=7", "curriculum.top_n", 7),
            ("model.peft=null", "model.peft", None),
            ("model.peft.target_modules=[q_proj, v_proj]", "model.peft.target_modules", ...),
            ("scoring.quick_answer=Q={prompt}", "scoring.quick_answer", "Q={prompt}"),
            ("evaluation.every=3", "evaluation.every", 3),  # a section the file does not have
        ],
    )
    def test_reads_its_value_as_yaml(
        self, path: Path, override: str, key: str, value: object
    ) -> None:
        if value is ...:
            value = ["q_proj", "v_proj"]
        found: Any = load_config(path, [override]).model_dump(mode="python")
        for part in key.split("."):
            found = found[part]
        assert found == value
        assert type(found) is type(value)

    def test_of_one_key_the_last_counts(self, path: Path) -> None:
        assert load_config(path, ["run.seed=1", "run.seed=2"]).run.seed == 2

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("run.seed", r"--set run\.seed: expected key\.sub=value"),
            ("=3", "--set =3: expected"),
            ("run.seed.x=3", "'seed' is a value, not a section"),
            ("run.seed=[", "the value is not valid YAML"),
            ("run.sede=3", r"run\.sede: unknown key.*Did you mean 'seed'"),
            ("training.args.seed=3", "'seed' is decided by run.seed"),
        ],
    )
    def test_what_it_cannot_set_is_refused(self, path: Path, override: str, message: str) -> None:
        if override == "run.seed.x=3":
            path.write_text(yaml.safe_dump({**SMALLEST, "run": {"seed": 1}}))
        with pytest.raises(ConfigError, match=message):
            load_config(path, [override])


class TestFile:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("run: [", "not valid YAML"),
            ("- a\n- b\n", r"expected sections \(curriculum, data, .*found list"),
            ("", "found NoneType"),
            ("just words\n", "found str"),
            ("run: {seed: 1}\nrun: {seed: 2}\n", "'run' comes twice.*line 2"),
            ("run:\n  seed: 1\n  name: a\n  seed: 2\n", "'seed' comes twice.*line 4"),
        ],
    )
    def test_that_is_no_configuration_is_refused_by_name(
        self, write: Callable[[str], Path], text: str, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=rf"(?s)edco\.yaml: .*{message}"):
            load_config(write(text))

    def test_that_is_missing_or_not_text_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no\.yaml: cannot be read .*'edco init'"):
            load_config(tmp_path / "no.yaml")
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(tmp_path)
        binary = tmp_path / "binary.yaml"
        binary.write_bytes(b"\xff\xfe\x00run")
        with pytest.raises(ConfigError, match=r"binary\.yaml: not a text file in UTF-8"):
            load_config(binary)

    def test_may_write_numbers_with_an_exponent_and_no_point(
        self, write: Callable[[str], Path]
    ) -> None:
        text = yaml.safe_dump(SMALLEST) + "training: {args: {learning_rate: 1e-4}}\n"
        assert load_config(write(text)).training.args == {"learning_rate": 1e-4}

    def test_may_merge_anchors(self, write: Callable[[str], Path]) -> None:
        text = "model: {name_or_path: m}\ndata: &d {train: t}\nevaluation: null\n"
        assert load_config(write(text + "run: {<<: {seed: 1}, seed: 2}\n")).run.seed == 2


def test_evaluation_has_defaults_when_there_is_data_for_it_and_is_off_otherwise() -> None:
    assert parse_config(SMALLEST).evaluation is not None
    without = {"model": {"name_or_path": "m"}, "data": {"train": "t"}}
    assert parse_config(without).evaluation is None


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"data": {"train": "t", "eval": None}},
        {"curriculum": {"preset": "paper", "top_n": 12}},
        {"curriculum": {"type": "random", "top_n": 0.5}},
        {"model": {"name_or_path": "m", "peft": None}},
        {"model": {"name_or_path": "m", "peft": {"target_modules": ["q_proj"]}}},
        {"data": {"train": "t", "columns": {"prompt": "question"}}},
        {"training": {"args": {"learning_rate": 1e-4}}, "scoring": {"quick_answer": "{prompt}!"}},
    ],
)
def test_what_the_ledger_keeps_is_json_without_the_address_and_means_the_same(
    sections: dict[str, Any],
) -> None:
    config = parse_config({**SMALLEST, **sections, "store": {"url": "postgresql://u:secret@h/d"}})
    kept = json.dumps(config.for_ledger())
    assert "secret" not in kept
    again = parse_config(json.loads(kept))
    assert again == config.model_copy(update={"store": again.store})
    assert again.for_ledger() == config.for_ledger()


@pytest.mark.parametrize("keep_texts", [True, False])
def test_whether_texts_are_kept_is_known_again_when_a_run_is_resumed(keep_texts: bool) -> None:
    config = parse_config({**SMALLEST, "store": {"url": "duckdb:///a", "keep_texts": keep_texts}})
    assert config.for_ledger()["store"] == {"keep_texts": keep_texts}
    assert parse_config(config.for_ledger()).store.keep_texts is keep_texts
    assert parse_config(SMALLEST).store.keep_texts is True


def test_the_ledger_is_the_command_lines_else_the_files_else_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = parse_config(SMALLEST)
    with_url = parse_config({**SMALLEST, "store": {"url": "duckdb:///file.duckdb"}})
    monkeypatch.delenv("EDCO_STORE", raising=False)
    assert plain.store_url() == DEFAULT_STORE_URL
    monkeypatch.setenv("EDCO_STORE", "duckdb:///environment.duckdb")
    assert plain.store_url() == "duckdb:///environment.duckdb"
    assert with_url.store_url() == "duckdb:///file.duckdb"
    assert with_url.store_url("duckdb:///line.duckdb") == "duckdb:///line.duckdb"


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"curriculum": {"type": "random"}}, "'random' does not select the highest of anything"),
        ({"curriculum": {"skip_top": 0.1}}, "known only when all are scored"),
        ({"curriculum": {"intervals": 1}}, "it would be ignored"),
    ],
)
def test_selective_rescoring_is_refused_where_it_makes_no_sense(
    sections: dict[str, Any], problem: str
) -> None:
    (line,) = problems(scoring={"rescore": {"policy": "selective"}}, **sections)
    assert problem in line


def test_settings_of_selective_rescoring_without_it_are_refused_and_have_defaults_with_it() -> None:
    (line,) = problems(scoring={"rescore": {"target_recall": 0.9}})
    assert "'target_recall' would be ignored" in line
    selective = {"rescore": {"policy": "selective", "audit_share": 0.2}}
    rescore = parse_config({**SMALLEST, "scoring": selective}).scoring.rescore
    assert (rescore.audit_share, rescore.target_recall) == (0.2, 0.95)


def test_strategies_said_to_rank_can_tell_their_ranking() -> None:
    for name in RANKING_STRATEGIES:
        scoring = {"type": "loss"}
        values = {**SMALLEST, "curriculum": {"type": name}, "scoring": scoring}
        section = parse_config(values).curriculum
        rng = np.random.default_rng(0)
        assert build_strategy(section).ranking(np.arange(5.0), rng) is not None
