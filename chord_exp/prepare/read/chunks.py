"""From input files to raw rows: cut into chunks that several processes can read.

Whatever a file holds, a row comes of every piece of it: with a fault where it is no row. Memory: one chunk.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from chord_exp.prepare.read import tables
from chord_exp.prepare.read.csv_rows import CsvTable
from chord_exp.prepare.read.encodings import DecodedFile, decode_file
from chord_exp.prepare.read.files import ARROW, CSV, JSON, PARQUET, SAVED, TSV, InputFile
from chord_exp.prepare.read.json_documents import document_rows, is_document
from chord_exp.prepare.read.raw_rows import MAX_ROW_BYTES, RawRow, too_long
from chord_exp.prepare.rejects import Reject

_DELIMITERS = {CSV: ",", TSV: "\t"}
_FAULT_BYTES = 1024
_HEAD_BYTES = 1 << 16
_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"


@dataclass(frozen=True)
class Chunk:
    """A part of an input file."""

    file: InputFile
    # its share of the file's bytes, for progress
    bytes: int
    # what to open: the file, a decoded copy of it, or a part of a saved data set
    path: Path
    # bytes of a text file; of a table, first part (row group, record batch) and the one after the last
    start: int = 0
    end: int = 0
    # number of the first line or row
    line: int = 1
    # the rows themselves, where one reader has to go through the whole file
    rows: tuple[RawRow, ...] | None = None
    # the one thing the chunk says, where there is nothing to read
    fault: Reject | None = None
    # whether keys of multiple-choice rows count from 0 or from 1
    first_index: int = 0
    # what a user should hear of how the file is read
    notes: tuple[str, ...] = ()


def chunks_of(file: InputFile, target_bytes: int, scratch: Path) -> Iterator[Chunk]:
    """Yield the parts of a file in order; every row belongs to exactly one.

    Args:
        target_bytes: about so much text a chunk.
        scratch: folder for decoded copies; they must live until the chunks are read.

    Raises:
        OSError: the file cannot be read.
    """
    if file.path.is_file() and _begins_with(file.path, _LFS_POINTER):
        told = "a Git LFS pointer in place of the data: run git lfs pull"
        yield Chunk(file, file.path.stat().st_size, file.path, fault=Reject("unreadable_file", told))
    elif file.kind in (PARQUET, ARROW, SAVED):
        yield from _table_chunks(file, target_bytes)
    else:
        yield from _of_text(file, target_bytes, scratch)


def _begins_with(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head


def _of_text(file: InputFile, target: int, scratch: Path) -> Iterator[Chunk]:
    decoded = decode_file(file, scratch)
    size = decoded.path.stat().st_size
    share = file.path.stat().st_size / max(1, size)
    last_line, notes = 1, decoded.notes
    if size > decoded.start:
        with decoded.path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
            for chunk in _text_chunks(file, decoded, text, target):
                # the file's own bytes, not those of its copy
                yield replace(chunk, bytes=int(share * chunk.bytes), notes=(*notes, *chunk.notes))
                notes = ()
            if decoded.fault:
                last_line += _newlines(text, decoded.start, len(text))
    if decoded.fault:
        yield Chunk(file, 0, decoded.path, line=last_line, fault=Reject("unreadable_file", decoded.fault))


def _text_chunks(file: InputFile, decoded: DecodedFile, text: mmap.mmap, target: int) -> Iterator[Chunk]:
    start = decoded.start
    if file.kind in _DELIMITERS:
        yield from _csv_chunks(file, decoded, text, target)
    elif is_document(text, start, lines_expected=file.kind != JSON):
        yield from _of_rows(file, decoded.path, document_rows(decoded.path, text, start), target)
    else:
        yield from _line_chunks(file, decoded.path, text, start, target)


def _line_chunks(file: InputFile, path: Path, text: mmap.mmap, start: int, target: int) -> Iterator[Chunk]:
    size, line = len(text), 1
    while start < size:
        end = text.find(b"\n", min(start + target, size) - 1) + 1
        end = end if end > 0 else size
        yield Chunk(file, end - start, path, start, end, line)
        line += _newlines(text, start, end)
        start = end


def _newlines(text: mmap.mmap, start: int, end: int) -> int:
    return sum(text[at : min(at + MAX_ROW_BYTES, end)].count(b"\n") for at in range(start, end, MAX_ROW_BYTES))


def _csv_chunks(file: InputFile, decoded: DecodedFile, text: mmap.mmap, target: int) -> Iterator[Chunk]:
    head = text[decoded.start : decoded.start + _HEAD_BYTES].decode("utf-8", "replace")
    with decoded.path.open("rb") as stream:
        stream.seek(decoded.start)
        try:
            table = CsvTable(stream, head, _DELIMITERS[file.kind], cut_off=bool(decoded.fault))
        except Reject as reject:
            if not (decoded.fault and b"\n" not in text[decoded.start :]):
                yield Chunk(file, len(text), decoded.path, fault=reject)
            return
        for chunk in _of_rows(file, decoded.path, table.rows(), target):
            yield replace(chunk, notes=tuple(table.notes))
            table.notes.clear()


def _of_rows(file: InputFile, path: Path, rows: Iterable[RawRow], target: int) -> Iterator[Chunk]:
    """Chunks that carry their rows."""
    gathered: list[RawRow] = []
    size = 0
    for row in rows:
        gathered.append(row)
        size += len(row.data) if row.record is None else sum(map(len, row.record.values()))
        if size >= target:
            yield Chunk(file, size, path, line=gathered[0].line, rows=tuple(gathered))
            gathered, size = [], 0
    if gathered:
        yield Chunk(file, size, path, line=gathered[0].line, rows=tuple(gathered))


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
    """Yield the rows of a chunk.

    Raises:
        OSError: the file cannot be read.
    """
    if chunk.fault is not None:
        yield RawRow(chunk.line, b"", chunk.fault)
    elif chunk.rows is not None:
        yield from chunk.rows
    elif chunk.file.kind == PARQUET:
        following = chunk.line
        for group in range(chunk.start, chunk.end):
            for row, record, fault in tables.read_row_group(chunk.path, group, following):
                yield RawRow(row, b"", fault, record)
                following = row + 1
    elif chunk.file.kind in (ARROW, SAVED):
        for row, record, fault in tables.read_batches(chunk.path, chunk.start, chunk.end - chunk.start, chunk.line):
            yield RawRow(row, b"", fault, record)
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


def _bytes_of(chunk: Chunk) -> bytes:
    with chunk.path.open("rb") as file:
        file.seek(chunk.start)
        return file.read(chunk.end - chunk.start)
