"""Tables that are cut off, huge or ambiguous: no row is invented, and no file fills the memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import prepare_samples
import pyarrow
import pytest
import zstandard
from prepare_samples import pair, prepare, read, rows
from pyarrow import parquet

from chord_exp.prepare.read import chunks, csv_rows, tables

MIB = 1 << 20


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 100)


def gzipped(text: bytes) -> bytes:
    """Compressed so that it can be cut off at any byte of the text."""
    whole = gzip.compress(text, 0)
    return whole[: whole.index(text) + len(text)]


ROWS = b"prompt,response\n1,one\n2,two and more\n"


@pytest.mark.parametrize("cut", range(len(ROWS) - 15, len(ROWS)))
def test_half_a_row_at_the_end_of_a_cut_off_table_is_never_taken_for_a_row(raw: Path, cut: int) -> None:
    (raw / "a.csv.gz").write_bytes(gzipped(ROWS[:cut]))
    rows, found = [row for row in ROWS[:cut].split(b"\n")[1:] if row], read(raw)
    whole = [row for row in (b"1,one", b"2,two and more") if row + b"\n" in ROWS[:cut]]
    records = [record for _, record in found if isinstance(record, dict)]
    assert [record["prompt"].encode() for record in records] == [row[:1] for row in whole]
    assert found[-1][1] == "unreadable_file" and len(whole) <= len(rows)


def test_half_a_cell_at_the_end_of_a_cut_off_utf_16_table_is_no_row(raw: Path) -> None:
    text = "﻿p,r\n1,one\n2,two".encode("utf-16-le")
    (raw / "a.csv").write_bytes(text[:-1])
    assert read(raw) == [(2, {"p": "1", "r": "one"}), (3, "unreadable_file")]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_the_rows_before_a_byte_that_does_not_decode_are_kept(raw: Path, name: str) -> None:
    rows = {"a.csv": "p,r\n" + "1,one\n" * 50, "a.jsonl": '{"p": "1", "r": "one"}\n' * 50}[name]
    broken = "\ufeff".encode("utf-16-le") + rows.encode("utf-16-le") + "9,half".encode("utf-16-le") + b"x"
    (raw / name).write_bytes(broken)
    good = [record for _, record in read(raw) if isinstance(record, dict)]
    assert good == [{"p": "1", "r": "one"}] * 50 and read(raw)[-1][1] == "unreadable_file"
    wide = "\ufeff".encode("utf-32-le") + rows.encode("utf-32-le") + b"\xff\xff\xff\xff" + rows.encode("utf-32-le")
    (raw / name).write_bytes(wide)
    good = [record for _, record in read(raw) if isinstance(record, dict)]
    assert good == [{"p": "1", "r": "one"}] * 50 and read(raw)[-1][1] == "unreadable_file"


def test_a_cut_off_table_whose_header_is_not_whole_is_one_fault(raw: Path) -> None:
    (raw / "a.csv.gz").write_bytes(gzipped(b"prompt,resp"))
    assert read(raw) == [(1, "unreadable_file")]


@pytest.mark.parametrize("target", [1, 1 << 20])
def test_a_quoted_cell_over_the_limit_is_one_fault_and_its_lines_are_no_rows(
    raw: Path, short_rows: None, target: int
) -> None:
    cell = "\n".join(f'{number},""quoted"" and more' for number in range(20))
    (raw / "a.csv").write_text(f'p,r\n1,one\n2,"{cell}"\n3,three\n', encoding="utf-8")
    assert read(raw, target) == [(2, {"p": "1", "r": "one"}), (3, "too_long"), (23, {"p": "3", "r": "three"})]


@pytest.mark.parametrize("target", [1, 1 << 20])
def test_a_row_over_the_limit_is_a_fault_however_many_cells_it_has(raw: Path, short_rows: None, target: int) -> None:
    (raw / "a.csv").write_text(f"p,r\n1,{'x' * 200}\n2,two\n\n3,{'y' * 60}\n{'z' * 300}", encoding="utf-8")
    assert read(raw, target) == [
        (2, "too_long"),
        (3, {"p": "2", "r": "two"}),
        (5, {"p": "3", "r": "y" * 60}),
        (6, "too_long"),
    ]


def test_blank_lines_are_no_row_of_any_length(raw: Path, short_rows: None) -> None:
    (raw / "a.csv").write_text("p,r\n" + "\n" * 500 + "1,2\n", encoding="utf-8")
    assert read(raw) == [(502, {"p": "1", "r": "2"})]


def twice(name: str, inside: bool) -> pyarrow.Table:
    one = pyarrow.array(["1"])
    if not inside:
        return pyarrow.Table.from_arrays([one, pyarrow.array(["2"])], names=[name, name])
    struct = pyarrow.StructArray.from_arrays([one, one], names=[name, name])
    return pyarrow.table({"messages": pyarrow.ListArray.from_arrays([0, 1], struct)})


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_two_columns_of_one_name_are_told_and_neither_is_dropped(raw: Path, kind: str, inside: bool) -> None:
    table = twice("response", inside)
    if kind == "parquet":
        parquet.write_table(table, raw / "a.parquet")
    else:
        with pyarrow.OSFile(str(raw / "a.arrow"), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    (chunk,) = chunks.chunks_of(reader_file(raw), 1 << 20, raw)
    assert chunk.fault is not None and "two columns 'response'" in str(chunk.fault)


def reader_file(raw: Path):
    from chord_exp.prepare.read.files import find_files

    return find_files(raw)[0][0]


def test_batches_of_long_rows_have_few_of_them() -> None:
    assert tables.rows_a_batch(1000, 1000 * 100) == tables.ROWS_A_BATCH
    assert tables.rows_a_batch(1000, 1000 * 2 * MIB) == 8
    assert tables.rows_a_batch(3, 300 * MIB) == 1
    assert tables.rows_a_batch(0, 0) == 1


COUNT = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {here!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{code}
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def mib_to_count(code: str) -> tuple[int, int]:
    """What code for a process of its own counts, and the MiB that it takes."""
    code = COUNT.format(here=str(Path(prepare_samples.__file__).parent), code=code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    count, mib = done.stdout.split()
    return int(count), int(mib)


def test_a_string_of_escapes_is_cut_without_remembering_each(raw: Path) -> None:
    (raw / "a.json").write_text(json.dumps([{"p": '"\n' * (8 * MIB // 4), "r": "x"}, {"p": "y"}]), encoding="utf-8")
    rows, mib = mib_to_count(
        f"from prepare_samples import pair, prepare, read, rows; count = len(read(Path({str(raw)!r})))"
    )
    assert rows == 2 and mib < 150


def test_strings_around_the_number_of_escapes_that_is_remembered_are_whole(raw: Path) -> None:
    records = [{"p": '"\\' * count, "r": "[{,"} for count in (2499, 2500, 2501, 5000, 5001)]
    (raw / "a.json").write_text(json.dumps(records), encoding="utf-8")
    assert [record for _, record in read(raw)] == records
    (raw / "a.json").write_text(json.dumps(records)[:-20], encoding="utf-8")
    assert [record for _, record in read(raw)][:4] == records[:4]


def test_a_compressed_file_of_nothing_but_blanks_is_written_out_piece_by_piece(raw: Path, tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    with (raw / "a.jsonl.zst").open("wb") as target:
        for _ in range(32):
            target.write(packer.compress(b" " * (16 * MIB)))
        target.write(packer.flush())
    code = "from chord_exp.prepare.read.files import find_files\n"
    code += "from chord_exp.prepare.read.encodings import decode_file\n"
    code += f"file, scratch = find_files(Path({str(raw)!r}))[0][0], Path({str(tmp_path)!r})\n"
    size, mib = mib_to_count(code + "count = decode_file(file, scratch).path.stat().st_size")
    assert (raw / "a.jsonl.zst").stat().st_size < MIB and size == 512 * MIB and mib < 200


def test_a_table_of_long_rows_is_read_a_few_at_a_time(raw: Path) -> None:
    table = pyarrow.table({"p": [f"{number}" + "x" * MIB for number in range(300)]})
    parquet.write_table(table, raw / "a.parquet", compression="none", use_dictionary=False)
    code = f"from chord_exp.prepare.read import tables; path = Path({str(raw / 'a.parquet')!r})\n"
    rows, mib = mib_to_count(code + "count = sum(1 for _ in tables.read_row_group(path, 0, 1))")
    assert rows == 300 and mib < 450


def test_a_table_that_pandas_wrote_with_its_index_is_read_without_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    (tmp_path / "raw").mkdir()
    pandas.DataFrame([pair(number) for number in range(30)]).to_csv(tmp_path / "raw" / "a.csv")
    prepare(tmp_path / "raw", tmp_path / "out")
    assert len(rows(tmp_path / "out", "sft")) + len(rows(tmp_path / "out", "rl")) == 30
