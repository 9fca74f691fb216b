"""A language model as judge, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import numpy as np

from edco_core.config_rewards import LlmJudgeSection
from edco_core.errors import ConfigError, JudgeDownError
from edco_core.rewards.base import Answered, ComparingReward, Usage
from edco_core.rewards.verdicts import Verdict, Verdicts

if TYPE_CHECKING:
    from edco_core.records import Floats

_SLOT = re.compile(r"\{(prompt|answer|reference)\}")
_VERDICT = re.compile(r"\bverdict\W{0,8}(yes|no)\b", re.IGNORECASE)
_ONE_WORD = re.compile(r"\W*(yes|no)\W*", re.IGNORECASE)

_TRY_AGAIN = frozenset({408, 409, 425, 429})
"""And all from 500 on."""
_THIS_REQUEST = frozenset({400, 413, 422})
"""What is wrong may be this request alone, such as a text beyond the judge's context."""
_MAY_BE_THEIRS = 3
"""So many texts that a judge refuses may be all that a batch had left to ask; more are not."""
_LONGEST_WAIT_S = 60.0


class LlmJudgeReward(ComparingReward[LlmJudgeSection]):
    """1 when the judge finds an answer right, 0 when it does not.

    Judges a batch ``concurrency`` requests at a time; what it said once about the same words under
    the same settings is not asked again.  A judge that cannot be asked, after all tries, raises
    JudgeDownError; what was judged by then is kept.
    """

    nan_means: ClassVar[str] = (
        "the judge refused the request, or did not end with 'Verdict: yes' or 'Verdict: no'"
    )

    def __init__(self, settings: LlmJudgeSection, *, cache_dir: Path | None = None) -> None:
        super().__init__(settings, cache_dir=cache_dir)
        try:
            httpx.URL(settings.base_url)
        except httpx.InvalidURL as error:
            raise ConfigError(
                f"llm_judge.base_url: '{settings.base_url}' is no address: {error}. Give one such "
                "as https://host/v1."
            ) from error
        self._headers = _authorization(settings.api_key_env)
        self._verdicts = Verdicts(cache_dir)
        self._settings_hash = decides_verdicts(settings)

    @property
    def usage(self) -> Usage:
        num, input_tokens, output_tokens = self._verdicts.totals(self._settings_hash)
        settings = self.settings
        cost = (
            input_tokens * settings.price_per_million_input
            + output_tokens * settings.price_per_million_output
        ) / 1e6
        return Usage(num, input_tokens, output_tokens, cost)

    def is_right(self, given: str, answered: Answered) -> bool:
        raise NotImplementedError("a judge is asked about a whole batch")

    def score(self, batch: Sequence[Answered]) -> Floats:
        questions = [self._question(each) for each in batch]
        keys = [None if text is None else _hash([self._settings_hash, text]) for text in questions]
        known: dict[str, bool | None] = {}
        missing: dict[str, str] = {}
        for key, text in zip(keys, questions, strict=True):
            if key is None or text is None:
                continue
            found = self._verdicts.find(key)
            # A zero of before stays one, so that a run carried on is as if it had not stopped.
            is_zero = self.settings.on_error == "zero" and self._verdicts.was_in_vain(key)
            if found is None and not is_zero:
                missing[key] = text
            else:
                known[key] = found
        if missing:
            known |= self._ask_all(missing)
        values = [0.0 if key is None else _as_value(known[key]) for key in keys]
        return np.array(values, dtype=np.float64)

    def _question(self, answered: Answered) -> str | None:
        """What the judge gets to read; None where the text lacks its tag, and so is wrong."""
        given = self.given(answered)
        if given is None:
            return None
        slots = {
            "prompt": answered.prompt,
            "answer": given,
            "reference": self.expected(answered),
        }
        # In one pass: a text that holds a slot's name is not filled in itself.
        return _SLOT.sub(lambda match: slots[match[1]], self.settings.prompt)

    def _ask_all(self, texts: dict[str, str]) -> dict[str, bool | None]:
        """Verdicts by key.  Those that came are kept, even if others do not come."""
        found: dict[str, bool | None] = {}
        refusals: dict[str, str] = {}
        stop = threading.Event()
        settings = self.settings
        with httpx.Client(headers=self._headers, timeout=settings.timeout_s) as client:
            pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="edco-judge")
            asked: dict[Future[Verdict | str | None], str] = {
                pool.submit(self._ask, client, text, stop): key for key, text in texts.items()
            }
            down: JudgeDownError | None = None
            try:
                for future in as_completed(asked):
                    try:
                        answer = future.result()
                    except JudgeDownError as error:  # what is under way is paid for, and kept
                        down = down or error
                        continue
                    if isinstance(answer, str):
                        refusals[asked[future]] = answer
                        found[asked[future]] = None
                    elif answer is not None:
                        self._verdicts.add(asked[future], self._settings_hash, answer)
                        found[asked[future]] = answer.is_right
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
        if down is not None:
            raise down
        is_all = len(refusals) == len(texts)
        if is_all and (len(texts) > _MAY_BE_THEIRS or not self.usage.num_requests):
            reason = next(iter(refusals.values()))
            raise self._down(f"refuses every request: {reason}")
        self._verdicts.add_refusals(refusals)
        return found

    def _ask(self, client: httpx.Client, text: str, stop: threading.Event) -> Verdict | str | None:
        """The judge's answer, or why it refused this request; None: not asked after ``stop``.

        Raises JudgeDownError, and stops the others with it.
        """
        settings = self.settings
        body = {
            "model": settings.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": settings.temperature,
            settings.max_tokens_field: settings.max_tokens,
        }
        wait_s, problem = settings.retry_wait_s, ""
        for number in range(settings.max_tries):
            if stop.wait(wait_s if number else 0):
                return None
            wait_s = min(_LONGEST_WAIT_S, settings.retry_wait_s * 2**number)
            try:
                response = client.post(f"{settings.base_url}/chat/completions", json=body)
            except httpx.HTTPError as error:  # its words may hold what was sent
                problem = type(error).__name__
                continue
            status = f"{response.status_code} {response.reason_phrase}".strip()
            if response.status_code in _THIS_REQUEST:
                return status
            if response.is_success:
                verdict = _read(response)
                if verdict is not None:
                    return verdict
                problem = f"{status}, but no chat completion"
            elif response.status_code in _TRY_AGAIN or response.status_code >= 500:
                problem = status
                wait_s = max(wait_s, _asked_to_wait_s(response))
            else:
                stop.set()
                raise self._down(f"refuses: {status}")
        stop.set()
        raise self._down(f"{problem} after {settings.max_tries} tries")

    def _down(self, what: str) -> JudgeDownError:
        settings = self.settings
        key = f", ${settings.api_key_env}" if settings.api_key_env else ""
        return JudgeDownError(
            f"the judge {settings.model} at {settings.base_url}: {what}. Nothing is trained "
            f"without its verdicts, and those it gave are kept: check the endpoint{key} and the "
            "model's name, then carry on"
        )


def decides_verdicts(settings: LlmJudgeSection) -> str:
    """A hash of the settings that decide what a judge says, which others do not change."""
    decides = ("model", "prompt", "temperature", "max_tokens", "against", "tag")
    return _hash([getattr(settings, name) for name in decides])


def _as_value(is_right: bool | None) -> float:
    return float("nan") if is_right is None else float(is_right)


def verdict_of(text: str) -> bool | None:
    """The last ``verdict: yes`` or ``no``; or the text is that one word; else None."""
    found = _VERDICT.findall(text)
    if not found and (match := _ONE_WORD.fullmatch(text)):
        found = [match[1]]
    return found[-1].lower() == "yes" if found else None


def _read(response: httpx.Response) -> Verdict | None:
    """None where this is no chat completion, such as the page of a proxy."""
    try:
        answer = response.json()
        text = answer["choices"][0]["message"]["content"] or ""
        usage = answer.get("usage") or {}
        return Verdict(
            verdict_of(text),
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _asked_to_wait_s(response: httpx.Response) -> float:
    asked = response.headers.get("Retry-After", "")
    return min(_LONGEST_WAIT_S, float(asked)) if asked.isascii() and asked.isdigit() else 0.0


def _authorization(variable: str | None) -> dict[str, str]:
    """Raises ConfigError where the environment has no usable key."""
    if variable is None:
        return {}
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"llm_judge.api_key_env: ${variable} is not set. Type export {variable}=… before the "
            "run, or set api_key_env: null for an endpoint without a key."
        )
    if not re.fullmatch(r"[!-~]+", key):  # as a header it would be quoted in an error
        raise ConfigError(
            f"llm_judge.api_key_env: ${variable} holds white space or signs outside ASCII, which "
            "no key has. Set it again."
        )
    return {"Authorization": f"Bearer {key}"}


def _hash(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
