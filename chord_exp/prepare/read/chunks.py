"""From input files to raw rows: cut into chunks that several processes can read, and one row parsed.

Whatever a file holds, a row comes of every piece of it: with a fault where it is no row. Memory: one chunk.
"""

from __future__ import annotations

import io
import json
import mmap
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from chord_exp.prepare.read import tables
from chord_exp.prepare.read.csv_lines import RowTooLong, TableLines, decoded
from chord_exp.prepare.read.encodings import Plain, make_plain
from chord_exp.prepare.read.files import ARROW, CSV, JSON, PARQUET, SAVED, TSV, InputFile
from chord_exp.prepare.read.json_spans import MAX_ROW_BYTES, elements, elements_start, too_long
from chord_exp.prepare.rejects import Reject

_DELIMITERS = {CSV: ",", TSV: "\t"}
_FAULT_BYTES = 1024
_KEY = re.compile(rb'"[ \t\r\n]*:')


class RawRow(NamedTuple):
    """One row as it lies in its file.

    Args:
        line: line in a text file, row in a table, from 1.
        data: its bytes, of JSON.
        fault: why it is known to be unusable; None when it may be used.
        record: what it holds, of a table; None for JSON, which `parse_row` parses.
    """

    line: int
    data: bytes
    fault: Reject | None = None
    record: dict[str, Any] | None = None


@dataclass(frozen=True)
class Chunk:
    """A part of an input file.

    Args:
        file: the file.
        bytes: its share of the file's bytes, for progress.
        path: what to open: the file, a plain copy of it, or a part of a saved data set.
        start, end: bytes of a text file; of a table, first part (row group, record batch) and the one after the last.
        line: number of the first line or row.
        spans: of JSON elements, begin, end and line of each, one after the other.
        faults: of some elements, why they are none, by their place in `spans`.
        header: of CSV and TSV, the names of the columns.
        fault: the one thing the chunk says, where there is nothing to read.
        first_index: whether keys of multiple-choice rows count from 0 or from 1.
    """

    file: InputFile
    bytes: int
    path: Path
    start: int = 0
    end: int = 0
    line: int = 1
    spans: array[int] | None = None
    faults: dict[int, Reject] = field(default_factory=dict)
    header: tuple[str, ...] = ()
    fault: Reject | None = None
    first_index: int = 0


def chunks_of(file: InputFile, target_bytes: int, scratch: Path) -> Iterator[Chunk]:
    """The parts of a file in order; every row belongs to exactly one.

    Args:
        target_bytes: about so much text a chunk.
        scratch: folder for plain copies of compressed and transcoded files; they must live until the chunks are read.

    Raises:
        OSError: the file cannot be read.
    """
    if file.kind in (PARQUET, ARROW, SAVED):
        yield from _table_chunks(file, target_bytes)
        return
    plain = make_plain(file, scratch)
    share = file.path.stat().st_size / max(1, plain.path.stat().st_size)
    last_line = 1
    if plain.path.stat().st_size > plain.start:
        with plain.path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
            for chunk in _text_chunks(file, plain, text, target_bytes):
                yield _with_bytes(chunk, share)
            if plain.fault:
                last_line += _newlines(text, plain.start, len(text))
    if plain.fault:
        yield Chunk(file, 0, plain.path, line=last_line, fault=Reject("unreadable_file", plain.fault))


def _with_bytes(chunk: Chunk, share: float) -> Chunk:
    """A chunk's bytes counted as those of the file on the disk."""
    if share == 1:
        return chunk
    return Chunk(**{**vars(chunk), "bytes": int(share * chunk.bytes)})


def _text_chunks(file: InputFile, plain: Plain, text: mmap.mmap, target: int) -> Iterator[Chunk]:
    if file.kind in _DELIMITERS:
        return _csv_chunks(file, plain, text, target)
    found = elements_start(text, plain.start) if file.kind == JSON else None
    if found is None:
        return _line_chunks(file, plain, text, plain.start, 1, target)
    return _element_chunks(file, plain, text, *found, target)


def _line_chunks(file: InputFile, plain: Plain, text: mmap.mmap, start: int, line: int, target: int) -> Iterator[Chunk]:
    size = len(text)
    while start < size:
        end = text.find(b"\n", min(start + target, size) - 1) + 1
        end = end if end > 0 else size
        yield Chunk(file, end - start, plain.path, start, end, line)
        line += _newlines(text, start, end)
        start = end


def _newlines(text: mmap.mmap, start: int, end: int) -> int:
    return sum(text[at : min(at + MAX_ROW_BYTES, end)].count(b"\n") for at in range(start, end, MAX_ROW_BYTES))


def _element_chunks(
    file: InputFile, plain: Plain, text: mmap.mmap, start: int, depth: int, target: int
) -> Iterator[Chunk]:
    spans, faults = array("Q"), {}
    first, line, counted = start, 1 + _newlines(text, 0, start), start
    for begin, end, fault in elements(text, start, depth):
        line += _newlines(text, counted, begin)
        counted = begin
        if fault is not None:
            faults[len(spans) // 3] = fault
        spans.extend((begin, end, line))
        if end - first >= target:
            yield Chunk(file, end - first, plain.path, first, end, spans[2], spans, faults)
            first, spans, faults = end, array("Q"), {}
    if spans:
        yield Chunk(file, spans[-2] - first, plain.path, first, spans[-2], spans[2], spans, faults)


def _csv_chunks(file: InputFile, plain: Plain, text: mmap.mmap, target: int) -> Iterator[Chunk]:
    # of a file that is cut off the last line may be half a row that looks like a whole one
    end = text.rfind(b"\n") + 1 if plain.fault else len(text)
    if end <= plain.start:
        return
    delimiter = _DELIMITERS[file.kind]
    lines = TableLines(text, plain.start, end, MAX_ROW_BYTES)
    try:
        header = tables.read_header(iter(lines), delimiter)
    except Reject as reject:
        yield Chunk(file, len(text), plain.path, fault=reject)
        return
    except RowTooLong:
        yield Chunk(file, len(text), plain.path, fault=Reject("unreadable_file", "its header is too long"))
        return
    lines.row_ended()
    whole = partial(Chunk, file, path=plain.path, header=header)
    start, line = lines.offset, lines.count + 1
    while lines.offset < end:
        try:
            # the reader alone knows where a row ends: a quoted cell may hold line ends
            for _ in tables.read_table_text(iter(lines), header, delimiter, lines.count + 1):
                lines.row_ended()
                if lines.offset - start >= target:
                    yield whole(lines.offset - start, start=start, end=lines.offset, line=line)
                    start, line = lines.offset, lines.count + 1
        except RowTooLong:
            begin, of_row = lines.row_start, lines.row_line
            if begin > start:
                yield whole(begin - start, start=start, end=begin, line=line)
            lines.skip_row()
            size = lines.offset - begin
            yield whole(size, line=of_row, fault=too_long(size))
            start, line = lines.offset, lines.count + 1
    if lines.offset > start:
        yield whole(lines.offset - start, start=start, end=lines.offset, line=line)


def _table_chunks(file: InputFile, target: int) -> Iterator[Chunk]:
    row = 1
    try:
        for path in file.arrow_files if file.kind == SAVED else [file.path]:
            size = path.stat().st_size
            counts = tables.parquet_parts(path) if file.kind == PARQUET else tables.arrow_batches(path)
            step = max(1, int(target * len(counts) / max(size, 1)))
            for start in range(0, len(counts), step):
                end = min(start + step, len(counts))
                yield Chunk(file, size * (end - start) // len(counts), path, start, end, row)
                row += sum(counts[start:end])
    except Reject as reject:
        yield Chunk(file, 0, file.path, line=row, fault=reject)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and file.kind != SAVED:
            raise
        yield Chunk(file, 0, file.path, line=row, fault=Reject("unreadable_file", f"{type(error).__name__}: {error}"))


def read_chunk(chunk: Chunk) -> Iterator[RawRow]:
    """The rows of a chunk.

    Raises:
        OSError: the file cannot be read.
    """
    if chunk.fault is not None:
        yield RawRow(chunk.line, b"", chunk.fault)
    elif chunk.file.kind in _DELIMITERS:
        yield from _read_csv(chunk)
    elif chunk.file.kind == PARQUET:
        following = chunk.line
        for group in range(chunk.start, chunk.end):
            for row, record, fault in tables.read_row_group(chunk.path, group, following):
                yield RawRow(row, b"", fault, record)
                following = row + 1
    elif chunk.file.kind in (ARROW, SAVED):
        for row, record, fault in tables.read_batches(chunk.path, chunk.start, chunk.end - chunk.start, chunk.line):
            yield RawRow(row, b"", fault, record)
    elif chunk.spans is not None:
        yield from _read_elements(chunk)
    else:
        yield from _read_lines(chunk)


def _read_lines(chunk: Chunk) -> Iterator[RawRow]:
    """One row a line; blank lines are no rows."""
    line = chunk.line
    if chunk.end - chunk.start <= MAX_ROW_BYTES:
        for data in _bytes_of(chunk).split(b"\n"):
            if data and not data.isspace():
                yield RawRow(line, data)
            line += 1
        return
    with chunk.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        begin = chunk.start
        while begin < chunk.end:
            end = text.find(b"\n", begin, chunk.end)
            end = chunk.end if end < 0 else end
            if end - begin > MAX_ROW_BYTES:
                yield RawRow(line, text[begin : begin + _FAULT_BYTES], too_long(end - begin))
            elif (data := text[begin:end]) and not data.isspace():
                yield RawRow(line, data)
            begin, line = end + 1, line + 1


def _read_elements(chunk: Chunk) -> Iterator[RawRow]:
    assert chunk.spans is not None
    with chunk.path.open("rb") as file:
        for number in range(len(chunk.spans) // 3):
            begin, end, line = chunk.spans[3 * number : 3 * number + 3]
            fault = chunk.faults.get(number)
            file.seek(begin)
            yield RawRow(line, file.read(end - begin if fault is None else min(end - begin, _FAULT_BYTES)), fault)


def _read_csv(chunk: Chunk) -> Iterator[RawRow]:
    lines = (decoded(line) for line in io.BytesIO(_bytes_of(chunk)))
    rows = tables.read_table_text(lines, chunk.header, _DELIMITERS[chunk.file.kind], chunk.line)
    for line, record, fault in rows:
        if record is not None and not all(text.isascii() or tables.is_text(text) for text in record.values()):
            yield RawRow(line, b"", Reject("not_utf8"), None)
        else:
            yield RawRow(line, b"", fault, record)


def _bytes_of(chunk: Chunk) -> bytes:
    with chunk.path.open("rb") as file:
        file.seek(chunk.start)
        return file.read(chunk.end - chunk.start)


def parse_row(data: bytes) -> dict[str, Any]:
    """The object that a raw row holds.

    Raises:
        Reject: not UTF-8, not JSON (lone surrogates and NaN included), a key given twice, not an object.
    """
    added = 0
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as decoding:
            raise Reject("not_utf8", f"byte {data[decoding.start]:#04x} at {decoding.start}") from None
        raise Reject("invalid_json", str(error)) from None
    if record.__class__ is list and record and all(one.__class__ is dict and "from" in one for one in record):
        # Open-Reasoner-Zero: a row is its turns
        record, added = {"conversations": record}, 1
    if record.__class__ is not dict:
        raise Reject("not_an_object", f"this one is a {_JSON_NAMES[type(record)]}")
    # the parser keeps the last of two equal keys; surplus key-like text is rare, and only it pays for a closer look
    loose = b" :" in data or b"\n:" in data or b"\t:" in data or b"\r:" in data
    written = len(_KEY.findall(data)) if loose else data.count(b'":')
    if written != _count_keys(record) - added:
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
    count = len(record)
    stack: list[Any] = [value for value in record.values() if value.__class__ in _NESTED]
    while stack:
        value = stack.pop()
        if value.__class__ is dict:
            count += len(value)
            value = value.values()
        stack.extend([item for item in value if item.__class__ in _NESTED])
    return count


_NESTED = (dict, list)


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
