"""``edco doctor``: what works on this machine, and what to type for what does not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from edco_core.errors import EdcoError, InputError
from flows import INSTALL

Status = Literal["ok", "missing", "problem"]
_PACKAGES = (
    "torch", "transformers", "trl", "peft", "datasets", "prefect", "sqlalchemy", "duckdb", "pandas",
)  # fmt: skip


def examine(store_url: str) -> tuple[list[dict[str, Any]], bool]:
    """Facts, one per thing, and whether nothing that is needed is broken."""
    facts: list[dict[str, Any]] = []

    def note(what: str, status: Status, found: str, advice: str | None = None) -> None:
        facts.append({"what": what, "status": status, "found": found, "advice": advice})

    note("python", "ok", platform.python_version())
    for name in _PACKAGES:
        try:
            note(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            note(name, "problem", "not installed", INSTALL)
    checks: dict[str, Callable[[Any], None]] = {
        "fastapi": _check_fastapi,
        "devices": _check_devices,
        "ledger": partial(_check_ledger, store_url),
        "prefect server": _check_prefect,
    }
    for what, check in checks.items():
        try:
            check(note)
        except ModuleNotFoundError as error:  # importlib.metadata's as well
            note(what, "problem", f"cannot be looked at: {error}", INSTALL)
    return facts, all(fact["status"] != "problem" for fact in facts)


def _check_fastapi(note: Any) -> None:
    version = importlib.metadata.version("fastapi")
    if tuple(int(part) for part in version.split(".")[:2]) >= (0, 151):
        note("fastapi", "problem", f"{version} breaks Prefect 3.8", "pip install 'fastapi<0.151'")
    else:
        note("fastapi", "ok", version)


def _check_ledger(store_url: str, note: Any) -> None:
    from flows.prepare import check_ledger

    try:
        note("ledger", "ok", check_ledger(store_url))
    except EdcoError as error:
        note("ledger", "problem", str(error).splitlines()[0], "edco db upgrade, or --store URL")


def _check_devices(note: Any) -> None:
    import torch

    note("cpu", "ok", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            name = torch.cuda.get_device_name(index)
            memory_gib = torch.cuda.get_device_properties(index).total_memory / 2**30
            note("gpu", "ok", f"{name}, {memory_gib:.0f} GiB" + (", used" if index == 0 else ""))
        if importlib.util.find_spec("bitsandbytes") is None:
            note("qlora", "missing", "bitsandbytes", "pip install 'edco[qlora]'")
        else:
            note("qlora", "ok", importlib.metadata.version("bitsandbytes"))
        if importlib.util.find_spec("vllm") is None:
            note("vllm", "missing", "use_vllm of GRPO", "pip install 'trl[vllm]'")
        else:
            note("vllm", "ok", importlib.metadata.version("vllm"))
    else:
        note("gpu", "missing", "no CUDA device: runs use the CPU, load_in_4bit is refused")


def _check_prefect(note: Any) -> None:
    from flows.server import quiet_prefect
    from storage import masked

    try:
        quiet_prefect()
    except InputError as error:
        problem, _, advice = str(error).partition(". ")
        note("prefect server", "problem", problem, advice)
        return
    import httpx
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        note("prefect server", "ok", "none configured: each run starts a local one")
        return
    try:
        httpx.get(f"{url}/health", timeout=5).raise_for_status()
        note("prefect server", "ok", masked(url))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        advice = "prefect server start, or unset PREFECT_API_URL"
        note("prefect server", "problem", f"{masked(url)}: {type(error).__name__}", advice)
