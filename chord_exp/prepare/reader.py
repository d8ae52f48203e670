"""From a folder to raw rows: finds the files, cuts them into rows without loading them whole, parses one row.

Every byte of a file ends in some row, so that a damaged file loses nothing silently: what does not parse is a
rejected row.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from chord_exp.errors import DataError
from chord_exp.prepare.rejects import Reject

LINE_SUFFIXES = (".jsonl", ".ndjson")
SUFFIXES = (".json", *LINE_SUFFIXES)
MAX_ROW_BYTES = 32 << 20

_UTF8_BOM = b"\xef\xbb\xbf"
_FOREIGN_BOMS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
# A whole string, or one structural character; a lone quote is a string that never ends.
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|([\[\]{},"])', re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*")
_KEY = re.compile(rb'"[ \t\r\n]*:')


Span = tuple[int, int, "Reject | None"]


@__import__('dataclasses').dataclass(frozen=True)
class InputFile:
    path: Path
    name: str

@__import__('dataclasses').dataclass(frozen=True)
class Chunk:
    file: InputFile
    start: int
    end: int
    line: int
    @property
    def bytes(self): return self.end-self.start

class RawRow(NamedTuple):
    """One row as it lies in its file; `fault` when it is already known to be unusable."""

    line: int
    start: int
    end: int
    data: bytes
    fault: Reject | None = None
    record: dict | None = None


def find_files(input_dir: Path) -> tuple[list[Path], list[str]]:
    """Files to read under a folder in a fixed order, and the names of those left out.

    Raises:
        DataError: no such folder, or nothing readable in it.
    """
    if not input_dir.is_dir():
        what = "the input is a file, not a folder" if input_dir.exists() else "the input folder does not exist"
        raise DataError(what, where=str(input_dir), fix="name a folder of .json or .jsonl files")
    files, skipped = [], []
    for folder, subfolders, names in os.walk(input_dir, onerror=_refuse_unreadable):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() in SUFFIXES and path.is_file():
                files.append(path)
            else:
                skipped.append(shown_name(path, input_dir))
    if not files:
        seen = f"; it holds {', '.join(sorted(skipped)[:5])}" if skipped else ""
        raise DataError(
            f"the input folder has no {' or '.join(SUFFIXES)} file{seen}",
            where=str(input_dir),
            fix="put the data there",
        )
    return [InputFile(p, shown_name(p,input_dir)) for p in sorted(files, key=lambda path: shown_name(path, input_dir))], sorted(skipped)


def _refuse_unreadable(error: OSError) -> None:
    raise error


def shown_name(path: Path, input_dir: Path) -> str:
    """Path inside the input folder, printable even when the name is not UTF-8."""
    return path.relative_to(input_dir).as_posix().encode("utf-8", "backslashreplace").decode()


def read_rows(path: Path) -> Iterator[RawRow]:
    """Cuts a file into rows. Memory: one row of at most MAX_ROW_BYTES, however large the file."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for bom, encoding in _FOREIGN_BOMS:
        if text[: len(bom)] == bom:
            yield RawRow(1, 0, len(text), text[:256], Reject("unreadable_file", f"{encoding}; convert it to UTF-8"))
            return
    start = len(_UTF8_BOM) if text[: len(_UTF8_BOM)] == _UTF8_BOM else 0
    first = _skip_blank(text, start)
    if path.suffix.lower() in LINE_SUFFIXES:
        spans = _lines(text, start)
    elif text[first : first + 1] == b"[":
        spans = _elements(text, first + 1, depth=1)
    elif text[first : first + 1] == b"{" and not _has_object_lines(text, first):
        spans = _elements(text, first, depth=0)
    else:
        spans = _lines(text, start)
    line, counted_to = 1, 0
    for begin, end, fault in spans:
        line += text[counted_to:begin].count(b"\n")
        counted_to = begin
        if fault is None and end - begin > MAX_ROW_BYTES:
            fault = Reject("too_long", f"{end - begin:,} bytes")
        yield RawRow(line, begin, end, text[begin : end if fault is None else min(end, begin + 1024)], fault)


def _lines(text: mmap.mmap, start: int) -> Iterator[Span]:
    """One row a line; blank lines are no rows."""
    size = len(text)
    begin = _skip_blank(text, start)
    while begin < size:
        end = text.find(b"\n", begin)
        end = size if end < 0 else end
        yield begin, end, None
        begin = _skip_blank(text, end)


def _elements(text: mmap.mmap, start: int, depth: int) -> Iterator[Span]:
    """The elements of an array whose bracket lies before `start` (depth 1), or objects one after the other
    (depth 0)."""
    base, size = depth, len(text)
    begin = start
    for match in _STRUCTURE.finditer(text, start):
        token = match[1]
        if token is None:
            continue
        if token == b'"':
            break
        if token in b"[{":
            depth += 1
        elif token == b",":
            if base == 1 and depth == 1:
                yield _skip_blank(text, begin), match.start(), None
                begin = match.end()
        elif depth > 0:
            depth -= 1
            if base == 0 and depth == 0:
                yield _skip_blank(text, begin), match.end(), None
                begin = match.end()
            elif base == 1 and depth == 0:
                last = _skip_blank(text, begin)
                if last < match.start():
                    yield last, match.start(), None
                begin = _skip_blank(text, match.end())
                if begin < size:
                    yield begin, size, Reject("invalid_json", "text after the end of the array")
                return
    begin = _skip_blank(text, begin)
    if begin < size:
        yield begin, size, None
    if base == 1:
        yield size, size, Reject("invalid_json", "the array never ends: is the file cut off?")


def _skip_blank(text: mmap.mmap, start: int) -> int:
    match = _BLANK.match(text, start)
    return match.end() if match else start


def _has_object_lines(text: mmap.mmap, first: int) -> bool:
    """Whether a .json file is one object a line; else its objects run over several lines."""
    head = [line.strip() for line in text[first : first + (1 << 20)].split(b"\n", 20)[:20]]
    head = [line for line in head if line]
    whole = sum(line.startswith(b"{") and line.endswith(b"}") for line in head)
    return 2 * whole >= len(head)


def parse_row(data: bytes) -> dict[str, Any]:
    """The object that a raw row holds.

    Raises:
        Reject: not UTF-8, not JSON (lone surrogates and NaN included), a key given twice, not an object.
    """
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as decoding:
            raise Reject("not_utf8", f"byte {data[decoding.start]:#04x} at {decoding.start}") from None
        raise Reject("invalid_json", str(error)) from None
    if not isinstance(record, dict):
        raise Reject("not_an_object", f"this one is a {_JSON_NAMES[type(record)]}")
    # The parser keeps the last of two equal keys. Surplus key-like text is rare: only it pays for a check.
    if len(_KEY.findall(data)) != _count_keys(record):
        _refuse_duplicate_keys(data)
    return record


_JSON_NAMES = {
    list: "list",
    str: "text",
    int: "number",
    float: "number",
    bool: "true/false",
    type(None): "null",
}


def _count_keys(record: dict[str, Any]) -> int:
    count, stack = 0, [cast(Any, record)]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            count += len(value)
            value = value.values()
        stack.extend(item for item in value if isinstance(item, (dict, list)))
    return count


def _refuse_duplicate_keys(data: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Reject("duplicate_key", key)
            seen.add(key)

    try:
        json.loads(data, object_pairs_hook=check)
    except RecursionError:
        raise Reject("invalid_json", "nested too deeply") from None
    except ValueError as error:
        # e.g. an integer of more digits than Python converts
        raise Reject("invalid_json", str(error)) from None

def chunks_of(file, target):
    if file.path.suffix != ".jsonl":
        yield Chunk(file, 0, file.path.stat().st_size, -1)
        return
    line=1; start=0
    with file.path.open("rb") as f:
        while True:
            block=f.read(target)
            if not block: return
            block+=f.readline()
            yield Chunk(file,start,start+len(block),line)
            line+=block.count(b"\n"); start+=len(block)

def read_chunk(chunk):
    if chunk.line<0:
        yield from read_rows(chunk.file.path); return
    with chunk.file.path.open("rb") as f:
        f.seek(chunk.start); data=f.read(chunk.end-chunk.start)
    line=chunk.line
    for l in data.split(b"\n"):
        if l.strip(): yield RawRow(line,0,0,l)
        line+=1
