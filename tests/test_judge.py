"""A judge is asked once, paid for once, and never replaced by zeros when it is down."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Edco
from judge import Judge, serving
from test_config import problems
from test_rewards import answered, rewards

from edco_core.config_rewards import LlmJudgeSection
from edco_core.errors import ConfigError, JudgeDownError, RewardError, StopRequested
from edco_core.rewards import Rewards, Scored, judges_usage
from edco_core.rewards.llm_judge import verdict_of
from edco_core.rewards.verdicts import FILE_NAME

KEY = "sk-VerySecret-0123456789"


@pytest.fixture
def judge() -> Iterator[Judge]:
    with serving() as judge:
        yield judge


def section(judge: Judge, **settings: Any) -> dict[str, Any]:
    return {
        "type": "llm_judge", "base_url": judge.url, "model": "m", "retry_wait_s": 0, "max_tries": 3,
        "timeout_s": 30, "prompt": "Q: {prompt}\nR: {reference}\nA: {answer}", **settings,
    }  # fmt: skip


def built(judge: Judge, cache_dir: Path | None = None, **settings: Any) -> Rewards:
    return rewards(section(judge, **settings), cache_dir=cache_dir)


def score(judge_rewards: Rewards, *texts: str) -> Scored:
    batch = [answered(text, sample_id=f"s{i}") for i, text in enumerate(texts)]
    return judge_rewards.score(batch)


def test_each_answer_gets_the_verdict_on_its_own_text(judge: Judge) -> None:
    judge.verdict = lambda text: "good" in text
    found = score(built(judge), "good", "bad", "good too")
    assert found.total.tolist() == [1, 0, 1]
    assert found.is_correct.tolist() == [True, False, True]
    assert sorted(judge.asked) == [
        f"Q: a question\nR:  a reference\nA: {text}" for text in ("bad", "good", "good too")
    ]


def test_the_request_says_what_was_configured(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    asking = built(
        judge, model="big", temperature=0.5, max_tokens=7, api_key_env="JUDGE_KEY",
        max_tokens_field="max_completion_tokens", against="answer",
    )  # fmt: skip
    score(asking, "x")
    assert judge.bodies == [
        {
            "model": "big",
            "messages": [{"role": "user", "content": "Q: a question\nR: 7\nA: x"}],
            "temperature": 0.5,
            "max_completion_tokens": 7,
        }
    ]
    assert judge.keys == {f"Bearer {KEY}"}
    assert judge.paths == {"/v1/chat/completions"}


def test_no_key_is_sent_where_none_is_named(judge: Judge) -> None:
    score(built(judge), "x")
    assert judge.keys == {None}


def test_a_text_that_holds_the_name_of_a_slot_is_not_filled_in(judge: Judge) -> None:
    batch = [answered("{reference}", prompt="{answer}")]
    built(judge).score(batch)
    assert judge.asked == ["Q: {answer}\nR:  a reference\nA: {reference}"]


def test_an_answer_without_the_tag_is_wrong_and_not_asked_about(judge: Judge) -> None:
    found = score(built(judge, tag="answer"), "<answer>x</answer>", "x")
    assert found.total.tolist() == [1, 0]
    assert [text.splitlines()[-1] for text in judge.asked] == ["A: x"]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Verdict: yes", True),
        ("verdict: NO.", False),
        ("**Verdict:** yes", True),
        ("Verdict: yes? Rather not.\nVerdict: no", False),  # the last counts
        ("<think>no doubt</think> Verdict: yes", True),
        (" Yes.\n", True),
        ("no", False),
        ("yes, there is no doubt", None),
        ("Verdict: yesterday", None),
        ("Verdict: unclear", None),
        ("", None),
    ],
)
def test_a_verdict_is_a_line_of_its_own_or_the_whole_answer(
    text: str, verdict: bool | None
) -> None:
    assert verdict_of(text) is verdict


def test_requests_go_out_as_many_at_a_time_as_configured(judge: Judge) -> None:
    """Four requests meet before any is answered; with fewer at a time they never would."""
    judge.meeting = threading.Barrier(4)
    assert score(built(judge, concurrency=4), *"abcd").total.tolist() == [1, 1, 1, 1]


class TestCache:
    def test_the_same_words_are_judged_once_in_a_batch_and_later(self, judge: Judge) -> None:
        asking = built(judge)
        assert score(asking, "a", "a", "b").total.tolist() == [1, 1, 1]
        assert len(judge.asked) == 2
        score(asking, "b", "a")
        assert len(judge.asked) == 2

    def test_a_later_process_finds_the_verdicts_and_the_cost_in_the_run_s_folder(
        self, judge: Judge, tmp_path: Path
    ) -> None:
        prices = {"price_per_million_input": 2.0, "price_per_million_output": 30.0}
        first = built(judge, tmp_path, **prices)
        judge.verdict = lambda text: text.endswith("a")
        score(first, "a", "b")
        again = built(judge, tmp_path, **prices)
        assert score(again, "a", "b").total.tolist() == [1, 0]
        assert len(judge.asked) == 2
        usage = again.usage
        assert usage == first.usage
        assert (usage.num_requests, usage.input_tokens, usage.output_tokens) == (2, 200, 20)
        assert usage.cost == pytest.approx(200 * 2e-6 + 20 * 30e-6)

    @pytest.mark.parametrize(
        "change", [{"model": "other"}, {"prompt": "{answer}"}, {"temperature": 1.0}]
    )
    def test_another_judge_is_asked_itself(
        self, judge: Judge, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        score(built(judge, tmp_path), "a")
        other = built(judge, tmp_path, **change)
        score(other, "a")
        assert len(judge.asked) == 2
        assert other.usage.num_requests == 1

    def test_no_text_is_kept_beside_the_verdicts(self, judge: Judge, tmp_path: Path) -> None:
        score(built(judge, tmp_path), "a very private answer")
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert (tmp_path / FILE_NAME).is_file()
        assert b"private" not in kept
        assert b"reference" not in kept


class TestNoVerdict:
    def test_sample_and_reward_are_named(self, judge: Judge) -> None:
        judge.reply = lambda text: "Hm." if text.endswith("b") else "yes"
        with pytest.raises(RewardError, match=r"reward llm_judge: sample s1: .*Verdict: yes"):
            score(built(judge), "a", "b")

    def test_or_a_zero_is_counted_paid_for_and_stays_one_when_the_run_is_carried_on(
        self, judge: Judge, tmp_path: Path
    ) -> None:
        judge.reply = lambda text: "Hm."
        asking = built(judge, tmp_path, on_error="zero")
        found = score(asking, "a")
        assert (found.total.tolist(), found.num_zeroed) == ([0], 1)
        assert asking.usage.num_requests == 1
        judge.reply = None
        assert score(built(judge, tmp_path, on_error="zero"), "a").total.tolist() == [0]
        assert len(judge.asked) == 1
        # To whom no verdict is an error it is not one for good.
        assert score(built(judge, tmp_path), "a").total.tolist() == [1]

    def test_one_request_that_is_refused_is_that_answer_s_problem(self, judge: Judge) -> None:
        judge.always = lambda text: (400, {}) if text.endswith("long") else None
        found = score(built(judge, on_error="zero"), "a", "too long")
        assert (found.total.tolist(), found.num_zeroed) == ([1, 0], 1)

    def test_it_stays_so_for_a_run_that_is_carried_on(self, judge: Judge, tmp_path: Path) -> None:
        judge.always = lambda text: (400, {}) if text.endswith("long") else None
        score(built(judge, tmp_path, on_error="zero"), "a", "too long")
        again = built(judge, tmp_path, on_error="zero")
        assert score(again, "a", "too long").total.tolist() == [1, 0]
        assert score(again, "a", "as long").total.tolist() == [1, 0]  # alone, of those not known
        assert len(judge.asked) == 3
        # To whom a refusal is an error it is not one for good.
        judge.always = lambda text: None
        assert score(built(judge, tmp_path), "a", "too long").total.tolist() == [1, 1]

    def test_many_that_are_refused_and_none_that_is_not_are_the_judge_s(self, judge: Judge) -> None:
        asking = built(judge, on_error="zero")
        score(asking, "a")
        judge.always = lambda text: (400, {})
        with pytest.raises(JudgeDownError, match="refuses every request: 400"):
            score(asking, *"abcde")


class TestTrouble:
    @pytest.mark.parametrize("status", [429, 500, 503, 408])
    def test_what_passes_is_tried_again(self, judge: Judge, status: int) -> None:
        judge.failures = [(status, {}), (status, {"Retry-After": "0"})]
        assert score(built(judge), "a").total.tolist() == [1]
        assert len(judge.asked) == 3

    def test_a_page_in_place_of_an_answer_is_tried_again(self, judge: Judge) -> None:
        judge.failures = [(200, {})]
        assert score(built(judge), "a").total.tolist() == [1]

    def test_a_request_that_takes_too_long_is_tried_again(self, judge: Judge) -> None:
        """The first is never answered in time: it waits for a second one that comes with it."""
        judge.meeting = threading.Barrier(2)
        assert score(built(judge, timeout_s=0.5, max_tries=2), "a").total.tolist() == [1]
        assert len(judge.asked) == 2

    @pytest.mark.parametrize("on_error", ["error", "zero"])
    @pytest.mark.parametrize(
        ("status", "num_asked", "words"),
        [
            (503, 3, "503 Service Unavailable after 3 tries"),
            (401, 1, "refuses: 401 Unauthorized"),
            (404, 1, "refuses: 404 Not Found"),
            (400, 1, "refuses every request: 400 Bad Request"),
            (200, 3, "no chat completion after 3 tries"),
        ],
    )
    def test_a_judge_that_is_down_pauses_the_run_whatever_on_error_says(
        self, judge: Judge, status: int, num_asked: int, words: str, on_error: str
    ) -> None:
        judge.always = lambda text: (status, {})
        with pytest.raises(JudgeDownError, match=words) as down:
            score(built(judge, on_error=on_error), "a")
        assert isinstance(down.value, StopRequested)  # recorded as interrupted, not as failed
        assert len(judge.asked) == num_asked

    def test_nobody_there_is_down_too(self, judge: Judge) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1"
        with pytest.raises(JudgeDownError, match=f"{url}: ConnectError after 3 tries"):
            score(built(judge, base_url=url, on_error="zero"), "a")

    def test_verdicts_that_came_before_it_went_down_are_kept(
        self, judge: Judge, tmp_path: Path
    ) -> None:
        judge.failures = [None, (401, {})]
        with pytest.raises(JudgeDownError):
            score(built(judge, tmp_path, concurrency=1), "a", "b", "c")
        judge.bodies.clear()
        judge.failures = []
        assert score(built(judge, tmp_path), "a", "b", "c").total.tolist() == [1, 1, 1]
        assert sorted(text[-1] for text in judge.asked) == ["b", "c"]

    def test_verdicts_that_are_under_way_when_it_goes_down_are_kept(
        self, judge: Judge, tmp_path: Path
    ) -> None:
        judge.meeting = threading.Barrier(4)
        judge.always = lambda text: (401, {}) if text.endswith("a") else None
        with pytest.raises(JudgeDownError):
            score(built(judge, tmp_path, concurrency=4), "a", "b", "c", "d")
        judge.meeting, judge.always = None, lambda text: None
        judge.bodies.clear()
        again = built(judge, tmp_path)
        assert score(again, "a", "b", "c", "d").total.tolist() == [1, 1, 1, 1]
        assert [text[-1] for text in judge.asked] == ["a"]
        assert again.usage.num_requests == 4


def test_a_judge_that_two_settings_name_is_paid_once(judge: Judge, tmp_path: Path) -> None:
    score(built(judge, tmp_path), "a", "b")
    named = ({}, {"weight": 0.5}, {"on_error": "zero", "concurrency": 2})
    sections = [LlmJudgeSection.model_validate(section(judge, **each)) for each in named]
    usage = judges_usage(sections, tmp_path)
    assert usage is not None
    assert usage.num_requests == 2


class TestKey:
    def test_is_in_no_error_log_or_file(
        self,
        judge: Judge,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("JUDGE_KEY", KEY)
        asking = built(judge, tmp_path, api_key_env="JUDGE_KEY")
        with caplog.at_level(logging.DEBUG):
            score(asking, "a")
            judge.always = lambda text: (401, {})
            with pytest.raises(JudgeDownError, match=r"\$JUDGE_KEY") as down:
                score(asking, "b")
        assert judge.keys == {f"Bearer {KEY}"}
        told = [caplog.text, str(down.value), repr(down.value.__cause__), repr(asking.__dict__)]
        assert not any(KEY in each for each in told)
        assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())

    @pytest.mark.parametrize("key", [None, "", "  "])
    def test_a_missing_one_is_told_before_anything_is_asked(
        self, judge: Judge, key: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("JUDGE_KEY", raising=False)
        if key is not None:
            monkeypatch.setenv("JUDGE_KEY", key)
        with pytest.raises(ConfigError, match=r"\$JUDGE_KEY is not set. Type export JUDGE_KEY=…"):
            built(judge, api_key_env="JUDGE_KEY")

    def test_one_that_no_header_could_hold_is_not_quoted(
        self, judge: Judge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JUDGE_KEY", f"{KEY}\nX: y")
        with pytest.raises(ConfigError, match="holds white space") as refused:
            built(judge, api_key_env="JUDGE_KEY")
        assert KEY not in str(refused.value)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"api_key_env": KEY}, "the key itself never belongs into a configuration"),
            ({"api_key": KEY}, "unknown key. Allowed here"),
            ({"base_url": f"https://user:{KEY}@host/v1"}, "without user, password or query"),
            ({"base_url": f"https://host/v1?key={KEY}"}, "without user, password or query"),
        ],
    )
    def test_in_the_configuration_it_is_refused_and_not_quoted(
        self, settings: dict[str, str], message: str
    ) -> None:
        section = {"type": "llm_judge", "base_url": "https://host/v1", "model": "m", **settings}
        (problem,) = problems(data={"train": "t", "eval": "e"}, evaluation={"metric": section})
        assert message in problem
        assert KEY not in problem


def test_an_address_that_is_none_is_refused_before_anything_is_asked(judge: Judge) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        built(judge, base_url="http://host:abc/v1")


def test_a_prompt_that_does_not_show_the_answer_is_refused() -> None:
    section = {"type": "llm_judge", "base_url": "https://h", "model": "m", "prompt": "{prompt}?"}
    (problem,) = problems(data={"train": "t", "eval": "e"}, evaluation={"metric": section})
    assert "evaluation.metric.prompt: has to contain {answer}" in problem


@pytest.mark.slow
def test_a_run_whose_judge_is_down_is_interrupted_and_goes_on_when_it_answers(
    judge: Judge, new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    """Verdicts are then its metric, and pass@k of drawn answers stands beside it."""
    edco = new_edco()
    edco = replace(edco, environment={**edco.environment, "JUDGE_KEY": KEY})
    metric = {
        "type": "llm_judge", "base_url": judge.url, "model": "m", "on_error": "zero",
        "api_key_env": "JUDGE_KEY", "max_tries": 1, "retry_wait_s": 0, "prompt": "{answer}",
    }  # fmt: skip
    evaluation = {"max_new_tokens": 8, "metric": metric, "pass_at_k": {"k": 2}}
    curriculum = {**tiny_config["curriculum"], "intervals": 1}
    config = {**tiny_config, "curriculum": curriculum, "evaluation": evaluation}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(config))

    judge.always = lambda text: (503, {})
    down = edco("run", "edco.yaml", "--run-id", "judged", expect=1)
    assert "503 Service Unavailable" in down.stderr
    assert "run judged: interrupted. To carry on: " in down.stderr
    assert [row["status"] for row in edco.json("runs")] == ["interrupted"]

    judge.always = lambda text: None
    judge.bodies.clear()
    judge.verdict = lambda text: len(text) % 2 == 0
    resumed = edco("resume", "judged")
    assert edco.json("show", "judged")["run"]["metric"] == "llm_judge"
    rows = edco.json("query", "SELECT interval, metric, value FROM evaluations "
                     "WHERE category IS NULL ORDER BY 1, 2")  # fmt: skip
    assert [(row["interval"], row["metric"]) for row in rows] == [
        (interval, name) for interval in (-1, 0) for name in ("llm_judge", "pass@1", "pass@2")
    ]
    assert all(0 < row["value"] < 1 for row in rows)
    assert f"llm_judge before training: {rows[0]['value']:.3f}" in resumed.stdout
    assert len(judge.asked) == len(set(judge.asked))
    usage = edco.json("show", "judged")["judge"]
    assert usage["num_requests"] == len(judge.asked)
    assert f"judge: {len(judge.asked)} answers judged, " in edco("show", "judged").stdout

    said = [down.stdout, down.stderr, resumed.stdout, resumed.stderr]
    assert not any(KEY in each for each in said)
    files = [path for path in edco.folder.rglob("*") if path.is_file()]
    assert {"edco.duckdb", FILE_NAME} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
