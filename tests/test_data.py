"""Data sets as users have them: every form is read, every fault is named, ids never move.

Long, since each kind of fault is a test of its own; most of it is two tables.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edco_core import data as data_module
from edco_core import data_files
from edco_core.config import DataSection
from edco_core.data import COLUMNS, content_id, find_samples, load_pool
from edco_core.errors import DataError
from edco_core.records import Pool

PLAIN = [
    {"prompt": "Log: link up\nTemplate:", "completion": " link <*>", "category": "link"},
    {"prompt": "日志: fan 3 失败", "completion": " fan <*> 失败", "answer": "3", "vendor": "甲"},
    {"prompt": 'say "hi", ok', "completion": " x\ny", "category": "two\nlines"},
]
USER = {"role": "user", "content": "How much is 2+2?"}
FOUR = {"role": "assistant", "content": "4"}
CHAT = {"prompt": [USER], "completion": [FOUR]}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows, or lines as they are, to ``pool.jsonl`` or another name; gives its path."""

    def write_file(rows: list[Any] | bytes, name: str = "pool.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write_file


def load(source: Path | str, needs: frozenset[str] = frozenset(), **settings: Any) -> Pool:
    section = DataSection(train=str(source), **settings)
    return load_pool(str(source), section, split="train", needs=needs)


def rows_of(pool: Pool) -> list[dict[str, Any]]:
    return pool.table.to_pylist()  # type: ignore[no-any-return]


def only(pool: Pool) -> dict[str, Any]:
    (row,) = rows_of(pool)
    return row


def samples_of(pool: Pool) -> list[dict[str, Any]]:
    """Without the source, which differs by file."""
    return pool.table.drop_columns(["source"]).to_pylist()  # type: ignore[no-any-return]


# --- files and forms ----------------------------------------------------------------------------


def test_the_table_is_as_documented(write: Write) -> None:
    pool = load(write(PLAIN))
    assert pool.table.schema == pa.schema([(name, pa.string()) for name in COLUMNS])
    assert not pool.conversational
    assert len(pool) == 3
    ids = pool.table["sample_id"].to_pylist()
    assert ids == sorted(ids)
    fan = next(row for row in rows_of(pool) if row["answer"] == "3")
    assert fan["prompt"] == "日志: fan 3 失败"
    assert fan["category"] is None
    assert fan["metadata"] == '{"vendor":"甲"}'
    assert fan["source"] == "pool.jsonl:2"


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    fields = sorted({key for row in rows for key in row})
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    "name",
    ["a.ndjson", "a.json", "a.JSON", "lines.json", "a.csv", "a.parquet", "a.jsonl.gz", "a.csv.gz"],
)
def test_every_format_gives_the_same_samples(write: Write, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    inner = path.with_suffix("") if path.suffix == ".gz" else path
    if inner.suffix == ".csv":
        write_csv(inner, PLAIN)
    elif inner.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(PLAIN, schema=schema_of(PLAIN)), inner)
    elif inner.suffix.lower() == ".json" and inner.name != "lines.json":
        inner.write_text(json.dumps(PLAIN, indent=2, ensure_ascii=False), encoding="utf-8")
    else:
        write(PLAIN, inner.name)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(inner.read_bytes()))
    expected = load(write(PLAIN, "reference/pool.jsonl"))
    pool = load(path)
    assert samples_of(pool) == samples_of(expected)
    assert pool.fingerprint == expected.fingerprint


def schema_of(rows: list[dict[str, Any]]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in sorted({key for row in rows for key in row})])


def test_lines_are_the_file_s_own(write: Write, tmp_path: Path) -> None:
    """Blank lines, line breaks inside CSV cells and a list's layout do not shift them."""
    first, second, third = PLAIN
    sources = {
        "a.jsonl": b"\xef\xbb\xbf" + f"{json.dumps(first)}\r\n\n{json.dumps(third)}".encode(),
        "b.json": f"[\n{json.dumps(first, indent=1)},\n\n {json.dumps(second)}]\n".encode(),
        "c.csv": b'prompt,completion\n"a\nb","c\r\nd"\n\ne,f\n',
    }
    lines = {
        name: [r["source"] for r in load_in_order(write(s, name))] for name, s in sources.items()
    }
    assert lines == {
        "a.jsonl": ["a.jsonl:1", "a.jsonl:3"],
        "b.json": ["b.json:2", "b.json:8"],
        "c.csv": ["c.csv:2", "c.csv:6"],
    }
    pq.write_table(pa.Table.from_pylist(PLAIN), tmp_path / "d.parquet")
    assert [r["source"] for r in load_in_order(tmp_path / "d.parquet")][-1] == "d.parquet:3"


def load_in_order(path: Path) -> list[dict[str, Any]]:
    return sorted(rows_of(load(path)), key=lambda row: int(row["source"].split(":")[1]))


def test_a_folder_is_its_data_files_and_nothing_else(write: Write, tmp_path: Path) -> None:
    write(PLAIN[:1], "d/b.jsonl")
    write(PLAIN[1:], "d/a.jsonl")
    write(b"# not data", "d/README.md")
    write([{"prompt": "hidden", "completion": "x"}], "d/.hidden.jsonl")
    pool = load(tmp_path / "d")
    assert {row["source"] for row in rows_of(pool)} == {"a.jsonl:1", "a.jsonl:2", "b.jsonl:1"}
    assert pool.source == str(tmp_path / "d")


def test_files_in_subfolders_beside_those_of_a_folder_are_not_left_out_without_a_word(
    write: Write, tmp_path: Path
) -> None:
    write(PLAIN[1:], "d/a.jsonl")
    write(PLAIN[:1], "d/x/y/b.jsonl")
    with pytest.raises(DataError, match=r"such as x/y/b\.jsonl.*\*\*/\*\.jsonl") as raised:
        load(tmp_path / "d")
    assert str(raised.value).endswith(f"data.train={tmp_path / 'd' / '*.jsonl'}")
    assert len(load(tmp_path / "d" / "*.jsonl")) == len(PLAIN[1:])


@pytest.mark.parametrize("name", ["b.jsonl.zst", "b.csv.bz2", "b.tsv"])
def test_files_of_a_folder_in_a_format_that_is_not_read_are_named(
    write: Write, tmp_path: Path, name: str
) -> None:
    write(PLAIN, "d/a.jsonl")
    write(b"", f"d/{name}")
    with pytest.raises(DataError, match=rf"{name} would be left out"):
        load(tmp_path / "d")
    assert len(load(tmp_path / "d" / "*.jsonl")) == len(PLAIN)


CALLS = [
    {"role": "assistant", "content": "", "tool_calls": [
        {"function": {"name": name, "arguments": arguments}}]}
    for name, arguments in (("f", {"query": "x", "limit": 3}), ("g", {"city": "Paris"}))
]  # fmt: skip


def test_a_tool_call_keeps_the_order_of_its_arguments_and_its_id_does_not_know_it(
    write: Write,
) -> None:
    turned = {**CALLS[0], "tool_calls": [{"function": {
        "name": "f", "arguments": {"limit": 3, "query": "x"}}}]}  # fmt: skip
    rows = [{"prompt": [USER, call], "completion": [FOUR]} for call in (CALLS[0], turned)]
    first, second = (only(load(write([row], f"{i}.jsonl"))) for i, row in enumerate(rows))
    assert '"arguments":{"query":"x","limit":3}' in first["prompt"]
    assert '"arguments":{"limit":3,"query":"x"}' in second["prompt"]
    assert first["sample_id"] == second["sample_id"]


def test_tool_calls_are_the_same_samples_in_every_format(write: Write, tmp_path: Path) -> None:
    rows = [{"prompt": [USER, call], "completion": [FOUR]} for call in CALLS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")  # fills nulls in
    pools = [load(tmp_path / "a.parquet"), load(write(rows))]
    assert pools[0].fingerprint == pools[1].fingerprint
    assert pools[0].table["prompt"].equals(pools[1].table["prompt"])


def test_definitions_of_tools_are_refused_as_no_model_would_see_them(write: Write) -> None:
    row = {**CHAT, "tools": [{"type": "function", "function": {"name": "f"}}]}
    with pytest.raises(DataError, match="tools: definitions of tools came"):
        load(write([row]))
    assert len(load(write([{**CHAT, "tools": None}]))) == 1


def test_a_glob_reaches_into_folders(write: Write, tmp_path: Path) -> None:
    write(PLAIN[:1], "d/x/b.jsonl")
    write(PLAIN[1:], "d/a.jsonl")
    pool = load(tmp_path / "d" / "**" / "*.jsonl")
    assert {row["source"] for row in rows_of(pool)} == {"a.jsonl:1", "a.jsonl:2", "x/b.jsonl:1"}


def test_conversations_are_json_lists_of_messages(write: Write) -> None:
    pool = load(write([CHAT]))
    row = only(pool)
    assert pool.conversational
    assert json.loads(row["prompt"]) == [USER]
    assert json.loads(row["completion"]) == [FOUR]
    assert row["sample_id"] == content_id([USER], [FOUR])


def test_messages_are_split_before_the_last_turn(write: Write) -> None:
    """And are then the same sample as the pair; what else was there is metadata."""
    system = {"role": "system", "content": ""}
    messages = [system, USER, FOUR, {"role": "user", "content": "Sure?"}, FOUR]
    row = only(load(write([{"messages": messages, "prompt": "How much"}])))
    assert json.loads(row["prompt"]) == messages[:-1]
    assert json.loads(row["completion"]) == [FOUR]
    assert row["metadata"] == '{"prompt":"How much"}'
    pair = only(load(write([{"prompt": messages[:-1], "completion": [FOUR]}])))
    assert pair["sample_id"] == row["sample_id"]


def test_messages_beside_a_pair_are_metadata(write: Write) -> None:
    row = only(load(write([{**PLAIN[0], "messages": [USER, FOUR]}])))
    assert row["prompt"] == PLAIN[0]["prompt"]
    assert json.loads(row["metadata"]) == {"messages": [USER, FOUR]}


def test_nulls_that_a_columnar_format_fills_in_are_no_content(write: Write, tmp_path: Path) -> None:
    chat = {"prompt": [USER], "completion": [{**FOUR, "name": "bot"}], "note": None}
    pq.write_table(pa.Table.from_pylist([chat, CHAT | {"note": "n"}]), tmp_path / "a.parquet")
    jsonl = load(write([{k: v for k, v in chat.items() if v}, CHAT | {"note": "n"}]))
    assert samples_of(load(tmp_path / "a.parquet")) == samples_of(jsonl)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("72", "72"),
        (72, "72"),
        (72.0, "72"),
        (0.5, "0.5"),
        (-3, "-3"),
        (None, None),
        ("", None),
        (0.00001, "0.00001"),
        (1e22, "10000000000000000000000"),
    ],
)
def test_answer_and_category_become_text(write: Write, value: Any, text: str | None) -> None:
    row = only(
        load(write([{"prompt": "p", "completion": "c", "answer": value, "category": value}]))
    )
    assert row["answer"] == row["category"] == text


def test_a_missing_integer_in_parquet_is_absent_not_nan(tmp_path: Path) -> None:
    rows = {"prompt": ["a", "b"], "completion": ["c", "d"], "answer": [1.0, float("nan")]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    assert set(load(tmp_path / "a.parquet").table["answer"].to_pylist()) == {"1", None}


def test_a_float_of_32_bits_is_the_number_it_was_made_of(tmp_path: Path) -> None:
    answers = pa.array([0.1, 2.0, 1e-5, None, 123456.79], pa.float32())
    rows = {"prompt": list("abcde"), "completion": ["c"] * 5, "answer": answers}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    assert set(load(tmp_path / "a.parquet").table["answer"].to_pylist()) == {
        "0.1", "2", "0.00001", None, "123456.79",
    }  # fmt: skip


def test_parquet_rows_are_counted_across_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "BATCH_ROWS", 2)
    rows = [{"prompt": f"p{i}", "completion": "c"} for i in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [row["prompt"] for row in load_in_order(tmp_path / "a.parquet")] == [
        row["prompt"] for row in rows
    ]
    sources = [row["source"] for row in load_in_order(tmp_path / "a.parquet")]
    assert sources == [f"a.parquet:{row}" for row in range(1, 6)]


def test_metadata_is_sorted_json_of_every_other_field(write: Write, tmp_path: Path) -> None:
    rows = [
        {
            "prompt": "p",
            "completion": "c",
            "z": [{"b": 2, "a": "é"}],
            "day": date(2026, 1, 2),
            "blob": b"\x00\x01",
            "loss": float("inf"),
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert only(load(tmp_path / "a.parquet"))["metadata"] == (
        '{"blob":"<2 bytes>","day":"2026-01-02","loss":"inf","z":[{"a":"é","b":2}]}'
    )


def test_columns_of_other_names(write: Write) -> None:
    """gsm8k's own names: 'answer' is then the completion, and not the answer too."""
    path = write([{"question": "2+2?", "answer": "It is 4", "final": 4, "prompt": "unused"}])
    columns = {"prompt": "question", "completion": "answer"}
    row = only(load(path, columns=columns))
    assert (row["prompt"], row["completion"], row["answer"]) == ("2+2?", "It is 4", None)
    assert json.loads(row["metadata"]) == {"final": 4, "prompt": "unused"}
    assert only(load(path, columns={**columns, "answer": "final"}))["answer"] == "4"


def test_an_unknown_column_lists_those_there_are(write: Write) -> None:
    with pytest.raises(DataError, match=r"data\.columns\.prompt: no column 'qestion'") as caught:
        load(write([{"question": "q", "completion": "c"}]), columns={"prompt": "qestion"})
    assert "completion, question. Did you mean 'question'?" in str(caught.value)


def test_columns_for_both_forms_are_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"'messages' and 'prompt' were both given"):
        load(write(PLAIN), columns={"prompt": "prompt", "messages": "m"})


# --- ids ----------------------------------------------------------------------------------------


def test_an_id_is_the_documented_hash_and_stays_so(write: Write) -> None:
    """Written out by hand: a change of this value breaks every ledger there is."""
    row = only(load(write([{"prompt": "日志\n", "completion": ' "x"', "answer": 3, "n": 1}])))
    content = '["日志\\n"," \\"x\\"","3"]'.encode()
    assert row["sample_id"] == hashlib.sha256(content).hexdigest()[:16] == "56c2dbbd67240da6"
    assert row["sample_id"] == content_id("日志\n", ' "x"', "3")


def test_ids_and_fingerprint_do_not_depend_on_order_or_file_names(write: Write) -> None:
    rows = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(200)]
    first = load(write(rows))
    random.Random(0).shuffle(rows)
    second = load(write(rows, "other.jsonl"))
    assert samples_of(first) == samples_of(second)
    assert first.fingerprint == second.fingerprint
    assert load(write(rows[1:])).fingerprint != first.fingerprint


def test_given_ids_order_does_not_matter_even_for_duplicates(write: Write) -> None:
    rows = [
        {"prompt": "p", "completion": "c", "sample_id": "b"},
        {"prompt": "p", "completion": "c", "sample_id": "a"},
        {"prompt": "p", "completion": "c", "sample_id": "c"},
        {"prompt": "q", "completion": "c", "sample_id": 7},
    ]
    pool, reverse = load(write(rows)), load(write(rows[::-1]))
    assert pool.table["sample_id"].to_pylist() == ["7", "a"]
    assert samples_of(pool) == samples_of(reverse)
    assert pool.fingerprint == reverse.fingerprint
    assert pool.num_duplicates == reverse.num_duplicates == 2


def test_the_fingerprint_covers_content_under_given_ids(write: Write) -> None:
    """Else an edited data set would pass for the one a run began with."""
    one = load(write([{"prompt": "p", "completion": "c", "sample_id": "1"}]))
    other = load(write([{"prompt": "p", "completion": "d", "sample_id": "1"}]))
    assert one.fingerprint != other.fingerprint


def test_duplicates_by_content_are_one_sample_and_the_first_is_kept(write: Write) -> None:
    rows = [{"prompt": "p", "completion": "c", "category": name} for name in "xyz"]
    pool = load(write([*rows, {"prompt": "p", "completion": "c", "answer": "1"}]))
    assert len(pool) == 2
    assert pool.num_duplicates == 2
    assert sorted(row["source"] for row in rows_of(pool)) == ["pool.jsonl:1", "pool.jsonl:4"]


def test_batches_and_large_columns_change_nothing(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write([{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(50)])
    expected = load(path)
    monkeypatch.setattr(data_module, "_BATCH_ROWS", 7)
    monkeypatch.setattr(data_module, "_MAX_STRING_BYTES", 100)
    pool = load(path)
    assert pool.table.schema.field("prompt").type == pa.large_string()
    assert rows_of(pool) == rows_of(expected)


def test_the_content_hash_is_the_id_unless_the_row_brought_one(write: Write) -> None:
    hash_of = {row["prompt"]: content_id(row["prompt"], row["completion"]) for row in PLAIN[::2]}
    plain = load(write(PLAIN[::2]))
    given = load(write([row | {"sample_id": f"id-{i}"} for i, row in enumerate(PLAIN[::2])]))
    assert given.table["sample_id"].to_pylist() == ["id-0", "id-1"]
    for pool in (plain, given):
        assert {row["prompt"]: row["content_hash"] for row in rows_of(pool)} == hash_of
    assert plain.table["content_hash"] == plain.table["sample_id"]


# --- samples found again ------------------------------------------------------------------------


def found_in(source: Path | str, wanted: dict[str, str | None]) -> dict[str, tuple[str, str]]:
    found = find_samples(str(source), DataSection(train=str(source)), wanted, split="train")
    return {key: (sample.prompt, sample.completion) for key, sample in found.items()}


def wanted_of(pool: Pool) -> dict[str, str | None]:
    return {row["content_hash"]: row["source"] for row in rows_of(pool)}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.parquet", "d"])
def test_a_sample_is_found_again_by_its_place_and_by_its_content(
    write: Write, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    rows = [{"prompt": f"p{i}\n", "completion": f"c{i}"} for i in range(30)]
    if name == "a.csv":
        write_csv(path, rows)
    elif name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "a.json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        write(rows[:20], "d/a.jsonl")
        if name == "d":
            write(rows[20:], "d/b.jsonl")
        else:
            lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
            path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    pool = load(path)
    expected = {row["content_hash"]: (row["prompt"], row["completion"]) for row in rows_of(pool)}
    assert len(expected) == 30
    wanted = wanted_of(pool)
    assert found_in(path, wanted) == expected
    assert found_in(path, dict.fromkeys(wanted)) == expected  # places not known
    moved = dict(zip(wanted, reversed(wanted.values()), strict=True))
    assert found_in(path, moved) == expected
    one = next(iter(wanted))
    assert found_in(path, {one: wanted[one], "0" * 16: wanted[one]}) == {one: expected[one]}


def test_what_stands_in_a_place_now_never_passes_for_what_stood_there(write: Write) -> None:
    path = write(PLAIN)
    wanted = wanted_of(load(path))
    for change in ({"prompt": "P"}, {"completion": "C"}, {"answer": "A"}):
        write([row | change for row in PLAIN[:1]] + PLAIN[1:])
        assert len(found_in(path, wanted)) == 2
    write([row | {"category": "other", "note": "n"} for row in PLAIN])
    assert len(found_in(path, wanted)) == 3


def test_of_json_lines_only_the_one_that_is_wanted_is_parsed(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write([{"prompt": f"p{i}", "completion": "c"} for i in range(50)])
    parsed = []
    parse = data_files.from_json
    monkeypatch.setattr(
        data_files, "from_json", lambda raw, **how: parsed.append(raw) or parse(raw, **how)
    )
    assert list(found_in(path, {content_id("p30", "c"): "pool.jsonl:31"}).values()) == [
        ("p30", "c")
    ]
    assert [json.loads(raw)["prompt"] for raw in parsed] == ["p30"]


def test_data_on_the_hub_is_not_loaded_to_find_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("it was loaded"))
    assert found_in("some-org/logs", {"0" * 16: "train:1"}) == {}


def test_a_source_that_has_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found"):
        found_in(tmp_path / "pool.jsonl", {"0" * 16: "pool.jsonl:1"})


# --- bad rows -----------------------------------------------------------------------------------

GOOD = json.dumps(PLAIN[0]).encode()


def turn(**message: Any) -> dict[str, Any]:
    return {"prompt": [message], "completion": [FOUR]}


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "not JSON": (b'{"prompt": "p", ', r"not JSON \(EOF .*end of the line\): .*one JSON object"),
    "NaN": (b'{"prompt": "p", "completion": NaN}', r"not JSON"),
    "not UTF-8": (b'{"prompt": "\xff", "completion": "c"}', r"not UTF-8, byte 13: .*xff"),
    "half a character": (b'{"prompt": "\\ud800", "completion": "c"}', r"not JSON"),
    "too deep": (b"[" * 100_000, r"not JSON \(recursion"),
    "a list": ([1, 2], r"\[1, 2\] came\. Expected an object"),
    "a text": ("p", r"'p' came\. Expected an object"),
    "null": (None, r"None came\. Expected an object"),
    "no prompt": ({"promt": "p", "completion": "c"}, r"prompt: missing.*Did you mean 'promt'\?"),
    "no completion": ({"prompt": "p"}, r"completion: missing; the row has prompt\. Expected"),
    "null completion": ({"prompt": "p", "completion": None}, r"completion: missing"),
    "empty prompt": ({"prompt": "", "completion": "c"}, r"prompt: '' came\. .*not empty"),
    "blank completion": ({"prompt": "p", "completion": " \n"}, r"completion: ' \\n' came"),
    "number": ({"prompt": 3, "completion": "c"}, r"prompt: 3 came\. Expected text, or a list"),
    "object": ({"prompt": "p", "completion": {"a": 1}}, r"completion: \{'a': 1\} came"),
    "text and list": ({"prompt": "p", "completion": [FOUR]}, r"completion: a list .* is text"),
    "other form": (CHAT, r"messages came\. Expected plain text, as the first .*pool\.jsonl:1"),
    "no messages": ({"messages": []}, r"messages: \[\] came\. Expected a list of messages"),
    "text message": ({"messages": ["hi"]}, r"messages\[0\]: 'hi' came\. Expected an object"),
    "ShareGPT": ({"messages": [{"from": "human", "value": "x"}]}, r"role: missing.*from, value"),
    "unknown role": (
        turn(role="usr", content="x"),
        r"\[0\]\.role: 'usr' came.*Did you mean 'user'",
    ),
    "no content": (turn(role="user"), r"prompt\[0\]\.content: missing\. Expected text"),
    "parts": (turn(role="user", content=[{"type": "image"}]), r"content: .* came\. Expected text"),
    "empty turns": (turn(role="user", content=" "), r"prompt: only empty content came"),
    "user completes": ({"prompt": [USER], "completion": [USER]}, r"\[0\]\.role: 'user' came"),
    "user is last": ({"messages": [FOUR, USER]}, r"messages: the roles assistant, user came"),
    "nothing before": ({"messages": [FOUR]}, r"Expected at least one turn before"),
    "answer list": (
        {**PLAIN[0], "answer": ["1"]},
        r"answer: \['1'\] came\. Expected text or a num",
    ),
    "answer true": ({**PLAIN[0], "answer": True}, r"answer: True came\. Expected text or a number"),
    "infinite": (b'{"prompt":"p","completion":"c","answer":1e999}', r"answer: inf came"),
    "id": ({**PLAIN[0], "sample_id": 1.5}, r"sample_id: 1\.5 came\. Expected text or an integer"),
    "NUL prompt": ({"prompt": "a\0b", "completion": "c"}, r"prompt: a NUL .*'a\\x00b'"),
    "NUL content": (turn(role="user", content="a\0"), r"prompt\[0\]\.content: a NUL"),
    "NUL category": ({**PLAIN[0], "category": "\0"}, r"category: a NUL"),
    "NUL metadata": ({**PLAIN[0], "note": ["\0"]}, r"note: a NUL"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_named_by_file_line_field_and_what_came(write: Write, kind: str) -> None:
    row, problem = BAD_ROWS[kind]
    raw = row if isinstance(row, bytes) else json.dumps(row).encode()
    path = write(b"\n".join([GOOD, b"", raw, GOOD]))
    with pytest.raises(DataError, match=rf"(?s)pool\.jsonl:3: .*{problem}") as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"data.train: {path}: 1 bad row (of 3):\n")
    assert message.endswith("data.on_bad_rows: skip")
    assert len(message) < 900

    pool = load(path, on_bad_rows="skip")
    assert len(pool) == 1
    (skipped,) = pool.skipped
    assert skipped.source == "pool.jsonl:3"
    assert skipped.problem in message


def test_a_backslash_before_u0000_is_no_nul(write: Write) -> None:
    assert only(load(write([{**PLAIN[0], "note": "\\u0000"}])))["metadata"]


@pytest.mark.parametrize("field", ["prompt", "completion", "category", "note"])
def test_half_a_character_in_a_list_is_a_bad_row(write: Write, field: str) -> None:
    rows = [PLAIN[1], {**PLAIN[0], field: "a\ud800"}]
    with pytest.raises(DataError, match=rf"a\.json:1: {field}: '\\ud800' came"):
        load(write(json.dumps(rows).encode(), "a.json"))


def test_a_problem_can_be_stored_whatever_a_column_is_called(write: Write) -> None:
    rows = [PLAIN[1], {**PLAIN[0], "a\ud800\0": 1}]
    (skipped,) = load(write(json.dumps(rows).encode(), "a.json"), on_bad_rows="skip").skipped
    assert skipped.problem.startswith("a\\ud800\\0: a NUL character came")


def test_one_id_for_two_contents_is_a_bad_row(write: Write) -> None:
    rows = [{"prompt": p, "completion": "c", "sample_id": "s"} for p in ("p", "q", "p")]
    with pytest.raises(DataError, match=r"1 bad row .*\n  pool\.jsonl:2: sample_id: 's' came"):
        load(write(rows))


def test_a_given_id_may_not_be_another_sample_s_hash(write: Write) -> None:
    rows = [{"prompt": "p", "completion": "c"}]
    taken = {"prompt": "q", "completion": "c", "sample_id": content_id("p", "c")}
    for order in ([*rows, taken], [taken, *rows]):
        with pytest.raises(DataError, match=r"pool\.jsonl:2: sample_id: .* an earlier row"):
            load(write(order))


def test_a_field_the_configuration_needs_is_required(write: Write) -> None:
    path = write([{**PLAIN[0], "answer": 0}, PLAIN[2]])
    with pytest.raises(DataError, match=r"pool\.jsonl:2: answer: missing; the row has category"):
        load(path, needs=frozenset({"answer"}))


def test_five_bad_rows_are_shown_and_all_are_counted(write: Write) -> None:
    path = write([PLAIN[0], *[{"prompt": "p"}] * 7])
    with pytest.raises(DataError, match=r"7 bad rows \(of 8\)") as caught:
        load(path)
    assert str(caught.value).count("\n  pool.jsonl:") == 5
    assert "  and 2 more\n" in str(caught.value)
    assert len(load(path, on_bad_rows="skip").skipped) == 7


@pytest.mark.parametrize("on_bad_rows", ["error", "skip"])
def test_nothing_but_bad_rows_is_an_error_either_way(write: Write, on_bad_rows: str) -> None:
    path = write([{"question": "q", "answer": "a"}] * 2)
    with pytest.raises(DataError, match=r"all rows are bad \(of 2\)") as caught:
        load(path, on_bad_rows=on_bad_rows)
    assert "the row has answer, question" in str(caught.value)
    assert str(caught.value).endswith("data.columns: {field: their_name}")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b""), ("a.jsonl", b"\n \n"), ("a.json", b"[ ]"), ("a.json", b""), ("a.csv", b"")],
)
def test_an_empty_file_is_an_error(write: Write, name: str, content: bytes) -> None:
    with pytest.raises(DataError, match=r"no samples, it is empty"):
        load(write(content, name))


CSV_FAULTS = {
    "columns": (b"p,c,extra\n", r"a\.csv:3: 3 columns came: .*Expected 2: prompt, completion"),
    "empty cell": (b"p,\n", r"a\.csv:3: completion: missing"),
    "UTF-8": (b"p\xff,c\n", r"a\.csv:3: prompt: '\\udcff' came\. Expected Unicode text in UTF-8"),
    "after quote": (b'"p" x,c\n', r"a\.csv:3: not CSV"),
    "open quote": (b'"p,c', r"a\.csv:3: not CSV .*lines 3 to 3\. Check the quotes"),
}


@pytest.mark.parametrize("kind", CSV_FAULTS)
def test_a_bad_csv_row_is_named_by_its_line(write: Write, kind: str) -> None:
    raw, problem = CSV_FAULTS[kind]
    path = write(b"prompt,completion\na,b\n" + raw, "a.csv")
    with pytest.raises(DataError, match=problem):
        load(path)
    assert len(load(path, on_bad_rows="skip")) == 1


def test_a_quote_that_is_never_closed_is_not_one_row_to_be_skipped(write: Write) -> None:
    path = write(b'prompt,completion\na,b\n"c,d\n' + b"e,f\n" * 100, "a.csv")
    for on_bad_rows in ("error", "skip"):
        with pytest.raises(DataError, match=r"a\.csv:3: a quote is opened .* to 103 .* Close it"):
            load(path, on_bad_rows=on_bad_rows)


def test_a_csv_cell_may_be_longer_than_the_csv_module_s_limit(write: Write) -> None:
    path = write(b"prompt,completion\n" + b"x" * 200_000 + b",c\n", "a.csv")
    assert len(only(load(path))["prompt"]) == 200_000


def test_a_parquet_row_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    raw = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    pq.write_table(pa.table({"prompt": raw, "completion": ["x"] * 3}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"1 bad row \(of 3\):\n  a\.parquet:2: not UTF-8"):
        load(tmp_path / "a.parquet")


BROKEN_FILES = {
    "repeated.csv": (b"prompt,prompt\na,b\n", r":1: the header has more than one 'prompt'"),
    "comma.json": (b'[\n{"a": 1},\n]', r":3: not JSON \(Expecting value\): '\]' came"),
    "no_end.json": (b'[\n{"a": 1}\n', r":3: not JSON \(expected ',' or '\]'\)"),
    "extra.json": (b"[]\n[]", r":2: not JSON \(extra data after the list\)"),
    "nan.json": (b'[{"a": NaN}]', r":1: not JSON \(NaN is not JSON\)"),
    "latin.json": (b'[\n"\xff"]', r":2: not UTF-8"),
    "a.parquet": (b"PAR1", r"cannot be read"),
    "a.jsonl.gz": (b"no gzip", r"cannot be read: Not a gzipped file"),
    "cut.jsonl.gz": (gzip.compress(GOOD * 100)[:-9], r"cannot be read"),
    "a.xlsx": (b"x", r"'\.xlsx' is no known format\. Allowed: \.csv, \.json, \.jsonl"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_broken_file_is_never_read_in_part(write: Write, name: str) -> None:
    content, problem = BROKEN_FILES[name]
    path = write(content, name)
    with pytest.raises(DataError, match=problem) as caught:
        load(path, on_bad_rows="skip")
    assert str(path) in str(caught.value)


# --- sources ------------------------------------------------------------------------------------


def test_a_path_that_is_not_there_suggests_the_nearest(write: Write, tmp_path: Path) -> None:
    write(PLAIN, "pool_train.jsonl")
    with pytest.raises(DataError, match=r"not found\. Did you mean .*pool_train\.jsonl\?"):
        load(tmp_path / "pool_trian.jsonl")
    with pytest.raises(DataError, match=r"Data files in .*: pool_train\.jsonl\."):
        load(tmp_path / "zzz")
    with pytest.raises(DataError, match=r"there is no folder '.*nowhere'"):
        load(tmp_path / "nowhere" / "deep" / "pool.jsonl")


def test_a_folder_without_data_files_says_what_it_holds(write: Write, tmp_path: Path) -> None:
    write(b"x", "d/notes.md")
    with pytest.raises(DataError, match=r"no data files\..*Found: notes\.md\.") as caught:
        load(tmp_path / "d")
    assert str(tmp_path / "d" / "**" / "*.jsonl") in str(caught.value)
    with pytest.raises(DataError, match=r"no data files\..*Found: nothing"):
        load(tmp_path / "d" / "*.csv")


@pytest.mark.parametrize("setting", ["train_split", "hub_config"])
def test_hub_settings_with_local_data_would_be_ignored(write: Write, setting: str) -> None:
    settings: dict[str, Any] = {setting: "x"}
    with pytest.raises(DataError, match=rf"data\.{setting}: would be ignored"):
        load(write(PLAIN), **settings)


def test_hub_config_is_not_ignored_when_the_other_source_is_on_the_hub(write: Write) -> None:
    assert len(load(write(PLAIN), eval="no-such-org-here/name", hub_config="main")) == 3


def test_an_eval_split_without_eval_data_would_be_ignored(write: Write) -> None:
    with pytest.raises(DataError, match=r"data\.eval_split: would be ignored"):
        load(write(PLAIN), eval_split="test")


def test_a_saved_dataset_folder(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list(PLAIN).save_to_disk(tmp_path / "d")
    pool = load(tmp_path / "d")
    assert {row["source"] for row in rows_of(pool)} == {"train:1", "train:2", "train:3"}
    with pytest.raises(DataError, match=r"data\.train_split: would be ignored"):
        load(tmp_path / "d", train_split="train")


def test_a_saved_dataset_dict_folder_has_splits(tmp_path: Path) -> None:
    import datasets

    saved = datasets.Dataset.from_list(PLAIN)
    parts = {"train": saved.select([2, 0]), "validation": saved.select([1])}
    folder = tmp_path / "d"
    datasets.DatasetDict(parts).save_to_disk(folder)
    assert len(load(folder)) == 2
    assert len(load(folder, train_split="validation")) == 1
    section = DataSection(train=str(folder), eval=str(folder))
    with pytest.raises(DataError, match=r"no split 'test'.*Allowed: train, validation"):
        load_pool(str(folder), section, split="eval")
    named = DataSection(train=str(folder), eval=str(folder), eval_split="validation")
    assert len(load_pool(str(folder), named, split="eval")) == 1


def test_a_hub_id_is_loaded_with_its_configuration_and_split(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import datasets

    def load_dataset(name: str, config: str | None, *, split: str) -> Any:
        assert (name, config, split) == ("some-org/logs", "main", "part")
        return datasets.Dataset.from_list(PLAIN).shuffle(seed=0)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    pool = load("some-org/logs", train_split="part", hub_config="main")
    assert len(pool) == 3
    assert pool.source == "some-org/logs"


def test_a_hub_id_that_cannot_be_loaded_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach 'some-org/logs' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError, match=r"'some-org/logs' is no path here") as caught:
        load("some-org/logs")
    message = str(caught.value)
    assert "Couldn't reach" in message
    assert "./some-org/logs" in message
    assert "hf download --repo-type dataset some-org/logs" in message


def test_a_path_in_a_folder_that_exists_is_no_hub_id(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(PLAIN, "data/pool.jsonl")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"Taken as a path, not as a hub id"):
        load("data/pool")


def test_reading_files_loads_neither_torch_nor_datasets(write: Write) -> None:
    code = (
        "import sys\n"
        "from edco_core.config import DataSection\n"
        "from edco_core.data import load_pool\n"
        "load_pool(sys.argv[1], DataSection(train=sys.argv[1]), split='train')\n"
        "print(sorted({'torch', 'datasets', 'transformers'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(write(PLAIN))]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- real data ----------------------------------------------------------------------------------


def test_loghub_has_13987_samples_and_no_duplicates(shared_data: Path) -> None:
    path = shared_data / "loghub_train.jsonl"
    pool = load(path)
    assert len(pool) == 13_987
    assert pool.num_duplicates == 0
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    row = next(row for row in rows_of(pool) if row["source"] == "loghub_train.jsonl:1")
    assert row["prompt"] == first["prompt"]
    assert row["category"] == first["category"]
    assert json.loads(row["metadata"]) == {"event_id": first["event_id"]}


def test_gsm8k_has_an_answer_in_every_row(shared_data: Path) -> None:
    path = shared_data / "gsm8k_train.jsonl"
    pool = load(path, needs=frozenset({"answer"}))
    # Not splitlines(): a question holds U+2028, which is no end of a line in JSON.
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    distinct = {tuple(json.loads(line).values()) for line in lines}
    assert len(pool) == len(distinct)
    assert pool.num_duplicates == len(lines) - len(distinct)
    assert pool.table["answer"].null_count == 0
