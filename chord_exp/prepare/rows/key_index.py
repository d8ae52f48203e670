"""Whether the multiple-choice rows of a file count their options from 0 or from 1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from chord_exp.prepare.read.chunks import Chunk, read_chunk
from chord_exp.prepare.read.raw_rows import parse_row
from chord_exp.prepare.rejects import Reject
from chord_exp.prepare.rows.reading import find_reading

# a file is looked into until a row tells, and given up where its first rows have no such keys
_FIRST_ROWS, _MOST_ROWS = 20, 100_000


def with_first_index(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Yield the chunks of one file; where its keys count from 1, they say so.

    A key of 0 tells that they count from 0, one as large as the number of options that they count from 1. A file that
    tells neither counts from 0, as Hugging Face's class labels do.
    """
    seen: list[Chunk] = []
    coming = iter(chunks)
    first_index = _first_index(_remembered(coming, seen))
    for chunk in chain(seen, coming):
        yield replace(chunk, first_index=first_index) if first_index else chunk


def _remembered(chunks: Iterator[Chunk], seen: list[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        seen.append(chunk)
        yield chunk


def _first_index(chunks: Iterator[Chunk]) -> int:
    rows, keyed = 0, 0
    for chunk in chunks:
        for raw in read_chunk(chunk):
            rows += 1
            if (rows > _FIRST_ROWS and not keyed) or rows > _MOST_ROWS:
                return 0
            try:
                if raw.fault is not None:
                    continue
                reading, record = find_reading(parse_row(raw.data) if raw.record is None else raw.record)
                index, options = reading.key_index(record) or (None, 0)
            except Reject:
                continue
            if index is None:
                continue
            keyed += 1
            if index in (0, options):
                return int(index == options)
    return 0
