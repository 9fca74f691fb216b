"""What goes wrong under a ledger: leases lost, connections cut, servers away, disks full.

After each fault the ledger holds what it held before or what was wanted, never a part of it or
twice as much, and the same call works again.
"""

from __future__ import annotations

import inspect
import itertools
import os
import re
import resource
import select
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from own_postgres import PASSWORD, SECRETS, OwnPostgres, own_postgres
from sqlalchemy import make_url, text

from edco_core.errors import (
    EdcoError,
    InputError,
    LeaseLostError,
    LedgerBusyError,
    LedgerError,
)
from edco_core.records import Lease, Pool
from storage import Ledger, open_ledger, queries
from storage.connecting import ConnectionLostError
from storage.tables import metadata
from tests.storage.conftest import (
    curriculum,
    do_interval,
    do_run,
    make_checkpoint,
    make_evaluation,
    make_outcome,
    make_pool,
    make_selection,
    make_spec,
    pool_scores,
    shard,
)

POOL = make_pool()
SCORES = pool_scores(0, len(POOL))
CHOSEN = curriculum(0, len(POOL))

UNLIKE = {"created_at", "finished_at", "removed_at", "lease_expires_at", "lease_token"}
"""Columns in which two runs differ that did the same."""

WRITE: dict[str, Callable[[Ledger, Lease], object]] = {
    "renew": lambda ledger, lease: ledger.renew(lease),
    "begin_stage": lambda ledger, lease: ledger.begin_stage(lease, 0, "scoring"),
    "finish_checkpoint": lambda ledger, lease: ledger.finish_checkpoint(
        lease, make_checkpoint(0, 0), make_evaluation(-1), 1.0
    ),
    "add_scores": lambda ledger, lease: [
        ledger.add_scores(lease, 0, part) for part in (shard(SCORES, 20), shard(SCORES, 0, 20))
    ],
    "finish_scoring": lambda ledger, lease: ledger.finish_scoring(lease, 0, 1.0),
    "finish_selection": lambda ledger, lease: ledger.finish_selection(
        lease, 0, make_selection(SCORES, CHOSEN), 1.0
    ),
    "finish_training": lambda ledger, lease: ledger.finish_training(
        lease, 0, make_outcome(0, CHOSEN), make_evaluation(0)
    ),
    "mark_checkpoint_removed": lambda ledger, lease: ledger.mark_checkpoint_removed(
        lease.run_id, 0, lease
    ),
    "release": lambda ledger, lease: ledger.release(lease, "finished"),
}
"""Every verb that writes for a run, in the order of one interval."""


def contents(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables but for what depends on the clock."""
    found = {}
    with ledger._database.reading() as connection:
        for table in metadata.tables.values():
            names = ", ".join(column.name for column in table.columns if column.name not in UNLIKE)
            rows = connection.execute(text(f"SELECT {names} FROM {table.name}")).all()
            found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


def new_run(ledger: Ledger, owner: str = "me") -> Lease:
    ledger.register_pool(POOL)
    return ledger.create_run(make_spec(pool=POOL, intervals=1), owner)


# ---------------------------------------------------------------- leases


def test_a_process_that_lost_its_lease_can_write_nothing_with_any_verb(ledger: Ledger) -> None:
    verbs = {
        name
        for name, verb in inspect.getmembers(Ledger, inspect.isfunction)
        if not name.startswith("_") and "lease" in inspect.signature(verb).parameters
    }
    assert set(WRITE) == verbs
    lost = new_run(ledger)
    ledger.acquire("demo-1", "thief", steal_if=lambda owner: owner == "me")
    before = contents(ledger)
    for write in WRITE.values():
        with pytest.raises(LeaseLostError, match="no longer owned by this process"):
            write(ledger, lost)
    assert contents(ledger) == before


def test_a_lease_that_ran_out_is_still_its_owners_until_somebody_takes_it(ledger: Ledger) -> None:
    lease = new_run(ledger)
    expire(ledger)
    ledger.begin_stage(lease, 0, "checkpoint")
    expire(ledger)
    thief = ledger.acquire("demo-1", "thief")
    with pytest.raises(LeaseLostError):
        ledger.renew(lease)
    ledger.renew(thief)


def test_what_was_entered_or_given_up_can_be_so_again_by_its_owner_alone(ledger: Ledger) -> None:
    """An owner who lost the answer to these asks again, and nobody else gets in that way."""
    lease = new_run(ledger)
    assert new_run(ledger) == lease
    with pytest.raises(InputError, match="in the ledger already"):
        new_run(ledger, owner="somebody else")
    ledger.release(lease, "finished")
    ledger.release(lease, "failed", "this is not heard any more")
    assert ledger.run_state("demo-1").status == "finished"
    with pytest.raises(InputError, match="in the ledger already"):
        new_run(ledger)
    ledger.acquire("demo-1", "thief")
    with pytest.raises(LeaseLostError):
        ledger.release(lease, "failed")


def expire(ledger: Ledger) -> None:
    with ledger._database.writing() as connection:
        connection.execute(
            text("UPDATE runs SET lease_expires_at = lease_expires_at - INTERVAL '1 hour'")
        )


# ---------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_wherever_it_comes_and_can_be_given_again(
    ledger: Ledger, bad: float
) -> None:
    lease = new_run(ledger)
    good = make_selection(SCORES, CHOSEN)
    spoilt = SCORES.copy()
    spoilt[3] = bad
    assert good.probabilities is not None
    before = contents(ledger)
    for write in (
        lambda: ledger.add_scores(lease, 0, shard(spoilt)),
        lambda: ledger.finish_selection(lease, 0, replace(good, scores=good.scores * bad), 1.0),
        lambda: ledger.finish_selection(
            lease, 0, replace(good, probabilities=good.probabilities * bad), 1.0
        ),
        lambda: ledger.finish_selection(lease, 0, replace(good, cutoff=bad), 1.0),
    ):
        with pytest.raises(LedgerError, match=r"NaN or infinite.*look at|not a finite number"):
            write()
    assert contents(ledger) == before
    for name in ("add_scores", "finish_scoring", "finish_selection"):
        WRITE[name](ledger, lease)


# ---------------------------------------------------------------- connections cut

_IN_THE_MIDDLE = {
    "writing": re.compile(
        rb"INSERT INTO|COPY |UPDATE saved_checkpoints|UPDATE runs SET (?!lease_token)"
    ),
    "reading": re.compile(rb"SELECT|COPY "),
}


class Cutter:
    """Stands between clients and their server, and cuts connections at the worst moments.

    ``fates`` says for one transaction after the other what becomes of it: "middle" (cut before the
    server hears of the first thing that matters), "before commit", "after commit" (the server has
    committed, the client does not hear of it), "at once" (if it writes), "in the data" (after a
    megabyte of it) or "none".
    """

    def __init__(self, url: str) -> None:
        self.direct_url = url
        self.fates: Iterator[str] = itertools.repeat("none")
        self.num_cut = 0
        address = make_url(url)
        host, port = str(address.query.get("host") or address.host), address.port or 5432
        on_socket = host.startswith("/")
        self._server: Any = f"{host}/.s.PGSQL.{port}" if on_socket else (host, port)
        self._family = socket.AF_UNIX if on_socket else socket.AF_INET
        self._listener = socket.create_server(("127.0.0.1", 0))
        query = {key: value for key, value in address.query.items() if key != "host"}
        self.url = address.set(
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            query={**query, "sslmode": "disable", "gssencmode": "disable"},
        ).render_as_string(hide_password=False)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(self._family) as server, suppress(ConnectionError):
            server.connect(self._server)
            self._relay(client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        fate, kind, num_bytes = "none", "reading", 0
        while True:
            for source in select.select([client, server], [], [])[0]:
                data = source.recv(1 << 20)
                if not data:
                    return
                if source is server:
                    client.sendall(data)
                    continue
                if b"BEGIN" in data:
                    fate, kind, num_bytes = next(self.fates), "reading", 0
                num_bytes += len(data)
                if b"work_mem" in data:  # set at the beginning of every writing transaction
                    kind = "writing"
                if (
                    (fate == "at once" and kind == "writing")
                    or (fate == "middle" and _IN_THE_MIDDLE[kind].search(data))
                    or (fate == "in the data" and num_bytes > 1 << 20)
                    or (fate == "before commit" and b"COMMIT" in data)
                ):
                    self.num_cut += 1
                    return
                server.sendall(data)
                if fate == "after commit" and b"COMMIT" in data:
                    self.num_cut += 1
                    answer = server.recv(1 << 16)
                    while answer and b"COMMIT" not in answer:
                        answer += server.recv(1 << 16)
                    return


@pytest.fixture
def cutter(new_ledger_url: Callable[[str], str]) -> Iterator[Cutter]:
    """A way to a new ledger."""
    cutter = Cutter(new_ledger_url("postgres"))
    yield cutter
    cutter.close()


WORST = ["middle", "before commit", "after commit", "none"]

READ: dict[str, Callable[[Ledger], Any]] = {
    "find_run": lambda ledger: ledger.find_run("demo"),
    "run_state": lambda ledger: ledger.run_state("demo-1"),
    "pool_size": lambda ledger: ledger.pool_size("pool-a"),
    "pool_texts": lambda ledger: ledger.pool_texts("pool-a", [3]),
    "refuse_kept_texts": lambda ledger: ledger.refuse_kept_texts(["pool-b"]),
    "sample_places": lambda ledger: ledger.sample_places("pool-a", ["00000000_0000"]),
    "stage_done": lambda ledger: ledger.stage_done("demo-1", 0, "scoring"),
    "stage_facts": lambda ledger: ledger.stage_facts("demo-1", 0, "scoring"),
    "scored_ordinals": lambda ledger: ledger.scored_ordinals("demo-1", 1),
    "scores": lambda ledger: ledger.scores("demo-1", 0),
    "scores_so_far": lambda ledger: ledger.scores_so_far("demo-1", 1),
    "score_history": lambda ledger: ledger.score_history("demo-1", 1),
    "selection": lambda ledger: ledger.selection("demo-1", 0),
    "rollouts": lambda ledger: ledger.rollouts("demo-1", 0),
    "beliefs": lambda ledger: ledger.beliefs("demo-1", 0),
    "checkpoint": lambda ledger: ledger.checkpoint("demo-1", 0),
    "gradient_terms": lambda ledger: ledger.gradient_terms("demo-1", 1),
    "alarms": lambda ledger: ledger.alarms("demo-1"),
    "calibration": lambda ledger: ledger.calibration("some", "step", "hash"),
    "query": lambda ledger: ledger.query("SELECT count(*) FROM sample_history"),
    "frame": lambda ledger: ledger.frame("turnover").to_dict(),
    "queries": lambda ledger: queries.intervals(ledger, "demo-1"),
}
"""Every verb that reads, of a ledger after one interval and a half."""


@pytest.mark.postgres
def test_a_verb_whose_connection_is_cut_again_and_again_is_carried_out_once_all_the_same(
    cutter: Cutter, ledger: Ledger
) -> None:
    heard: list[str] = []
    shaken = open_ledger(cutter.url, on_wait=heard.append)
    cutter.fates = itertools.cycle(WORST)
    lease, calm_lease = new_run(shaken), new_run(ledger)
    for write in WRITE.values():
        assert write(shaken, lease) == write(ledger, calm_lease)
    shaken.acquire("demo-1", "me again")
    shaken.interrupt_lost(lambda owner: owner == "me again")
    taken = shaken.acquire("demo-1", "me once more")
    others = ["pool", "run", "second shard", "lease", "interrupted", "lease again"]
    num_transactions = len(others) + len(WRITE)
    assert cutter.num_cut == 3 * num_transactions
    assert {line.rpartition("; ")[2] for line in heard} == {"connecting again", "going on"}
    cutter.fates = itertools.repeat("none")
    shaken.release(taken, "finished")
    assert contents(open_ledger(cutter.direct_url)) == contents(ledger)


@pytest.mark.postgres
def test_what_is_asked_on_a_connection_that_is_cut_is_answered_all_the_same(
    cutter: Cutter,
) -> None:
    calm = open_ledger(cutter.direct_url)
    calm.register_pool(POOL)
    lease = calm.create_run(make_spec(pool=POOL), "me")
    do_interval(calm, lease, 0, POOL)
    calm.add_scores(lease, 1, shard(SCORES, 5, 9))
    shaken = open_ledger(cutter.url)
    cutter.fates = itertools.cycle(WORST)
    for read in READ.values():
        assert repr(read(shaken)) == repr(read(calm))
    assert cutter.num_cut == 3 * len(READ)


def test_the_tests_above_cover_every_verb_that_is_retried() -> None:
    retried = {
        name
        for name, verb in inspect.getmembers(Ledger, inspect.isfunction)
        if hasattr(verb, "__wrapped__") and not inspect.isgeneratorfunction(inspect.unwrap(verb))
    }
    others = {"register_pool", "create_run", "acquire", "interrupt_lost"}
    others |= {"keep_comparison", "keep_calibration"}  # of several runs
    assert set(WRITE) < retried <= {*WRITE, *READ, *others}


@pytest.mark.postgres
def test_rows_whose_transfer_is_cut_come_again_from_the_first(
    cutter: Cutter, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = open_ledger(cutter.url, on_wait=lambda message: None)
    cutter.fates = iter(["in the data", "none"])
    pool = pool_of_bytes(4 << 20)
    ledger.register_pool(pool)
    assert cutter.num_cut == 1
    calm = open_ledger(cutter.direct_url)
    assert calm.pool_size(pool.fingerprint) == len(contents(calm)["pool_samples"]) == len(pool)
    assert caplog.records == []


@pytest.mark.postgres
def test_a_connection_that_is_always_cut_is_an_error_after_some_attempts(cutter: Cutter) -> None:
    ledger = open_ledger(cutter.url)
    cutter.fates = itertools.repeat("before commit")
    with pytest.raises(ConnectionLostError, match=r"was lost: .*; try again"):
        ledger.register_pool(POOL)
    assert cutter.num_cut == 5
    assert contents(open_ledger(cutter.direct_url))["datasets"] == []


@pytest.mark.postgres
def test_rows_that_are_there_are_no_success_when_it_was_not_this_call_that_wrote_them(
    cutter: Cutter,
) -> None:
    ledger = open_ledger(cutter.url)
    lease = new_run(ledger)
    ledger.add_scores(lease, 0, shard(SCORES))
    cutter.fates = iter(["at once", "none"])
    with pytest.raises(LedgerError, match="scored already"):
        ledger.add_scores(lease, 0, shard(SCORES))
    assert cutter.num_cut == 1


@pytest.mark.postgres
def test_a_connection_that_an_administrator_ends_is_made_anew(
    new_ledger_url: Callable[[str], str],
) -> None:
    ledger = open_ledger(new_ledger_url("postgres"))
    lease = new_run(ledger)
    with ledger._database.writing() as connection:
        for statement in END_THE_FIRST_WRITER:
            connection.exec_driver_sql(statement)
    ledger.finish_checkpoint(lease, make_checkpoint(0, 0), None, 1.0)
    assert ledger.stage_done("demo-1", 0, "checkpoint")
    with ledger._database.reading() as connection:
        assert connection.execute(text("SELECT last_value FROM attempts")).scalar() == 2


END_THE_FIRST_WRITER = (
    "CREATE SEQUENCE attempts",  # counts on when its transaction is undone
    "CREATE FUNCTION end_the_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF nextval('attempts') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; "
    "RETURN NEW; END $$",
    "CREATE TRIGGER end_the_first BEFORE INSERT ON stages "
    "FOR EACH ROW EXECUTE FUNCTION end_the_first()",
)


# ---------------------------------------------------------------- a server that is away


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    server = own_postgres()
    yield server
    server.remove()


@pytest.mark.postgres
def test_a_server_that_restarts_is_waited_for_and_the_user_is_told_once(
    server: OwnPostgres,
) -> None:
    heard: list[str] = []
    told = threading.Event()

    def hear(message: str) -> None:
        heard.append(message)
        told.set()

    ledger = open_ledger(server.new_url(), on_wait=hear)
    lease = new_run(ledger)
    server.stop()
    writers = [threading.Thread(target=WRITE[verb], args=(ledger, lease)) for verb in WRITE_AT_ONCE]
    for writer in writers:
        writer.start()
    assert told.wait(timeout=60)
    server.start()
    for writer in writers:
        writer.join()
    assert ledger.stage_done("demo-1", 0, "checkpoint")
    assert len(ledger.scored_ordinals("demo-1", 0)) == len(POOL)
    waiting, back = heard
    assert re.match(r"waiting for the ledger postgres\S+: away \(.*No such file", waiting)
    assert back.endswith("is back; going on")


WRITE_AT_ONCE = ("renew", "finish_checkpoint", "add_scores")


@pytest.mark.postgres
def test_a_server_that_stays_away_is_an_error_and_the_ledger_goes_on_when_it_is_back(
    server: OwnPostgres,
) -> None:
    url = server.new_url()
    ledger = open_ledger(url, busy_timeout_s=0.1)
    patient = open_ledger(url, on_wait=lambda message: patient.wait_at_most(1))
    server.stop()
    try:
        for waiting in (ledger, patient):
            with pytest.raises(LedgerBusyError, match=r"is away .*Try again when the server"):
                waiting.register_pool(POOL)
        with pytest.raises(LedgerError, match=r"cannot be reached: .*check that the server runs"):
            open_ledger(url)
    finally:
        server.start()
    for waiting in (ledger, patient):
        waiting.register_pool(POOL)
    assert ledger.pool_size("pool-a") == len(POOL)


# ---------------------------------------------------------------- disks that are full


@contextmanager
def no_file_may_grow_beyond(size: int) -> Iterator[None]:
    """What a full disk does to this process and to those it starts meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_under_duckdb_is_a_clear_error_and_loses_nothing(
    new_ledger_url: Callable[[str], str],
) -> None:
    ledger, untouched = (open_ledger(new_ledger_url("duckdb")) for _ in range(2))
    lease, other_lease = new_run(ledger), new_run(untouched)
    for name, write in WRITE.items():
        with no_file_may_grow_beyond(0), pytest.raises(LedgerError) as caught:
            write(ledger, lease)
        assert re.search(r"File too large; there is no room left.*Make room", str(caught.value))
        assert contents(ledger) == contents(untouched), name
        write(ledger, lease)
        write(untouched, other_lease)
    assert contents(ledger) == contents(untouched)


@pytest.mark.postgres
def test_a_full_disk_under_postgres_is_a_clear_error_and_loses_nothing(
    server: OwnPostgres,
) -> None:
    ledger = open_ledger(server.new_url())
    ledger.register_pool(POOL)
    before = contents(ledger)
    wal_segment = 16 << 20
    server.stop()
    with no_file_may_grow_beyond(wal_segment):
        server.start()
    with pytest.raises(LedgerError, match=r"File too large.*there is no room left.*Make room"):
        ledger.register_pool(pool_of_bytes(wal_segment))
    assert contents(ledger) == before
    server.stop()
    server.start()
    ledger.register_pool(pool_of_bytes(wal_segment))
    assert contents(ledger)["datasets"] != before["datasets"]


def pool_of_bytes(size: int) -> Pool:
    """A pool whose prompts take more than that, however well they are packed."""
    rows = 2000
    rng = np.random.default_rng(0)
    prompts = [rng.bytes(size // rows).hex() for _ in range(rows)]
    pool = make_pool(rows, "pool-b")
    index = pool.table.column_names.index("prompt")
    return replace(pool, table=pool.table.set_column(index, "prompt", pa.array(prompts)))


# ---------------------------------------------------------------- places that may not be used


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="edco-places-"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may write everywhere; as root, be somebody else for this block."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


READ_ONLY_FILE, READ_ONLY_FOLDER, CLOSED_FILE, CLOSED_FOLDER = (
    (0o444, 0o777), (0o666, 0o555), (0o000, 0o777), (0o666, 0o000),
)  # fmt: skip
"""Permissions of the ledger's file and of its folder."""


@pytest.mark.parametrize(
    ("file", "above", "readable"),
    [
        (*READ_ONLY_FILE, True),
        (*READ_ONLY_FOLDER, True),
        (*CLOSED_FILE, False),
        (*CLOSED_FOLDER, False),
    ],
)
def test_a_place_that_may_not_be_used_is_named_and_usable_again_when_it_may(
    duckdb_template: Path, folder: Path, file: int, above: int, readable: bool
) -> None:
    path = folder / "edco.duckdb"
    shutil.copy(duckdb_template, path)
    url = f"duckdb:///{path}"
    path.chmod(file)
    folder.chmod(above)
    with as_ordinary_user():
        with pytest.raises(EdcoError, match=r"Permission denied.*Change the permissions") as caught:
            open_ledger(url).register_pool(POOL)
        assert str(path) in str(caught.value)
        if readable:
            assert open_ledger(url, read_only=True).query("SELECT count(*) FROM samples")[1] == [
                (0,)
            ]
        else:
            with pytest.raises(EdcoError, match=r"Permission denied.*Change the permissions"):
                open_ledger(url, read_only=True)
    folder.chmod(0o777)
    path.chmod(0o666)
    with as_ordinary_user():
        ledger = open_ledger(url)
        ledger.register_pool(POOL)
        assert ledger.pool_size("pool-a") == len(POOL)


@pytest.mark.postgres
def test_a_role_that_may_only_read_is_told_so_by_postgres_itself(server: OwnPostgres) -> None:
    url = server.new_url()
    do_run(open_ledger(url), intervals=1)
    database = make_url(url).database
    server.execute("CREATE ROLE looker LOGIN PASSWORD 'looker'")
    server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looker", database=database)
    looker = open_ledger(server.url(user="looker", password="looker", database=database))
    assert looker.find_run("demo") == "demo-1"
    with pytest.raises(LedgerError, match=r"permission denied.*this user may not do that"):
        looker.register_pool(make_pool(3, "pool-b"))


# ---------------------------------------------------------------- addresses that lead nowhere


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"password": "wr0ng"}, r"password authentication failed.*check user and password"),
        ({"user": "stranger"}, r"password authentication failed.*check user and password"),
        ({"password": ""}, r"no password supplied.*check user and password"),
        ({"database": "nix"}, r"does not exist.*createdb"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_without_its_password(
    server: OwnPostgres, changes: dict[str, str], problem: str
) -> None:
    address = server.url(**changes)
    with pytest.raises(LedgerError, match=problem) as caught:
        open_ledger(address)
    shown = repr(caught.value) + repr(caught.value.__cause__)
    assert not [secret for secret in (*SECRETS, "wr0ng") if secret in shown]


@pytest.mark.postgres
def test_a_password_that_the_database_repeats_is_hidden(server: OwnPostgres) -> None:
    ledger = open_ledger(server.new_url())
    with pytest.raises(InputError, match=r'column "\*\*\*" does not exist') as caught:
        ledger.query(f'SELECT "{PASSWORD}"')
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["no-such-host.invalid", "127.0.0.1:1", "", "?host=/nowhere", "?host=a,b.invalid"]
)
def test_a_host_that_does_not_answer_is_an_error_at_once(host: str) -> None:
    name, _, query = host.partition("?")
    address = f"postgresql+psycopg://edco:s3cret@{name}/edco?{query}"
    with pytest.raises(LedgerError, match=r"cannot be reached.*check that the server runs") as e:
        open_ledger(address)
    assert "s3cret" not in repr(e.value) + repr(e.value.__cause__)
