"""Everything that can be checked before a run exists, and what the run will come to."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from edco_core.config import Config, GrpoSection, parse_config
from edco_core.config_curriculum import check_categories
from edco_core.config_guard import check_room
from edco_core.config_rewards import BaseRewardSection
from edco_core.config_scoring import PassRateSection
from edco_core.curriculum.evidence import samples_of
from edco_core.data import load_pool
from edco_core.errors import ConfigError, InputError, NotFoundError, RunExistsError
from edco_core.records import Pool, RunSpec
from edco_core.rewards import check_fields, needed_fields
from flows.display import say
from flows.lineage import Parent, with_parent
from storage import db_current, open_ledger, queries
from storage.engine import Database

if TYPE_CHECKING:
    from edco_core.training import Plan

_RECORDED_PACKAGES = (
    "edco", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "tokenizers",
    "prefect", "sqlalchemy", "duckdb", "numpy", "math-verify",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration that has passed every check, with its data and its plan."""

    config: Config
    """With absolute paths and the commit of a hub model, so that a resume finds them anywhere."""
    pool: Pool
    eval_pool: Pool | None
    plan: Plan
    parent: Parent | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """A configuration whose folders and data are in order: what can be checked in a second."""

    config: Config
    pool: Pool
    eval_pool: Pool | None
    parent: Parent | None = None
    """The run that this one starts from."""


def load_inputs(config: Config, store_url: str) -> Inputs:
    """Check folders, data and the run to start from; change nothing.  Raises InputError."""
    config, parent = with_parent(with_absolute_paths(config), store_url)
    check_writable(Path(config.run.output_dir), "run.output_dir")
    pool, eval_pool = load_pools(config)
    config.curriculum.count(len(pool))
    check_room(config.curriculum, len(pool))
    check_categories(config.curriculum, samples_of(pool))
    return Inputs(config, pool, eval_pool, parent)


def complete(inputs: Inputs) -> Prepared:
    """Check model and training arguments, too; still nothing is changed.

    Takes seconds, for the imports of torch and TRL.  Raises InputError and its kin.
    """
    from edco_core.base_model import pinned
    from edco_core.loading import check_model
    from edco_core.prompts import check_chat_template
    from edco_core.scoring import check_engine
    from edco_core.training import build_sampling, make_plan

    config = inputs.config
    plan = make_plan(
        config.training,
        num_intervals=config.curriculum.intervals,
        samples_per_interval=config.curriculum.count(len(inputs.pool)),
    )
    if isinstance(config.training, GrpoSection):
        for part in config.curriculum.parts():
            build_sampling(config.training, part)  # refuses what does not go together
    check_engine(config.scoring)
    # The folder that 'run:…' stands for may not have been made yet; its tokenizer is the base's.
    tokenizer = check_model(inputs.parent.base if inputs.parent else config.model)
    is_sft = not isinstance(config.training, GrpoSection)
    check_chat_template(inputs.pool, tokenizer, with_completions=is_sft)
    if inputs.eval_pool is not None:
        check_chat_template(inputs.eval_pool, tokenizer)
    if inputs.parent is None:
        config = config.model_copy(update={"model": pinned(config.model)})
    return Prepared(config, inputs.pool, inputs.eval_pool, plan, inputs.parent)


def check_ledger(store_url: str, run_id: str | None = None) -> str:
    """Check that the ledger can be used, and that the run id is free; creates nothing.

    Returns what was found, for people.
    """
    database = Database(store_url, read_only=True)
    if database.path is not None and not database.exists():
        if not database.path.parent.is_dir():
            raise ConfigError(
                f"store.url: '{database.path.parent}' is no folder, so {database.address} cannot "
                "be made there. Make the folder, or give another --store URL."
            )
        check_writable(database.path.parent, "store.url")
        return f"{database.address} (will be made)"
    if database.path is not None:  # DuckDB writes beside the file, too
        check_writable(database.path.parent, "store.url")
        if not os.access(database.path, os.W_OK):
            raise ConfigError(
                f"store.url: '{database.path}' cannot be written to by this user. Change its "
                "permissions, or give another --store URL."
            )
    if db_current(store_url) is None:
        return f"{database.address} (will be made)"
    ledger = open_ledger(store_url, read_only=True)
    if run_id is not None:
        with contextlib.suppress(NotFoundError):
            queries.run(ledger, run_id)
            raise RunExistsError(
                f"run {run_id} is in the ledger {ledger.address} already. Carry it on with "
                f"'edco resume {run_id}', or give another --run-id."
            )
    return ledger.address


def check_texts(inputs: Inputs, store_url: str) -> None:
    """Raise InputError where the ledger has texts that are to be kept out of it."""
    if inputs.config.store.keep_texts:
        return
    database = Database(store_url, read_only=True)
    if database.exists() and db_current(store_url) is not None:
        pools = [pool for pool in (inputs.pool, inputs.eval_pool) if pool is not None]
        ledger = open_ledger(store_url, read_only=True)
        ledger.refuse_kept_texts([pool.fingerprint for pool in pools])


def load_pools(config: Config) -> tuple[Pool, Pool | None]:
    """The pool and the evaluation set of a configuration."""
    pool = load_training_pool(config)
    if config.data.eval is None or config.evaluation is None:
        return pool, None
    metric = [config.evaluation.metric]
    needs = needed_fields(metric)
    eval_pool = load_pool(config.data.eval, config.data, split="eval", needs=needs)
    check_fields(metric, eval_pool, "evaluation.metric")
    _tell_of_shared(pool, eval_pool)
    return pool, eval_pool


_told_of: set[tuple[str, str]] = set()


def _tell_of_shared(pool: Pool, eval_pool: Pool) -> None:
    """What is measured on samples that are trained on says little; told once in a process."""
    which = (pool.fingerprint, eval_pool.fingerprint)
    if which in _told_of:
        return
    _told_of.add(which)
    hashes = [each.table.column("content_hash") for each in (eval_pool, pool)]
    num_shared = pc.sum(pc.is_in(hashes[0], value_set=hashes[1])).as_py() or 0
    if num_shared:
        say(
            f"{num_shared} of the {len(eval_pool)} samples of data.eval are in data.train, too: "
            "what is measured on them is not what the model does with new ones"
        )


def load_training_pool(config: Config) -> Pool:
    """The pool of a configuration, with the fields that its rewards need."""
    rewards = _rewards_on_the_pool(config)
    needs = frozenset().union(*(needed_fields(sections) for sections in rewards.values()))
    pool = load_pool(config.data.train, config.data, split="train", needs=needs)
    for key, sections in rewards.items():
        check_fields(sections, pool, key)
    return pool


def _rewards_on_the_pool(config: Config) -> dict[str, Sequence[BaseRewardSection]]:
    """The settings that judge answers to samples of the pool, and what they hold."""
    judging: dict[str, Sequence[BaseRewardSection]] = {}
    if isinstance(config.scoring, PassRateSection):
        judging["scoring.metric"] = [config.scoring.metric]
    if isinstance(config.training, GrpoSection):
        judging["training.rewards"] = config.training.rewards
    return judging


def rewards_of(config: Config) -> list[BaseRewardSection]:
    """Everything that judges an answer in a run: of training, scoring and evaluation."""
    judging = [each for sections in _rewards_on_the_pool(config).values() for each in sections]
    return judging if config.evaluation is None else [*judging, config.evaluation.metric]


def run_spec(prepared: Prepared, run_id: str, identity: Mapping[str, str]) -> RunSpec:
    """The record of a run that is about to start; ``identity`` is what a resume must find again."""
    config = prepared.config
    return RunSpec(
        run_id=run_id,
        name=config.run.name,
        experiment=config.run.experiment,
        seed=config.run.seed,
        strategy=config.curriculum.type,
        scorer=config.scoring.type,
        trainer=config.training.type,
        model=config.model.name_or_path,
        dataset_id=prepared.pool.fingerprint,
        eval_dataset_id=prepared.eval_pool.fingerprint if prepared.eval_pool else None,
        metric=config.evaluation.metric.type if config.evaluation else None,
        intervals=config.curriculum.intervals,
        pool_size=len(prepared.pool),
        top_n=prepared.plan.samples_per_interval,
        run_dir=str(Path(config.run.output_dir) / run_id),
        config=config.for_ledger(),
        plan=asdict(prepared.plan)
        | {"total_steps": prepared.plan.total_steps, **identity}
        | (prepared.parent.facts if prepared.parent else {}),
        versions=package_versions(),
    )


def package_versions() -> dict[str, str]:
    """Versions of what a result depends on; a package that is absent is left out."""
    versions = {"python": platform.python_version()}
    for name in _RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def check_writable(folder: Path, key: str) -> None:
    """Raise ConfigError unless the folder can be created or written to; creates nothing."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError(f"{key}: '{existing}' is a file, not a folder. Give another folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(
            f"{key}: '{existing}' cannot be written to by this user. Give another folder, or "
            f"change its permissions."
        )


def check_new_folder(run_dir: Path) -> None:
    """Raise RunExistsError where a run has left files: a new one would take them for its own."""
    if run_dir.is_dir() and any(run_dir.iterdir()):
        raise RunExistsError(
            f"--run-id {run_dir.name}: the folder {run_dir} is not empty, though the ledger has no "
            "such run. Remove it, or give another --run-id."
        )


def check_run_id(run_id: str) -> str:
    """A run id as given by a user; it names a folder, too."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", run_id):
        raise InputError(
            f"--run-id {run_id}: use up to 100 letters, digits, '.', '_' and '-', "
            "a letter or digit first."
        )
    return run_id


def with_absolute_paths(config: Config) -> Config:
    """The configuration as it is understood in any working directory."""
    values: dict[str, Any] = config.model_dump(mode="json")
    values["run"]["output_dir"] = str(Path(config.run.output_dir).expanduser().resolve())
    values["model"]["name_or_path"] = _absolute_if_local(config.model.name_or_path)
    python = values["scoring"].get("engine_python")
    if python is not None and os.sep in python:  # a link, which is what makes it that environment
        values["scoring"]["engine_python"] = str(Path(python).expanduser().absolute())
    for key in ("train", "eval"):
        source = getattr(config.data, key)
        if source is not None:
            values["data"][key] = _absolute_if_local(source)
    return parse_config(values)


def _absolute_if_local(source: str) -> str:
    """Local paths and globs become absolute; hub ids stay as they are."""
    path = Path(source).expanduser()
    if path.exists():
        return str(path.resolve())
    if any(sign in source for sign in "*?["):
        return str(Path.cwd() / path)
    return source
