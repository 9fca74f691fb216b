"""``edco doctor``: what works on this machine, and what to type for what does not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any, Literal

from edco_core.errors import EdcoError
from flows.prepare import check_ledger, package_versions
from flows.server import quiet_prefect
from storage import masked

Status = Literal["ok", "missing", "problem"]


def examine(store_url: str) -> tuple[list[dict[str, Any]], bool]:
    """Facts, one per thing, and whether nothing that is needed is broken."""
    facts: list[dict[str, Any]] = []

    def note(what: str, status: Status, found: str, advice: str | None = None) -> None:
        facts.append({"what": what, "status": status, "found": found, "advice": advice})

    versions = package_versions()
    note("python", "ok", platform.python_version())
    for name in ("torch", "transformers", "trl", "peft", "datasets", "prefect", "duckdb"):
        if name in versions:
            note(name, "ok", versions[name])
        else:
            note(name, "problem", "not installed", "pip install -e . -c constraints.txt")
    _check_fastapi(note)
    _check_devices(note)
    try:
        note("ledger", "ok", check_ledger(store_url))
    except EdcoError as error:
        note("ledger", "problem", str(error).splitlines()[0], "edco db upgrade, or --store URL")
    _check_prefect(note)
    return facts, all(fact["status"] != "problem" for fact in facts)


def _check_fastapi(note: Any) -> None:
    version = importlib.metadata.version("fastapi")
    if tuple(int(part) for part in version.split(".")[:2]) >= (0, 151):
        note("fastapi", "problem", f"{version} breaks Prefect 3.8", "pip install 'fastapi<0.151'")
    else:
        note("fastapi", "ok", version)


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
    quiet_prefect()
    import httpx
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        note("prefect server", "ok", "none configured: each run starts a local one")
        return
    try:
        httpx.get(f"{url}/health", timeout=5).raise_for_status()
        note("prefect server", "ok", masked(url))
    except httpx.HTTPError as error:
        advice = "prefect server start, or unset PREFECT_API_URL"
        note("prefect server", "problem", f"{masked(url)}: {type(error).__name__}", advice)
