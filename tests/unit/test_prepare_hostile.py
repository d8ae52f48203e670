"""Whatever bytes a file holds, reading raises nothing but Reject, loses no byte, and does not depend on chunk size."""

from __future__ import annotations

import json
import pickle
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from chord_exp.prepare.read import chunks
from chord_exp.prepare.read.chunks import chunks_of, read_chunk
from chord_exp.prepare.read.encodings import decode_file
from chord_exp.prepare.read.files import ARROW, CSV, JSON, LINES, PARQUET, SAVED, TSV, InputFile
from chord_exp.prepare.read.raw_rows import RawRow, parse_row
from chord_exp.prepare.read.tables import read_batches
from chord_exp.prepare.rejects import REASONS, Reject, clip_bytes, reject_line
from chord_exp.prepare.rows.field_map import readings_of
from chord_exp.prepare.rows.turns import check_conversation

quick = settings(max_examples=80)

FIELDS = [
    *("messages", "conversations", "conversation", "prompt", "completion", "response", "question", "answer", "input"),
    *("output", "instruction", "context", "problem", "solution", "generations", "correctness_math_verify", "choices"),
    *("options", "answerKey", "reward_model", "ground_truth", "system", "history", "tools", "label", "chosen"),
    *("rejected", "text", "role", "content", "from", "value", "weight", "tool_calls", "function", "name", "arguments"),
]
WORDS = [
    *(
        "",
        " ",
        "user",
        "assistant",
        "system",
        "tool",
        "human",
        "gpt",
        "function_call",
        "tool_call",
        "1+1?",
        "\\boxed{2}",
    ),
    *(
        "#### 2",
        "A",
        "B",
        "hi\0",
        "\u2028",
        "\U0001f600",
        '[{"role": "user", "content": "x"}]',
        "{",
        "[" * 2000,
        "null",
    ),
]
words = st.sampled_from(WORDS)
numbers = st.integers(-(10**25), 10**25) | st.floats() | st.sampled_from([0, 1, 10**400, 2**64])
plain = words | numbers | st.booleans() | st.none() | st.text(max_size=5)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": words, "content": words},
        optional={"weight": plain, "tool_calls": st.lists(plain, max_size=2), "name": plain, "loss": plain},
    )
    | st.fixed_dictionaries({"from": words, "value": words})
    | st.fixed_dictionaries({"human": words, "assistant": words}),
    max_size=4,
)
values = st.recursive(
    plain | turns,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), values, max_size=6)
hostile_rows = st.one_of(
    records.map(lambda record: json.dumps(record).encode()),
    records.map(lambda record: json.dumps(record, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")),
    st.builds(lambda record, end: json.dumps(record).encode()[:end], records, st.integers(0, 60)),
    st.sampled_from(
        [
            b'{"prompt": "\\ud800", "response": "b"}',
            b'{"prompt": "a", "prompt": "b", "response": "c"}',
            b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}",
            b'{"messages": ' + b'[{"content": ' * 300 + b"1" + b"}]" * 300 + b"}",
            b'{"prompt": NaN, "response": 1e999}',
            b'{"prompt": "a", "response": ' + b"9" * 5000 + b"}",
            b"}{",
            b"\xff\xfe",
            b"\x00",
        ]
    ),
    st.binary(max_size=40),
    st.lists(st.sampled_from(list(b'{}[]",:\\ \n\r\t1a\x00\xff')), max_size=30).map(bytes),
)
texts = st.builds(
    lambda rows, between, around: around[0] + between.join(rows) + around[1],
    st.lists(hostile_rows, max_size=6),
    st.sampled_from([b"\n", b"\r\n", b",", b", \n", b"", b"\n\n"]),
    st.sampled_from(
        [(b"", b""), (b"[", b"]"), (b"\xef\xbb\xbf", b"\n"), (b"[", b""), (b"a,b\n", b""), (b"[[", b"]]x")]
    ),
)


def use(row: RawRow) -> Any:
    """What is made of a row: its record as text, or the reason why there is none."""
    try:
        if row.fault is not None:
            raise row.fault
        record = parse_row(row.data) if row.record is None else row.record
        for mapping in ({}, {"messages": "messages"}, {"prompt": "a.b", "response": "x"}):
            try:
                reading, named = readings_of(mapping)(record)
                check_conversation(reading.read(named))
            except Reject as reject:
                assert reject_line("file", row.line, reject, clip_bytes(row.data))
    except Reject as reject:
        assert reject_line("file", row.line, reject, clip_bytes(row.data))
        assert reject.reason in REASONS
        return reject.reason
    return repr(record)


def read(path: Path, kind: str, target: int, compression: str = "") -> list[tuple[int, bytes, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        file = InputFile(path, path.name, kind, compression)
        # other processes read them
        chunks = [pickle.loads(pickle.dumps(chunk)) for chunk in chunks_of(file, target, Path(scratch))]
        return [(row.line, row.data, use(row)) for chunk in chunks for row in read_chunk(chunk)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "file"


@pytest.mark.parametrize("kind", [LINES, JSON, CSV, TSV])
@quick
@given(text=texts, target=st.integers(1, 50))
def test_rows_are_the_same_for_every_chunk_size(path, kind, text, target):
    path.write_bytes(text)
    assert read(path, kind, target) == read(path, kind, 1 << 20)


@quick
@given(text=texts)
def test_every_byte_of_lines_that_is_not_white_space_lies_in_a_row(path, text):
    # by its first line the file is known to hold an object a line
    path.write_bytes(b"{}\n" + text)
    with tempfile.TemporaryDirectory() as scratch:
        held = decode_file(InputFile(path, "file", LINES), Path(scratch))
        expected = held.path.read_bytes()[held.start :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_FAULT_BYTES", 1 << 20)  # what is no row is shown by its beginning only
        found = b"".join(data for _, data, _ in read(path, LINES, 7))
    assert found.translate(None, b" \t\r\n\f\v") == expected.translate(None, b" \t\r\n\f\v")


@pytest.mark.parametrize(
    ("kind", "compression"),
    [(PARQUET, ""), (ARROW, ""), (LINES, ".gz"), (LINES, ".zst"), (CSV, ".gz"), (JSON, ".zst")],
)
@quick
@given(
    data=st.binary(max_size=200),
    head=st.sampled_from([b"", b"PAR1", b"ARROW1\0\0", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"]),
)
def test_bytes_of_no_kind_are_rejected(path, kind, compression, data, head):
    path.write_bytes(head + data)
    found = read(path, kind, 50, compression)
    assert all(isinstance(text, str) for _, _, text in found)


@pytest.mark.parametrize("kind", [PARQUET, ARROW])
@quick
@given(places=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=4), cut=st.floats(0, 1))
def test_a_damaged_table_is_rejected_or_read(path, kind, places, cut):
    table = pyarrow.Table.from_pylist([{"messages": [{"role": "user", "content": f"q{n}"}], "n": n} for n in range(20)])
    if kind == PARQUET:
        parquet.write_table(table, path, row_group_size=5)
    else:
        with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
    damaged = bytearray(path.read_bytes())
    for at, byte in places:
        damaged[int(at * len(damaged))] = byte
    path.write_bytes(damaged[: int(cut * len(damaged)) or None])
    read(path, kind, 50)


def test_an_arrow_file_that_points_outside_itself_does_not_end_the_process(path):
    table = pyarrow.Table.from_pylist([{"messages": [{"role": "user", "content": f"q{n}"}], "n": n} for n in range(20)])
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    whole = path.read_bytes()
    for at in range(0, len(whole)):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        with suppress(Reject):
            list(read_batches(path, 0, 1, 0))


@quick
@given(state=values.map(json.dumps) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_saved_data_set_with_any_state_is_rejected(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("saved")
    (folder / "state.json").write_text(state, encoding="utf-8")
    assert {text for _, _, text in read(folder, SAVED, 50)} <= {"unreadable_file"}
