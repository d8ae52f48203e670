"""Files of every kind and encoding, whole and damaged, and the rows that they give."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
import zstandard
from prepare_samples import pair, prepare, read, rejects, write_lines
from pyarrow import parquet

from chord_exp.errors import DataError
from chord_exp.prepare.read import chunks, csv_rows, json_documents
from chord_exp.prepare.read.files import find_files, resolve_input

QA = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]
A, B = {"prompt": "a, b", "response": "c"}, {"prompt": "多少。", "response": "三\n四"}
WITH_TOOLS = {"messages": QA, "tools": [{"name": "f"}] * 2}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
LINES = (json.dumps(A) + "\n" + json.dumps(B, ensure_ascii=False) + "\n").encode()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def arrow_file(path: Path, table: pyarrow.Table) -> None:
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)


def arrow_stream(path: Path, table: pyarrow.Table) -> None:
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)


def small_groups(path: Path, table: pyarrow.Table) -> None:
    parquet.write_table(table, path, row_group_size=1)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", LINES, [(1, A), (2, B)]),
        ("a.NDJSON", LINES.rstrip(), [(1, A), (2, B)]),
        ("a.json", LINES, [(1, A), (2, B)]),
        # of a document, the row
        ("a.json", LINES.replace(b"\n", b""), [(1, A), (2, B)]),
        ("a.json", LINES.replace(b"\n", b" "), [(1, A), (2, B)]),
        ("a.json", json.dumps([A, B]).encode(), [(1, A), (2, B)]),
        ("a.json", json.dumps([A, B], indent=1).encode(), [(1, A), (2, B)]),
        ("a.jsonl", json.dumps([A, B]).encode(), [(1, A), (2, B)]),
        ("a.jsonl", json.dumps([A, B], indent=1).encode(), [(1, A), (2, B)]),
        ("a.jsonl", b'[{"role": "user"}]\n[{"role": "user"}]\n', [(1, "not_an_object"), (2, "not_an_object")]),
        ("a.json", (json.dumps(A, indent=1) + json.dumps(B, indent=1)).encode(), [(1, A), (2, B)]),
        ("a.jsonl", (json.dumps(A, indent=1) + "\n" + json.dumps(B, indent=1)).encode(), [(1, A), (2, B)]),
        ("a.jsonl", LINES.replace(b"\n", b",\n"), [(1, A), (2, B)]),
        ("a.jsonl", b'{"n": NaN, "t": "NaN"}\n{"n": -Infinity}\n', [(1, {"n": None, "t": "NaN"}), (2, {"n": None})]),
        ("a.json", b'[{"n": NaN}, {"n": 1},]', [(1, {"n": None}), (2, {"n": 1})]),
        (
            "a.jsonl",
            b'{\n "n": 1\n}\n{\n "n": {"x" 2},\n "m": 1\n}\n{\n "n": 3\n}\n',
            [(1, {"n": 1}), (2, "invalid_json"), (3, {"n": 3})],
        ),
        (
            "a.json",
            b'[\n  {"n": 1},\n  {"n": 2,,},\n  {"n": 3}\n]',
            [(1, {"n": 1}), (2, "invalid_json"), (3, {"n": 3})],
        ),
        ("a.json", b'[{"n": 1, "n": 2}, {"n": 3}]', [(1, "duplicate_key"), (2, {"n": 3})]),
        ("a.json", b'[{"n": 1}, {"n": ', [(1, {"n": 1}), (2, "invalid_json"), (3, "invalid_json")]),
        ("a.json", b'[{"n": "\xff"}, {"n": "\\ud800"}]', [(1, "not_utf8"), (2, "invalid_json")]),
        ("a.json", json.dumps({"data": [A, B], "version": 1}).encode(), [(1, A), (2, B)]),
        ("a.json", json.dumps({"train": [A], "test": [B]}).encode(), [(1, A)]),
        ("a.json", json.dumps({"train/1.json": A, "train/2.json": B}).encode(), [(1, A), (2, B)]),
        (
            "a.json",
            json.dumps({"p": ["1", "2"], "r": ["3", "4"]}).encode(),
            [(1, {"p": "1", "r": "3"}), (2, {"p": "2", "r": "4"})],
        ),
        (
            "a.json",
            json.dumps({"messages": QA, "tools": [{"name": "f"}] * 2}).encode(),
            [(1, {"messages": QA, "tools": [{"name": "f"}] * 2})],
        ),
        ("b.jsonl.gz", LINES, [(1, A), (2, B)]),
        ("a.json", json.dumps({"messages": QA}, indent=1).encode(), [(1, {"messages": QA})]),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0), [(1, A), (2, B)]),
        ("a.jsonl.gz", gzip.compress(LINES[:20], mtime=0) + gzip.compress(LINES[20:], mtime=0), [(1, A), (2, B)]),
        ("a.jsonl.zst", zstandard.compress(LINES), [(1, A), (2, B)]),
        ("a.json.ZST", zstandard.compress(LINES[:20]) + zstandard.compress(LINES[20:]), [(1, A), (2, B)]),
        ("a.csv.gz", gzip.compress(b"prompt,response\n1,2\n", mtime=0), [(2, {"prompt": "1", "response": "2"})]),
        (
            "a.csv",
            'prompt,response\n"a, b",c\n\n多少。,"三\n四"\nx,"say ""hi"""\n'.encode(),
            [(2, A), (4, B), (6, {"prompt": "x", "response": 'say "hi"'})],
        ),
        (
            "a.tsv",
            b'\n prompt \tresponse\r\n"a\tb"\tc\r\nx\t\r\n\ta\r\n',
            [(3, {"prompt": "a\tb", "response": "c"}), (4, {"prompt": "x"}), (5, {"response": "a"})],
        ),
        ("a.csv", b"p,r\n1\n1,2,3\n1,2", [(2, "invalid_csv"), (3, "invalid_csv"), (4, {"p": "1", "r": "2"})]),
        ("a.csv", b'p,r\n1,"2"x\n3,4\n', [(2, "invalid_csv"), (3, {"p": "3", "r": "4"})]),
        ("a.csv", b'p,r\n1,2\n3,"never closed\n5,6\n', [(2, {"p": "1", "r": "2"}), (3, "invalid_csv")]),
        ("a.csv", b"p,r\n1,\xff\n3,4\n", [(2, "not_utf8"), (3, {"p": "3", "r": "4"})]),
        ("a.csv", b"p,r\xff\n1,2\n", [(1, "unreadable_file")]),
        ("a.csv", b"p,p\n1,2\n", [(1, "unreadable_file")]),
        (
            "a.csv",
            b"p,,r,\n1,2,3\n4,,5,,\n6,7,8,9\n,,,\n",
            [(n, {"p": p, "r": r}) for n, p, r in ((2, "1", "3"), (3, "4", "5"), (4, "6", "8"))],
        ),
        ("a.csv", b"p;r\n1;2,5\n", [(2, {"p": "1", "r": "2,5"})]),
        ("a.csv", b"sep=;\r\np;r\r\n1;2\r\n", [(3, {"p": "1", "r": "2"})]),
        ("a.csv", "p\tr\r\n1\t2\r\n".encode("utf-16"), [(2, {"p": "1", "r": "2"})]),
        ("a.csv", b'p,r\r1,2\r3,"4\r5"\r', [(2, {"p": "1", "r": "2"}), (3, {"p": "3", "r": "4\n5"})]),
        ("a.csv", b"p\nwhat; is, this\n", [(2, "invalid_csv")]),
        ("a.csv", b",p,r\n0,1,2\n", [(2, {"Unnamed: 0": "0", "p": "1", "r": "2"})]),
        ("a.csv", b"", []),
        ("a.csv", b"p,r\n", []),
        ("a.parquet", b"PAR1 no", [(1, "unreadable_file")]),
        ("a.arrow", b"ARROW1\0\0 no", [(1, "unreadable_file")]),
        ("a.jsonl.gz", b"\x1f\x8bno gzip", [(1, "unreadable_file")]),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfdno zstd", [(1, "unreadable_file")]),
        ("a.jsonl", POINTER, [(1, "unreadable_file")]),
        ("a.parquet", POINTER, [(1, "unreadable_file")]),
    ],
)
@pytest.mark.parametrize("target", [1, 1 << 20])
def test_a_file_gives_its_rows_with_their_lines(raw, name, content, expected, target):
    (raw / name).write_bytes(content)
    assert read(raw, target) == expected


NESTED = [{"messages": QA, "n": 1}, {"messages": None, "n": 2}, {"messages": [], "n": 3}]


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.parquet", small_groups), ("a.arrow", arrow_file), ("b.arrow", arrow_stream)],
)
@pytest.mark.parametrize("target", [1, 1 << 20])
def test_a_table_gives_its_nested_rows(raw, name, write: Callable[[Path, pyarrow.Table], None], target):
    write(raw / name, pyarrow.Table.from_pylist(NESTED))
    assert read(raw, target) == [(1, NESTED[0]), (2, {"n": 2}), (3, NESTED[2])]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("b.json", b'[{"prompt": "a", "response": "b"}] tail', "invalid_json"),
        ("b.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "unreadable_file"),
        ("b.parquet", b"PAR1 no", "unreadable_file"),
    ],
)
def test_a_damaged_file_is_a_reject_with_several_processes_too(raw, tmp_path, name, content, reason):
    write_lines(raw / "a.jsonl", [pair(number) for number in range(20)])
    (raw / name).write_bytes(content)
    made = prepare(raw, tmp_path / "out", workers=2)
    assert reason in {row["reason"] for row in rejects(tmp_path / "out") if row["file"] == name}
    assert made.content["rows"]["read"] >= 21


def test_an_empty_row_group_does_not_move_row_numbers(raw):
    table = pyarrow.table({"n": [1]})
    with parquet.ParquetWriter(raw / "a.parquet", table.schema) as writer:
        for part in (table, table.slice(0, 0), table):
            writer.write_table(part)
    assert read(raw) == [(1, {"n": 1}), (2, {"n": 1})]


def test_one_value_that_cannot_be_read_costs_one_row(raw):
    texts = pyarrow.array([b"good", b"\xff", b"fine"]).view(pyarrow.string())
    with pyarrow.OSFile(str(raw / "a.arrow"), "wb") as sink:
        table = pyarrow.table({"n": texts})
        with pyarrow.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    assert read(raw) == [(1, {"n": "good"}), (2, "not_text"), (3, {"n": "fine"})]


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".parquet", ".arrow"])
def test_what_lies_before_the_cut_of_a_damaged_file_is_kept_and_the_cut_reported(raw, suffix):
    if suffix in (".gz", ".zst"):
        noise = [{"n": number, "text": os.urandom(50).hex()} for number in range(20_000)]
        whole = "".join(json.dumps(row) + "\n" for row in noise).encode()
        packed = gzip.compress(whole, mtime=0) if suffix == ".gz" else zstandard.compress(whole)
        (raw / f"a.jsonl{suffix}").write_bytes(packed[: len(packed) * 3 // 4])
        found = read(raw)
        kept = [row for _, row in found if isinstance(row, dict)]
        assert kept == noise[: len(kept)] and len(kept) > 13_000
        assert found[-1][1] == "unreadable_file" and len(found) <= len(kept) + 2
    else:
        write = small_groups if suffix == ".parquet" else arrow_stream
        path = raw / f"a{suffix}"
        write(path, pyarrow.table({"n": list(range(100))}))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert read(raw)[-1][1] == "unreadable_file"


@pytest.mark.parametrize("splits", [False, True])
def test_a_saved_data_set_is_read_its_train_split_alone_where_it_has_one(raw, splits):
    from datasets import Dataset, DatasetDict

    train, test = Dataset.from_list([A, B]), Dataset.from_list([{"prompt": "t", "response": "t"}])
    data = DatasetDict({"train": train, "test": test}) if splits else train
    data.save_to_disk(str(raw / "saved"))
    assert read(raw) == read(raw / "saved") == read(raw, 1) == [(1, A), (2, B)]
    assert find_files(raw)[1] == (["saved/test"] if splits else [])


def test_a_broken_part_of_a_saved_data_set_is_reported(raw):
    from datasets import Dataset

    Dataset.from_list([A]).save_to_disk(str(raw))
    next(raw.glob("*.arrow")).write_bytes(b"cut")
    assert read(raw) == [(1, "unreadable_file")]
    (raw / "state.json").write_bytes(b"{}")
    assert read(raw) == [(1, "unreadable_file")]


def test_sub_folders_are_read_and_what_is_not_is_listed(raw, tmp_path):
    (raw / "deep" / ".git").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (raw / "linked").symlink_to(tmp_path / "elsewhere")
    for name in ("b.jsonl", "deep/a.jsonl", "notes.txt", ".hidden.jsonl", "deep/.git/x.jsonl", "x.parquet.gz", "a.gz"):
        (raw / name).write_bytes(LINES)
    (raw / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    os.close(os.open(bytes(raw) + b"/\xff.csv", os.O_CREAT | os.O_WRONLY))
    files, skipped = find_files(raw)
    assert [file.name for file in files] == ["\\udcff.csv", "b.jsonl", "deep/a.jsonl"]
    assert skipped == ["a.gz", "gone.jsonl", "linked", "notes.txt", "x.parquet.gz"]


@pytest.mark.parametrize("content", [None, "notes.txt", "file"])
def test_a_folder_without_data_is_refused(raw, content):
    if content == "notes.txt":
        (raw / content).write_text("x")
    elif content == "file":
        raw = raw / "file"
        raw.write_text("x")
    with pytest.raises(DataError, match="notes.txt" if content == "notes.txt" else "no data file|is a file"):
        find_files(raw)
    with pytest.raises(DataError, match="does not exist"):
        find_files(raw / "nowhere")


CHINESE = {"prompt": "小明有三个苹果、又买了两个、现在一共有几个苹果。", "response": "五个。"}
KOREAN = {"prompt": "사과가 세 개 있습니다. 두 개를 더 샀습니다. 모두 몇 개입니까?", "response": "다섯 개입니다."}
JAPANESE = {"prompt": "りんごが三つあります。全部でいくつですか。", "response": "五つです。"}
RUSSIAN = {"prompt": "Сколько всего яблок было вчера?", "response": "Пять яблок."}
FRENCH = {"prompt": "Où est le café, à gauche ?", "response": "Là, près de l'hôtel."}


@pytest.mark.parametrize(
    ("encoding", "record"),
    [
        *((encoding, CHINESE) for encoding in ("utf-8-sig", "utf-16", "utf-32", "gbk", "gb18030")),
        *((encoding, CHINESE) for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")),
        ("utf-8", FRENCH),
        ("utf-16", FRENCH),
        ("utf-16-be", {"prompt": "\U0001f600", "response": "x"}),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "jsonl.gz"])
def test_an_encoding_is_decoded_right(raw, encoding, record, kind):
    other = {"prompt": "1+1?", "response": "2"}
    lines = [json.dumps(row, ensure_ascii=False) for row in (record, other)]
    text = {
        "json": f"[{','.join(lines)}]",
        "csv": "prompt,response\n" + "".join(f'"{row["prompt"]}","{row["response"]}"\n' for row in (record, other)),
    }
    data = text.get(kind, "\n".join(lines)).encode(encoding)
    (raw / f"a.{kind}").write_bytes(gzip.compress(data, mtime=0) if kind.endswith("gz") else data)
    assert [row for _, row in read(raw)] == [record, other]


@pytest.mark.parametrize(
    ("encoding", "record"),
    [
        ("cp1251", RUSSIAN),
        ("koi8-r", RUSSIAN),
        ("cp949", KOREAN),
        ("cp949", {"prompt": "안녕하세요", "response": "안녕"}),
        ("euc-jp", JAPANESE),
        ("shift-jis", JAPANESE),
        ("big5", {"prompt": "小明有三個蘋果、又買了兩個、現在一共有幾個。", "response": "五個。"}),
    ],
)
def test_another_encoding_is_rejected_by_name_never_mangled(raw, encoding, record):
    rows = [json.dumps(record, ensure_ascii=False).encode(encoding), b'{"prompt": "plain"}']
    (raw / "a.jsonl").write_bytes(b"\n".join(rows))
    assert read(raw) == [(1, "not_utf8"), (2, {"prompt": "plain"})]


@pytest.mark.parametrize(
    ("encoding", "record"),
    [
        ("latin-1", FRENCH),
        ("cp1252", {"prompt": "café", "response": "naïve Zoë"}),
        ("cp1252", {"prompt": "It\u2019s \u201cbig\u201d", "response": "It isn\u2019t"}),
        ("latin-1", {"prompt": "Größe über Maß?", "response": "fünf"}),
    ],
)
def test_a_western_text_of_one_byte_a_letter_is_decoded_and_told(raw, encoding, record):
    rows = [json.dumps(record, ensure_ascii=False).encode(encoding), b'{"prompt": "plain"}']
    (raw / "a.jsonl").write_bytes(b"\n".join(rows))
    assert read(raw) == [(1, record), (2, {"prompt": "plain"})]
    assert "decoded as Windows-1252, which fits best" in notes(raw)


def test_what_another_encoding_most_likely_is_is_told(raw):
    (raw / "a.jsonl").write_bytes("\n".join([json.dumps(RUSSIAN, ensure_ascii=False)] * 20).encode("cp1251"))
    assert "most likely cp1251: convert it" in notes(raw)


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("a.csv", b"p;r\n1;2\n", "cells are separated by ';'"),
        ("a.csv", b"p,,r,\n1,2,3,\n", "columns 2, 4 without a name left out"),
        ("a.jsonl.gz", LINES, "not compressed, whatever .gz says"),
    ],
)
def test_how_a_file_is_read_is_told_where_it_is_not_as_its_name_says(raw, tmp_path, name, content, note):
    write_lines(raw / "b.jsonl", [pair(number) for number in range(20)])
    (raw / name).write_bytes(content)
    made = prepare(raw, tmp_path / "out")
    assert any(name in warning and note in warning for warning in made.warnings)
    assert [note in "".join(file["notes"]) for file in made.content["inputs"]] == [True, False]


def notes(raw):
    (file,) = find_files(raw)[0]
    return "".join(note for chunk in chunks.chunks_of(file, 1 << 20, raw.parent) for note in chunk.notes)


@pytest.mark.parametrize("content", [json.dumps([A, B] * 50, indent=1), (json.dumps(A, indent=1) + "\n") * 50])
def test_a_large_document_is_streamed_with_the_same_rows_up_to_where_it_breaks(raw, monkeypatch, content):
    (raw / "a.json").write_text(content)
    small = read(raw)
    monkeypatch.setattr(json_documents, "SMALL_BYTES", 100)
    assert read(raw) == small and len(small) >= 50
    (raw / "a.json").write_text(content[:-90])
    broken = read(raw)
    assert broken[:40] == small[:40] and broken[-1][1] == "invalid_json"
    (raw / "a.json").write_text('[{"n": {"a": 1, "a": 2}}, {"n": 1, "n": 2}, ' + json.dumps(A) + "]" + " " * 100)
    assert read(raw)[1:] == [(2, "duplicate_key"), (3, A)]


def test_one_broken_byte_costs_one_row(raw):
    rows = [json.dumps(CHINESE, ensure_ascii=False).encode()] * 3
    (raw / "a.jsonl").write_bytes(b"\n".join([rows[0], rows[1].replace("苹".encode(), b"\xe8\x8b"), rows[2]]))
    assert read(raw) == [(1, CHINESE), (2, "not_utf8"), (3, CHINESE)]


@pytest.mark.parametrize("damage", [b"\0", b"\0\0", b"\xff\0"])
def test_a_damaged_first_byte_does_not_make_a_file_utf16(raw, damage):
    (raw / "a.jsonl").write_bytes(damage + b'{"n": "a"}\n{"n": "b"}\n')
    assert [row for _, row in read(raw)][1:] == [{"n": "b"}]


@pytest.mark.parametrize("target", [1, 1 << 20])
def test_where_a_file_breaks_off_is_told_by_its_last_line(raw, target):
    (raw / "a.jsonl").write_bytes('\n\n{"n": "a"}\n\n\n'.encode("utf-16")[:-1])
    assert read(raw, target) == [(3, {"n": "a"}), (5, "unreadable_file")]


def test_half_a_surrogate_pair_of_utf16_costs_one_row(raw):
    text = '{"n": "a"}\n{"n": "\ud800"}\n{"n": "b"}\n'
    (raw / "a.jsonl").write_bytes(text.encode("utf-16", "surrogatepass"))
    assert read(raw) == [(1, {"n": "a"}), (2, "not_utf8"), (3, {"n": "b"})]
    (raw / "a.jsonl").write_bytes('{"n": "a"}\n'.encode("utf-16")[:-1])
    assert read(raw) == [(1, {"n": "a"}), (1, "unreadable_file")]


def test_a_table_of_a_million_columns_is_one_reject(raw):
    (raw / "a.csv").write_bytes(b",".join(b"c%d" % number for number in range(1_000_000)) + b"\n" + b"1," * 999_999)
    assert read(raw) == [(1, "unreadable_file")]
    (raw / "a.csv").write_bytes(b"p,r\n" + b"1," * 999_999 + b"\n1,2\n")
    assert read(raw) == [(2, "invalid_csv"), (3, {"p": "1", "r": "2"})]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("target", [1, 150, 1 << 20])
def test_a_row_beyond_the_limit_is_one_reject(raw, name, target, monkeypatch):
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(json_documents, "MAX_ROW_BYTES", 100)
    monkeypatch.setattr(chunks, "MAX_ROW_BYTES", 100)
    rows = [json.dumps({"n": text}) for text in ("a", "b" * 200, "c", "d" * 91)]
    joined = "\n".join(rows) if name == "a.jsonl" else f"[{','.join(rows)}]"
    (raw / name).write_text(joined)
    expected = [{"n": "a"}, "too_long", {"n": "c"}, {"n": "d" * 91}]
    assert [row for _, row in read(raw, target)] == expected


def test_a_folder_wins_over_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own", "data").mkdir(parents=True)
    for text in ("own/data", "own/nowhere", "nowhere", "/a/b", "./b", "a/b/c"):
        assert resolve_input(text) == Path(text)


def test_a_hub_id_without_a_network_is_a_readable_error(tmp_path):
    code = (
        "from chord_exp.errors import DataError\nfrom chord_exp.prepare.read.files import resolve_input\n"
        "try:\n    resolve_input('nobody-here/no-such-data')\n"
        "except DataError as error:\n    print(type(error).__name__, error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.stdout.startswith("DataError") and "nobody-here/no-such-data" in done.stdout, done.stderr
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").rglob("*data*"))
