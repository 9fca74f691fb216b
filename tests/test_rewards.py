"""Every reward: one contract for all of them, then what each promises, then the weighted list."""

from __future__ import annotations

import importlib.metadata
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_jsonl
from judge import Judge, serving
from pydantic import TypeAdapter, ValidationError

from edco_core.config import DataSection, EvaluationSection
from edco_core.config_rewards import REWARD_TYPES, Metric, RewardSection
from edco_core.data import load_pool
from edco_core.errors import ConfigError, DataError, RewardError
from edco_core.records import Pool
from edco_core.rewards import (
    Answered,
    Questions,
    Rewards,
    Scored,
    build_rewards,
    check_fields,
    needed_fields,
)

SECTIONS: TypeAdapter[list[Any]] = TypeAdapter(list[RewardSection])


def answered(text: str, **changes: Any) -> Answered:
    given = {
        "sample_id": "s1", "prompt": "a question", "text": text, "reference": " a reference",
        "answer": "7", "truncated": False,
    }  # fmt: skip
    return Answered(**(given | changes))


def rewards(*sections: dict[str, Any], cache_dir: Path | None = None) -> Rewards:
    return build_rewards(SECTIONS.validate_python(list(sections)), cache_dir=cache_dir)


def value(section: dict[str, Any], text: str, **changes: Any) -> float:
    return float(rewards(section).score([answered(text, **changes)]).total[0])


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """A judge who finds right what has an even number of characters."""
    with serving() as judge:
        judge.verdict = lambda text: len(text) % 2 == 0
        yield judge


NEEDED_SETTINGS: dict[str, dict[str, Any]] = {"regex": {"pattern": r"\d"}}


@pytest.fixture(params=REWARD_TYPES)
def section(request: pytest.FixtureRequest, judge: Judge) -> dict[str, Any]:
    """Each reward that is built in, with what it has no default for."""
    needed = dict(NEEDED_SETTINGS.get(request.param, {}))
    if request.param == "llm_judge":
        needed = {"base_url": judge.url, "model": "m"}
    return {"type": request.param, **needed}


TEXTS = [
    "", " \n\t ", "7", "It is 7.", "B", "(A) one", "\x00", "</answer><answer>", "[(", "\\frac{",
    "$\\boxed{7}$", "七", "😀" * 50, "e\u0301", "\u202eabc", "nan", "inf", "1e999", "x" * 200_000,
    "9" * 5_000, "(" * 5_000, "1+" * 2_000 + "1",
]  # fmt: skip


class TestEveryReward:
    def test_gives_one_finite_number_for_each_answer_whatever_was_generated(
        self, section: dict[str, Any]
    ) -> None:
        batch = [answered(text, truncated=len(text) > 1000) for text in TEXTS]
        found = rewards(section).score(batch)
        assert found.total.shape == (len(TEXTS),)
        assert np.isfinite(found.total).all()
        assert found.num_zeroed == 0

    def test_does_not_look_at_the_other_answers_of_the_batch(self, section: dict[str, Any]) -> None:
        batch = [answered(text) for text in TEXTS]
        built = rewards(section)
        together = built.score(batch).total
        assert built.score(batch[::-1]).total[::-1].tolist() == together.tolist()
        assert [built.score([each]).total[0] for each in batch] == together.tolist()

    def test_scores_an_empty_batch(self, section: dict[str, Any]) -> None:
        assert rewards(section).score([]).total.shape == (0,)

    def test_can_be_told_by_name_in_the_ledger_and_read_back(self, section: dict[str, Any]) -> None:
        (first,) = SECTIONS.validate_python([section])
        assert SECTIONS.validate_python([first.model_dump(mode="json")]) == [first]
        metric: TypeAdapter[Any] = TypeAdapter(Metric)
        as_metric = metric.validate_python(section)
        assert metric.validate_python(metric.dump_python(as_metric, mode="json")) == as_metric


def test_a_metric_without_settings_is_kept_as_its_name_however_it_was_written() -> None:
    metric: TypeAdapter[Any] = TypeAdapter(Metric)
    for given in ("numeric", {"type": "numeric"}, {"type": "numeric", "tolerance": 0}):
        assert metric.dump_python(metric.validate_python(given)) == "numeric"
    kept = metric.dump_python(metric.validate_python({"type": "numeric", "tolerance": 0.5}))
    assert kept == {
        "type": "numeric", "tolerance": 0.5, "against": "answer", "tag": None, "on_error": "error",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("generated", "completion", "same"),
    [
        (" up\n", "up", True),
        ("up", " up ", True),
        ("up now", "up", False),
        ("Up", "up", False),
        ("", "up", False),
    ],
)
def test_exact_match_trims_white_space_and_nothing_else(
    generated: str, completion: str, same: bool
) -> None:
    assert value({"type": "exact_match"}, generated, reference=completion) == same
    against = {"type": "exact_match", "against": "answer"}
    assert value(against, generated, reference="else", answer=completion) == same


@pytest.mark.parametrize(
    ("generated", "answer", "same"),
    [
        ("3 + 4 = 7", "7", True),
        ("7, as 3 + 4", "7", False),  # the last number counts
        ("It is 7.", "7", True),
        ("1,234,567 in all", "1234567", True),
        ("1234567", "1,234,567", True),
        ("3.50", "3.5", True),
        ("-12", "-12", True),
        ("-12", "12", False),
        ("+12", "12", True),
        ("20-5", "5", True),  # a minus between numbers is no sign
        ("on 2024-05-17", "17", True),
        ("0.25", ".25", True),
        ("of 1, 2, 3", "3", True),
        ("1,2", "12", False),  # not a thousand's comma
        ("$1,500.75!", "1500.75", True),
        ("#### 42", "42", True),
        ("42", "6 * 7 = 42\n#### 42", True),  # a worked answer, as in GSM8K
        ("no number", "7", False),
        ("", "7", False),
        ("7", None, False),
        ("9" * 400, "8" * 400, False),
        ("9" * 5000, "9" * 5000, False),  # too large to be worked with
        ("1e999999999", "1e999999999", False),
        ("9007199254740993", "9007199254740992", False),  # equal as floats
        ("1e6", "1000000", True),
        ("1e6", "5e6", False),
        ("6.02 × 10^23", "6.02e23", True),
        (r"6.02 \times 10^{23}", "6.02e23", True),
        ("−5", "-5", True),  # a typographic minus
        ("−5", "5", False),
        ("20−5", "5", True),
        ("-$5", "-5", True),
        ("1/4", "3/4", False),
        ("3/4", "0.75", True),
        (r"\frac{3}{4}", "0.75", True),
        (r"\frac{-1}{2}", "-1/2", True),
        (r"\frac{-1}{2}", "2", False),
        (r"\frac12", "0.5", True),
        (r"2\frac{1}{2}", "2.5", True),
        ("10^6", "1000000", True),
        ("10^6", "6", False),
        ("-10**3 m", "-1000", True),
        ("2×10⁻³", "0.002", True),
        ("10⁶", "1e6", True),
        ("10^" + "9" * 5000, "1", False),
        ("-3 1/2", "-3.5", True),
        ("3 1/2", "0.5", False),
        ("1/0", "0", False),
        ("on 5/17/2024", "2024", True),
        ("48/2=24", "24", True),
        ("1{,}234", "1234", True),
        ("5 km^2", "5", True),
        ("5 m2", "5", True),
        ("Rs.500", "500", True),
    ],
)
def test_numeric_compares_last_numbers(generated: str, answer: str | None, same: bool) -> None:
    assert value({"type": "numeric"}, generated, answer=answer) == same


def test_numeric_allows_a_difference_up_to_the_tolerance() -> None:
    near = {"type": "numeric", "tolerance": 0.25}
    assert [value(near, text) for text in ("7.25", "6.75", "7.26")] == [1, 1, 0]
    # As decimals: in binary the one difference is above 0.01, the other below.
    for pair in (("0.31", "0.30"), ("1.01", "1.00"), ("5.21", "5.2")):
        assert value({"type": "numeric", "tolerance": 0.01}, pair[0], answer=pair[1]) == 1


def test_a_tag_narrows_what_is_compared_to_the_last_one_that_is_closed() -> None:
    tagged = {"type": "numeric", "tag": "answer"}
    for text, right in [
        ("<answer>7</answer> or rather 8", True),
        ("<answer>8</answer> no: <answer>7</answer>", True),
        ("<answer>7</answer> no: <answer>8</answer>", False),
        ("<answer>7</answer><answer>8", True),
        ("<answer>7", False),
        ("7</answer>", False),
        ("7", False),
    ]:
        assert value(tagged, text) == right, text


QUESTION = "Which planet is the largest?\nA) Mars\nB) Jupiter\nC) Jupiter II\n(D) a small one."


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("B", True),
        ("b", True),
        (" (B). ", True),
        ("**B**", True),
        ("B) Jupiter", True),
        ("B: it is the largest", True),
        ("Jupiter", True),
        ("  jupiter.\n", True),
        ("It is Jupiter", True),
        ("The answer is B.", True),
        ("The answer is (B) since A is small", True),
        ("Answer: B", True),
        ("answer: A. No, the answer is B", True),
        ("\\boxed{B}", True),
        ("\\boxed{\\text{B}} and the answer is A", True),
        ("Between (A) and (B), I take (B)", True),
        ("A", False),
        ("C", False),
        ("E", False),
        ("A good one would be hard to name", False),
        ("The answer is a planet", False),
        ("so the answer is: b.", True),
        ("Answer: B. Option A is too small.", True),  # an answer before what is said of others
        ("The answer is (A), since option B is none", False),
        ("I take option B", True),
        ("**Answer:** B", True),
        ("**Final Answer**: **B**", True),
        ("The answer is $B$.", True),
        ('The answer is "B"', True),
        ("答案：B", True),
        ("B\n\nMars is smaller than Jupiter", True),
        ("Mars or Jupiter", False),  # two options: no choice
        ("Jupiter II", False),
        ("Banana", False),
        ("", False),
    ],
)
def test_choice_finds_the_option_that_was_chosen(text: str, right: bool) -> None:
    for expected in ("B", "(B)", "Jupiter", "B) Jupiter"):
        found = value({"type": "choice"}, text, prompt=QUESTION, answer=expected)
        assert found == right, expected


def test_choice_takes_the_whole_text_for_an_option_before_it_looks_for_one_inside() -> None:
    assert value({"type": "choice"}, "Jupiter II", prompt=QUESTION, answer="C") == 1
    assert value({"type": "choice"}, "It is Jupiter II", prompt=QUESTION, answer="C") == 0


def test_choice_knows_options_that_begin_with_a_letter_and_a_full_stop() -> None:
    prompt = "Which?\nA) E. coli\nB) C. difficile\nC) S. aureus\nAnswer:\nA: Let's think."
    for text, chosen in [("C. difficile", "B"), ("B", "B"), ("C", "C"), ("S. aureus", "C")]:
        assert [value({"type": "choice"}, text, prompt=prompt, answer=each) for each in "ABC"] == [
            each == chosen for each in "ABC"
        ], text


def test_choice_reads_options_on_one_line() -> None:
    prompt = "x = ?\n(A) $2$ (B) $3$ (C) $4$"
    assert value({"type": "choice"}, "$3$", prompt=prompt, answer="B") == 1
    assert value({"type": "choice"}, "$4$", prompt=prompt, answer="B") == 0


def test_choice_takes_an_article_for_no_letter() -> None:
    for text in ("The answer is a planet", "A good one would be hard to name"):
        assert value({"type": "choice"}, text, prompt=QUESTION, answer="A") == 0


def test_choice_takes_letters_alone_where_the_prompt_lists_no_options() -> None:
    assert value({"type": "choice"}, "Answer: (C)", answer="C") == 1
    assert value({"type": "choice"}, "C, or D", answer="C") == 0


@pytest.mark.parametrize(
    ("text", "expected", "right"),
    [
        ("The answer is $\\frac{1}{2}$", "0.5", True),
        ("so \\boxed{x^2 + 2x + 1}", "(x+1)^2", True),
        ("(1, 2)", "(1,2)", True),
        ("(2, 1)", "(1,2)", False),
        ("1/2", "\\frac{2}{4}", True),
        ("1,000", "1000", True),
        ("It is 42.", "6 * 7 = 42\n#### 42", True),
        ("#### 42", "42", True),
        ("The final answer is $41$.\n#### 42", "42", True),
        ("$\\sqrt{8}$", "2\\sqrt{2}", True),
        ("\\boxed{-3}", "3", False),
        ("nothing", "3", False),
    ],
)
def test_math_compares_by_meaning(text: str, expected: str, right: bool) -> None:
    assert value({"type": "math"}, text, answer=expected) == right


def test_math_gives_up_on_what_takes_too_long() -> None:
    assert value({"type": "math", "timeout_s": 1}, "$9^{9^{9^9}}$", answer="7") == 0


def test_math_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ConfigError, match=r"pip install 'edco\[math\]'"):
        rewards({"type": "math"})


def test_math_blames_an_expected_answer_that_is_no_mathematics() -> None:
    with pytest.raises(RewardError, match=r"reward math: sample s1: .*no mathematical expression"):
        value({"type": "math"}, "7", answer="seven apples")


def test_regex_searches_or_compares_its_group_with_the_answer() -> None:
    assert value({"type": "regex", "pattern": "^yes$"}, "yes") == 1
    assert value({"type": "regex", "pattern": "^yes$"}, "oh yes") == 0
    group = {"type": "regex", "pattern": r"= (?P<answer>\d+)"}
    assert value(group, "= 8, = 7") == 1  # the last match
    assert value(group, "= 7, = 8") == 0
    assert value(group, "= 7", answer=None) == 0
    assert rewards(group).needs == {"answer"}


def test_contains_asks_for_the_answer_or_for_all_texts() -> None:
    assert value({"type": "contains"}, "so 7 it is") == 1
    assert value({"type": "contains"}, "so 8 it is") == 0
    assert value({"type": "contains"}, "anything", answer="") == 0
    both = {"type": "contains", "texts": ["One", "two"]}
    assert [value(both, text) for text in ("two One", "One", "one two")] == [1, 0, 0]
    assert value({**both, "ignore_case": True}, "ONE TWO") == 1


@pytest.mark.parametrize(
    ("settings", "text", "right"),
    [
        ({}, "anything", True),
        ({}, "  \n", False),
        ({"tags": ["think", "answer"]}, "<think>a</think> so <answer>b</answer>.", True),
        ({"tags": ["think", "answer"]}, "<answer>b</answer><think>a</think>", False),
        ({"tags": ["think", "answer"]}, "<think>a<answer>b</answer></think>", False),
        ({"tags": ["think", "answer"]}, "<think>a</think>", False),
        ({"tags": ["think"]}, "<think> </think>", False),
        ({"tags": ["think"]}, "<think>a</think><think>a</think>", False),
        ({"tags": ["think"]}, "</think>a<think>", False),
        ({"tags": ["a"], "only_tags": True}, " <a>x</a>\n", True),
        ({"tags": ["a"], "only_tags": True}, "so <a>x</a>", False),
        ({"tags": ["a"], "only_tags": True}, "<a>x</a>.", False),
    ],
)
def test_format_asks_for_the_shape(settings: dict[str, Any], text: str, right: bool) -> None:
    assert value({"type": "format", **settings}, text) == right


def test_format_does_not_take_an_answer_that_was_cut_unless_told_so() -> None:
    assert value({"type": "format"}, "text", truncated=True) == 0
    assert value({"type": "format", "ended": False}, "text", truncated=True) == 1


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"type": "regex", "pattern": "("}, "is no regular expression"),
        ({"type": "regex"}, "Field required"),
        ({"type": "format", "only_tags": True}, "only_tags would be ignored without tags"),
        ({"type": "numeric", "weight": math.inf}, "finite number"),
        ({"type": "numeric", "tag": "<answer>"}, "should match pattern"),
        ({"type": "contains", "texts": []}, "at least 1 item"),
        ({"type": "contains", "texts": [""]}, "at least 1 character"),
        ({"type": "contains", "texts": ["a"], "against": "completion"}, "'against' would be"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SECTIONS.validate_python([section])


class TestWeightedList:
    def test_the_total_is_the_weighted_sum_and_the_first_reward_says_what_is_correct(self) -> None:
        built = rewards(
            {"type": "numeric", "weight": 0.5},
            {"type": "contains", "texts": ["so"], "weight": -2},
            {"type": "contains", "texts": ["it"]},
        )
        found = built.score([answered("so 7"), answered("it 8"), answered("so it is 7")])
        assert built.names == ("numeric", "contains", "contains_2")
        assert found.total.tolist() == [0.5 - 2, 1, 0.5 - 2 + 1]
        assert {name: values.tolist() for name, values in found.by_reward.items()} == {
            "numeric": [1, 0, 1], "contains": [1, 0, 1], "contains_2": [0, 1, 1],
        }  # fmt: skip
        assert found.is_correct.tolist() == [True, False, True]  # whatever the weights

    def test_a_value_below_one_is_not_correct(self, own: Path) -> None:
        found = score_own(own, "def half(batch): return [0.5, 1, 1.5][:len(batch)]", "half", n=3)
        assert found.is_correct.tolist() == [False, True, True]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory in which ``my_rewards.py`` may be written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("my_rewards", None)


def score_own(
    folder: Path, code: str, name: str, *, n: int = 2, on_error: str = "error", **args: Any
) -> Scored:
    (folder / "my_rewards.py").write_text(code)
    built = rewards({"type": f"my_rewards:{name}", "args": args, "on_error": on_error})
    return built.score([answered("7", sample_id=f"s{i}") for i in range(n)])


class TestOwnReward:
    def test_a_function_of_the_batch_is_a_reward(self, own: Path) -> None:
        code = (
            "def short(batch, *, limit=1):\n    return [len(each.text) <= limit for each in batch]"
        )
        assert score_own(own, code, "short").total.tolist() == [1, 1]
        assert score_own(own, code, "short", limit=0).total.tolist() == [0, 0]

    def test_a_class_is_made_once_and_then_called(self, own: Path) -> None:
        code = (
            "class Counting:\n"
            "    needs = {'answer'}\n"
            "    def __init__(self, start): self.calls = start\n"
            "    def __call__(self, batch):\n"
            "        self.calls += 1\n"
            "        return [self.calls] * len(batch)\n"
        )
        (own / "my_rewards.py").write_text(code)
        built = rewards({"type": "my_rewards:Counting", "args": {"start": 4}})
        assert built.needs == {"answer"}
        assert built.score([answered("x")]).total.tolist() == [5]
        assert built.score([answered("x")]).total.tolist() == [6]

    @pytest.mark.parametrize(
        ("code", "section", "message"),
        [
            ("", {"type": "absent:reward"}, "absent:reward cannot be imported"),
            ("1 / 0", {"type": "my_rewards:x"}, "ZeroDivisionError"),
            ("def near(b): ...", {"type": "my_rewards:nera"}, "has no 'nera'. It has: near"),
            ("x = 3", {"type": "my_rewards:x"}, "is int, not a function or class"),
            ("def f(batch, *, limit): ...", {"type": "my_rewards:f"}, "missing a required"),
            (
                "def f(batch, *, limit): ...",
                {"type": "my_rewards:f", "args": {"limt": 1}},
                "f(batch, *, limit) with args ['limt']",
            ),
            ("def f(): ...", {"type": "my_rewards:f"}, "too many positional arguments"),
            ("class C: ...", {"type": "my_rewards:C"}, "its instances cannot be called"),
            (
                "def f(batch): ...\nf.needs = {'anser'}",
                {"type": "my_rewards:f"},
                "['anser'] came. Allowed: ['answer']",
            ),
        ],
    )
    def test_what_breaks_the_contract_is_refused_with_the_configuration(
        self, own: Path, code: str, section: dict[str, Any], message: str
    ) -> None:
        (own / "my_rewards.py").write_text(code)
        with pytest.raises(ValidationError) as refused:
            SECTIONS.validate_python([section])
        assert message in str(refused.value).replace("my_rewards:f(", "f(")

    def test_an_installed_package_registers_a_reward_by_name(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (own / "my_rewards.py").write_text("def always(batch): return [2.0] * len(batch)")
        package = own / "my_rewards-1.dist-info"
        package.mkdir()
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: my-rewards\nVersion: 1\n")
        (package / "entry_points.txt").write_text("[edco.rewards]\nalways = my_rewards:always\n")
        monkeypatch.syspath_prepend(own)
        assert importlib.metadata.version("my-rewards") == "1"
        assert rewards({"type": "always"}).score([answered("")]).total.tolist() == [2]
        with pytest.raises(ValidationError, match="unknown type"):
            SECTIONS.validate_python([{"type": "alwys"}])


RAISES_ON_ODD = """
def picky(batch):
    for each in batch:
        if each.sample_id in ("s1", "s3"):
            raise KeyError("odd")
    return [1.0] * len(batch)
"""
NAN_ON_ODD = """
def picky(batch):
    return [float("nan") if each.sample_id in ("s1", "s3") else 1.0 for each in batch]
"""


class TestFailingReward:
    @pytest.mark.parametrize(
        ("code", "words"), [(RAISES_ON_ODD, "KeyError: 'odd'"), (NAN_ON_ODD, "nan came")]
    )
    def test_sample_and_reward_are_named(self, own: Path, code: str, words: str) -> None:
        with pytest.raises(RewardError, match=f"reward my_rewards:picky: sample s1: {words}"):
            score_own(own, code, "picky", n=4)

    @pytest.mark.parametrize("code", [RAISES_ON_ODD, NAN_ON_ODD])
    def test_or_a_zero_is_counted_for_those_that_fail_and_for_no_other(
        self, own: Path, code: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            found = score_own(own, code, "picky", n=4, on_error="zero")
        assert found.total.tolist() == [1, 0, 1, 0]
        assert found.is_correct.tolist() == [True, False, True, False]
        assert found.num_zeroed == 2
        assert "2 of 4 answers counted as zero, the first to sample s1" in caplog.text

    def test_a_wrong_number_of_values_is_an_error_whatever_the_setting(self, own: Path) -> None:
        with pytest.raises(RewardError, match=r"shape \(1,\) came for 2 answers"):
            score_own(own, "def f(batch): return [1.0]", "f", on_error="zero")

    def test_failing_together_and_not_alone_is_an_error(self, own: Path) -> None:
        code = "def f(batch):\n    assert len(batch) < 2\n    return [1.0]"
        with pytest.raises(RewardError, match="on 2 answers together and on none alone"):
            score_own(own, code, "f")


def pool_of(rows: list[dict[str, Any]], folder: Path, needs: frozenset[str] = frozenset()) -> Pool:
    path = write_jsonl(folder / "pool.jsonl", rows)
    return load_pool(str(path), DataSection(train=str(path)), split="train", needs=needs)


class TestFields:
    @pytest.mark.parametrize(
        ("section", "bad", "problem"),
        [
            ({"type": "numeric"}, "twelve", "answer: 'twelve' came, in which there is no number"),
            ({"type": "choice"}, "E", "answer: 'E' came, which is neither the letter"),
            ({"type": "math"}, "twelve", "in which there is no mathematical expression"),
            ({"type": "contains"}, " ", "answer: is empty"),
            ({"type": "regex", "pattern": r"(?P<answer>\w*)"}, " ", "answer: is empty"),
            ({"type": "numeric"}, r"\sqrt{2}", "a power or root, which the reward 'math' reads"),
            ({"type": "numeric"}, "2^10", "a power or root"),
        ],
    )
    def test_a_sample_no_answer_could_be_right_for_is_refused_with_its_line(
        self, tmp_path: Path, section: dict[str, Any], bad: str, problem: str
    ) -> None:
        prompt = "Which?\nA) 12\nB) 13\n"
        rows = [
            {"prompt": f"{prompt}1", "completion": " x", "answer": "12"},
            {"prompt": f"{prompt}2", "completion": " x", "answer": bad},
        ]
        sections = SECTIONS.validate_python([{"type": "format"}, section])
        pool = pool_of(rows, tmp_path)
        with pytest.raises(DataError, match=rf"pool\.jsonl:2: .*{problem}.*is {section['type']}"):
            check_fields(sections, pool)
        check_fields(sections, pool_of(rows[:1], tmp_path))
        check_fields(SECTIONS.validate_python([{"type": "exact_match"}]), pool)

    def test_a_field_that_is_needed_is_known_beforehand(self) -> None:
        def needs(*sections: dict[str, Any]) -> frozenset[str]:
            return needed_fields(SECTIONS.validate_python(list(sections)))

        assert needs({"type": "exact_match"}, {"type": "format"}) == set()
        assert needs({"type": "format"}, {"type": "numeric"}) == {"answer"}
        assert needs({"type": "numeric", "against": "completion"}) == set()
        assert needs({"type": "contains", "texts": ["x"]}) == set()


def test_rewards_see_conversations_as_people_read_them(tmp_path: Path) -> None:
    def texts(turns: Sequence[tuple[str, str]]) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        pool = pool_of([{"messages": messages}], tmp_path)
        given = Questions(pool).answered(0, "text", truncated=True)
        assert (given.reference, given.text, given.truncated) == ("blue", "text", True)
        assert given.sample_id == pool.table.column("sample_id")[0].as_py()
        return given.prompt

    asked = [("user", "colour?"), ("assistant", "blue")]
    assert texts(asked) == "colour?"
    assert texts([("system", "be brief"), *asked]) == "system: be brief\n\nuser: colour?"


def test_what_a_form_fills_in_is_taken_back() -> None:
    """Prefect's form sends every default it shows."""
    schema = EvaluationSection.model_json_schema()
    shown = schema["properties"]["metric"]
    assert EvaluationSection.model_validate({"metric": shown["default"]}) == EvaluationSection()
    numeric = schema["$defs"]["NumericSection"]["properties"]
    filled = {key: value.get("default", value.get("const")) for key, value in numeric.items()}
    assert filled["weight"] == 1
    assert EvaluationSection.model_validate({"metric": filled}).metric.type == "numeric"
