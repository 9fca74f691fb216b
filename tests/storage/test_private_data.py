"""A data set registered without its texts: nothing of them is in the ledger, all else is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import String, cast, or_, select, text
from sqlalchemy.types import Text

from edco_core.errors import InputError
from edco_core.records import Pool, SkippedRow
from storage import Ledger, db_copy, db_vacuum, open_ledger, queries
from storage.tables import metadata
from storage.views import VIEWS
from tests.storage.conftest import BACKENDS, do_interval, make_pool, make_spec

PLAIN = make_pool(size=200)
SECRETS = {
    "prompt": "Kniegelenk",
    "completion": "Ибупрофен",
    "answer": "Handfraktur",
    "metadata": "Obergutachten",
    "problem": "Blinddarm",
}
"""A word of each kind of text."""


def private_pool() -> Pool:
    """The standard pool, each kind of text with a word of its own."""
    table = PLAIN.table
    for name in ("prompt", "completion", "answer", "metadata"):
        column = [f"{SECRETS[name]} {i} Wie groß?\n" for i in range(len(PLAIN))]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(column))
    skipped = (SkippedRow("pool.jsonl:99", f"completion: '{SECRETS['problem']}' came."),)
    return replace(PLAIN, table=table, skipped=skipped)


POOL = private_pool()
TEXTS = ("prompt", "completion", "answer", "metadata")


def secrets_in_tables(ledger: Ledger) -> set[str]:
    """Kinds of text whose word stands in any column of any table."""
    found = set()
    with ledger._database.reading() as connection:
        for table in metadata.tables.values():
            columns = [cast(c, String) for c in table.columns if isinstance(c.type, Text)]
            for name, secret in SECRETS.items() if columns else ():
                hit = or_(*(column.contains(secret) for column in columns))
                if connection.execute(select(1).select_from(table).where(hit).limit(1)).scalar():
                    found.add(name)
    return found


def secrets_in_file(url: str) -> set[str]:
    """Kinds of text whose word stands in the bytes of a DuckDB file or of its log."""
    path = Path(url.removeprefix("duckdb:///"))
    content = b"".join(p.read_bytes() for p in (path, Path(f"{path}.wal")) if p.exists())
    return {name for name, secret in SECRETS.items() if secret.encode() in content}


def private_run(ledger: Ledger, run_id: str = "demo-1", *, keep_texts: bool = False) -> None:
    ledger.register_pool(POOL, keep_texts=keep_texts)
    lease = ledger.create_run(make_spec(run_id, POOL), "me")
    for interval in range(2):
        do_interval(ledger, lease, interval, POOL)
    ledger.release(lease, "finished")


def rows(ledger: Ledger, view: str) -> list[dict[str, Any]]:
    """All rows of a view, without the times of the clock."""
    with ledger._database.reading() as connection:
        found = connection.execute(text(f"SELECT * FROM {view}")).mappings().all()
    clock = ("created_at", "finished_at", "lease_expires_at")
    return sorted(({k: v for k, v in row.items() if k not in clock} for row in found), key=repr)


@contextmanager
def unseen(_: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


def without_texts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | dict.fromkeys(set(TEXTS) & row.keys()) for row in rows]


def test_no_text_of_a_private_data_set_is_anywhere_in_the_ledger(ledger: Ledger, url: str) -> None:
    private_run(ledger)
    assert secrets_in_tables(ledger) == set()
    if url.startswith("duckdb"):
        assert secrets_in_file(url) == set()
        with ledger._database.engine.connect() as connection:
            connection.exec_driver_sql("CHECKPOINT")
        assert secrets_in_file(url) == set()


def test_the_search_for_texts_finds_them_where_they_are_kept(ledger: Ledger, url: str) -> None:
    private_run(ledger, keep_texts=True)
    assert secrets_in_tables(ledger) == set(SECRETS)
    if url.startswith("duckdb"):
        assert secrets_in_file(url) == set(SECRETS)


def test_all_but_texts_is_the_same_as_in_a_ledger_that_keeps_them(
    ledger: Ledger, request: pytest.FixtureRequest, new_ledger_url: Callable[[str], str]
) -> None:
    private_run(ledger)
    backend = "duckdb" if ledger.address.startswith("duckdb") else "postgres"
    keeping = open_ledger(new_ledger_url(backend))
    private_run(keeping, keep_texts=True)
    for view in VIEWS:
        if view != "skipped_rows":
            assert rows(ledger, view) == sorted(without_texts(rows(keeping, view)), key=repr), view
    sample_id = POOL.table["sample_id"][3].as_py()
    whys = [queries.why(each, "demo-1", sample_id) for each in (ledger, keeping)]
    assert whys[0]["history"] == whys[1]["history"]
    difficult = [queries.difficult(each, "demo-1") for each in (ledger, keeping)]
    assert difficult[0] == without_texts(difficult[1])
    assert len(difficult[0]) > 0
    (problem,) = {row["problem"] for row in rows(ledger, "skipped_rows")}
    assert problem.startswith("not kept")
    assert [row["source"] for row in rows(ledger, "skipped_rows")] == ["pool.jsonl:99"]


@pytest.mark.parametrize("keep_texts", [True, False])
def test_hash_place_and_lengths_are_kept_either_way(ledger: Ledger, keep_texts: bool) -> None:
    ledger.register_pool(POOL, keep_texts=keep_texts)
    given = POOL.table.to_pylist()
    stored = {row["sample_id"]: row for row in rows(ledger, "samples")}
    for row in given:
        kept = stored[row["sample_id"]]
        for name in ("content_hash", "source", "category"):
            assert kept[name] == row[name]
        for name in ("prompt", "completion"):
            assert kept[f"{name}_chars"] == len(row[name])
    ids = [row["sample_id"] for row in given]
    assert ledger.sample_places(POOL.fingerprint, [*ids, "no-such-sample"]) == {
        row["sample_id"]: (row["content_hash"], row["source"]) for row in given
    }


def test_a_later_run_that_keeps_texts_puts_them_in(ledger: Ledger) -> None:
    private_run(ledger)
    before = rows(ledger, "sample_history")
    elsewhere = replace(POOL, source="other.jsonl")
    ledger.register_pool(elsewhere)
    assert secrets_in_tables(ledger) == set(SECRETS)
    assert ledger.pool_texts(POOL.fingerprint, range(len(POOL))) == POOL.table.to_pylist()
    assert rows(ledger, "sample_history") == before
    ledger.register_pool(elsewhere)
    assert len(rows(ledger, "samples")) == len(POOL)
    assert len(rows(ledger, "skipped_rows")) == 1


def test_a_private_run_is_refused_where_another_keeps_the_texts(ledger: Ledger) -> None:
    """As training data or as evaluation data, whether asked beforehand or at registration."""
    private_run(ledger, "reads-all", keep_texts=True)
    trained = make_pool(3, "trained-on")
    ledger.register_pool(trained)
    spec = make_spec("evaluates", trained, eval_dataset_id=POOL.fingerprint)
    ledger.release(ledger.create_run(spec, "me"), "finished")
    for act in (
        lambda: ledger.refuse_kept_texts(["unknown", POOL.fingerprint]),
        lambda: ledger.register_pool(POOL, keep_texts=False),
    ):
        with pytest.raises(InputError, match=r"data set pool-a already, for run reads-all, evalu"):
            act()
    assert secrets_in_tables(ledger) == set(SECRETS)
    ledger.remove_run("reads-all")
    with pytest.raises(InputError, match=r"for run evaluates\. Give another ledger .*edco runs rm"):
        ledger.register_pool(POOL, keep_texts=False)
    ledger.remove_run("evaluates")
    ledger.refuse_kept_texts([POOL.fingerprint])
    private_run(ledger)
    assert secrets_in_tables(ledger) == set()


def test_texts_that_no_run_kept_leave_the_ledger(ledger: Ledger) -> None:
    """Such as those of a run that was killed before it was entered."""
    ledger.register_pool(POOL)
    ledger.refuse_kept_texts([POOL.fingerprint])
    private_run(ledger)
    assert secrets_in_tables(ledger) == set()


def test_texts_of_a_removed_run_are_out_of_the_file_after_a_vacuum(
    new_ledger_url: Callable[[str], str],
) -> None:
    url = new_ledger_url("duckdb")
    private_run(open_ledger(url), keep_texts=True)
    open_ledger(url).remove_run("demo-1")
    db_vacuum(url)
    assert secrets_in_file(url) == set()


@pytest.mark.parametrize("target", BACKENDS)
def test_a_copy_is_as_private(ledger: Ledger, url: str, target: str, new_url: Any) -> None:
    private_run(ledger)
    target_url = new_url(target)
    db_copy(url, target_url, progress=unseen)
    copy = open_ledger(target_url)
    assert secrets_in_tables(copy) == set()
    assert rows(copy, "samples") == rows(ledger, "samples")
    copy.register_pool(POOL)  # the copy knows that texts were not kept
    assert secrets_in_tables(copy) == set(SECRETS)
