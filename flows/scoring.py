"""``edco score``: a pool scored once, by the base model or a checkpoint, into a Parquet file."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from edco_core.config import Config
from edco_core.config_scoring import EntropySection
from edco_core.errors import ConfigError, InputError, ModelError
from flows.display import OnProgress, progress
from flows.lineage import with_parent
from flows.prepare import check_writable, load_training_pool, package_versions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edco_core.records import Pool, ScoreShard

METADATA_KEY = b"edco"
"""Of the Parquet schema's metadata: JSON with settings, pool and weights."""


def score_to_file(
    config: Config,
    destination: Path,
    *,
    checkpoint: Path | None = None,
    keep_token_entropies: bool = False,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Score every sample of ``data.train`` once and write ``destination``; needs no ledger.

    ``checkpoint`` is an adapter's folder or a whole model's; None is the base model.  The file
    appears when it is complete, in the order of the pool.  Returns what was done, as facts.
    Everything that can be wrong is found out first; raises InputError and its kin.
    """
    _check_destination(destination, overwrite)
    if keep_token_entropies and not isinstance(config.scoring, EntropySection):
        raise ConfigError(
            f"--keep-token-entropies would be ignored: scoring.type '{config.scoring.type}' has no "
            "entropies. Leave it out, or use full_entropy, prefix_entropy or "
            "reference_prefix_entropy."
        )
    if checkpoint is not None and not checkpoint.is_dir():
        raise InputError(
            f"--checkpoint {checkpoint}: no such folder. Give one that holds an adapter or a "
            "model, such as runs/RUN_ID/final."
        )
    config, parent = with_parent(config, config.store_url())
    pool = load_training_pool(config)
    # torch and transformers take seconds to import: the above is told before that.
    from edco_core.base_model import base_fingerprint
    from edco_core.loading import ModelHost, check_model
    from edco_core.prompts import check_chat_template
    from edco_core.scoring import build_scorer, check_engine

    check_engine(config.scoring)
    if parent is not None:
        parent.make()
    tokenizer = check_model(config.model)
    if getattr(config.scoring, "chat_template", True):
        check_chat_template(pool, tokenizer)
    host = ModelHost(config.model, seed=config.run.seed)
    weights_sha256 = host.load_folder(checkpoint)
    scorer = build_scorer(config.scoring, pool, host, seed=config.run.seed)
    start = time.perf_counter()
    wanted, none = np.arange(len(pool), dtype=np.int64), np.arange(0, dtype=np.int64)
    if on_progress is None:
        with progress("scoring") as bar:
            shards = list(scorer.score(wanted, none, bar, interval=0))
    else:
        shards = list(scorer.score(wanted, none, on_progress, interval=0))
    facts = {
        "scoring": config.scoring.model_dump(mode="json"),
        "seed": config.run.seed,
        "dataset_id": pool.fingerprint,
        "data": pool.source,
        "pool_size": len(pool),
        "model": config.model.name_or_path,
        "base_model": base_fingerprint(config.model),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "weights_sha256": weights_sha256,
        "device": str(host.device),
        "scoring_seconds": round(time.perf_counter() - start, 3),
        "scored_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": package_versions(),
    }
    table = _as_table(pool, shards, keep_token_entropies)
    scores = table["score"].to_numpy()
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise ModelError(
            f"{len(bad)} of {len(scores)} scores are not finite (first at ordinal {bad[0]}); "
            "nothing was written. Try another model.dtype."
        )
    _write(table.replace_schema_metadata({METADATA_KEY: json.dumps(facts)}), destination)
    summary = {
        "score_mean": float(scores.mean()),
        **{f"score_p{q}": float(np.quantile(scores, q / 100)) for q in (10, 50, 90)},
        "score_max": float(scores.max()),
        "n_tokens": int(np.sum(table["n_tokens"].to_numpy())),
    }
    return {"file": str(destination), **summary, **facts}


def _as_table(pool: Pool, shards: Iterable[ScoreShard], keep_token_entropies: bool) -> pa.Table:
    """One row per sample, in ordinal order."""
    parts = []
    for shard in shards:
        columns: dict[str, Any] = {
            "sample_id": pool.table.column("sample_id").take(pa.array(shard.ordinals)),
            "ordinal": pa.array(shard.ordinals, pa.int64()),
            "score": pa.array(shard.scores, pa.float64()),
            "n_tokens": pa.array(shard.n_tokens, pa.int32()),
        }
        if keep_token_entropies:
            assert shard.token_entropies is not None
            ends = np.concatenate([[0], np.cumsum(shard.n_tokens)])
            columns["token_entropies"] = pa.LargeListArray.from_arrays(
                pa.array(ends, pa.int64()), pa.array(shard.token_entropies, pa.float32())
            )
        parts.append(pa.table(columns))
    return pa.concat_tables(parts).sort_by("ordinal")


def _write(table: pa.Table, destination: Path) -> None:
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(destination)
    except OSError as error:
        raise InputError(f"-o {destination}: cannot be written ({error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def _check_destination(destination: Path, overwrite: bool) -> None:
    if destination.is_dir():
        raise InputError(f"-o {destination}: it is a folder. Give a file, such as scores.parquet.")
    if destination.suffix != ".parquet":
        raise InputError(f"-o {destination}: the file is Parquet; give a name that ends so.")
    if destination.exists() and not overwrite:
        raise InputError(
            f"-o {destination}: exists already. Give another name, or --overwrite to replace it."
        )
    if not destination.absolute().parent.is_dir():
        raise InputError(
            f"-o {destination}: there is no folder '{destination.absolute().parent}'. Make it, or "
            "give another name."
        )
    check_writable(destination.absolute().parent, "-o")
