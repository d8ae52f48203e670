"""Cuts the text of a JSON file into rows without parsing it: lines, elements of an array, or objects in a row.

Every byte that is not white space ends in some row, so that a damaged file loses nothing silently.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator

import orjson

from chord_exp.prepare.rejects import Reject

MAX_ROW_BYTES = 32 << 20

# a whole string, or one structural character; a lone quote begins a string of more escapes than that, or one that
# never ends. The engine remembers every escape of a string until that ends, which must not take gigabytes
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*){0,5000}"|([\[\]{},"])', re.DOTALL)
_BLANK = re.compile(rb"[ \t\r\n]*")
_NEXT_OBJECT = re.compile(rb"\}\s*\{")
_HEAD_BYTES, _HEAD_LINES = 1 << 20, 20

Span = tuple[int, int, "Reject | None"]
"""Where a row begins and ends, and why it is no row."""


def skip_blank(text: mmap.mmap, start: int) -> int:
    """The first place from `start` on that is not white space."""
    match = _BLANK.match(text, start)
    return match.end() if match else start


def elements_start(text: mmap.mmap, start: int) -> tuple[int, int] | None:
    """Where the elements of a .json file begin, and their depth: 1 in an array, 0 for objects one after the other;
    None for a file of one object a line."""
    first = skip_blank(text, start)
    if text[first : first + 1] == b"[":
        return first + 1, 1
    if text[first : first + 1] == b"{" and not _has_object_lines(text, first):
        return first, 0
    return None


def _has_object_lines(text: mmap.mmap, first: int) -> bool:
    head = [line.strip() for line in text[first : first + _HEAD_BYTES].split(b"\n", _HEAD_LINES)[:_HEAD_LINES]]
    head = [line for line in head if line]
    whole = sum(line.startswith(b"{") and line.endswith(b"}") and not _holds_several(line) for line in head)
    return 2 * whole >= len(head)


def _holds_several(line: bytes) -> bool:
    if not _NEXT_OBJECT.search(line):
        return False
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return True
    return False


def elements(text: mmap.mmap, start: int, depth: int) -> Iterator[Span]:
    """Elements of an array whose bracket lies before `start` (depth 1), or objects one after the other (depth 0)."""
    for begin, end, fault in _elements(text, start, depth):
        if fault is None and end - begin > MAX_ROW_BYTES:
            fault = too_long(end - begin)
        yield begin, end, fault


def too_long(size: int) -> Reject:
    """Why a row of that many bytes is none."""
    return Reject("too_long", f"{size:,} bytes")


def _structure(text: mmap.mmap, start: int) -> Iterator[re.Match[bytes]]:
    """Strings and structural characters; a lone quote last, where a string never ends."""
    while True:
        for match in _STRUCTURE.finditer(text, start):
            if match[1] == b'"' and (end := _string_end(text, match.end())):
                start = end
                break
            yield match
        else:
            return


def _string_end(text: mmap.mmap, start: int) -> int:
    """Where a string ends whose content begins at `start`; 0 if it never does."""
    while (quote := text.find(b'"', start)) >= 0:
        first = quote
        while first > start and text[first - 1] == ord("\\"):
            first -= 1
        if (quote - first) % 2 == 0:
            return quote + 1
        start = quote + 1
    return 0


def _elements(text: mmap.mmap, start: int, depth: int) -> Iterator[Span]:
    base, size = depth, len(text)
    begin = start
    for match in _structure(text, start):
        token = match[1]
        if token is None:
            continue
        if token == b'"':
            break
        if token in b"[{":
            depth += 1
        elif token == b",":
            if base == 1 and depth == 1:
                yield skip_blank(text, begin), match.start(), None
                begin = match.end()
        elif base == 1 and depth == 1 and token == b"}":
            continue  # no array ends so: it belongs to a broken element
        elif depth > 0:
            depth -= 1
            if base == 0 and depth == 0:
                yield skip_blank(text, begin), match.end(), None
                begin = match.end()
            elif base == 1 and depth == 0:
                last = skip_blank(text, begin)
                if last < match.start():
                    yield last, match.start(), None
                begin = skip_blank(text, match.end())
                if begin < size:
                    yield begin, size, Reject("invalid_json", "text after the end of the array")
                return
    begin = skip_blank(text, begin)
    if begin < size:
        yield begin, size, None
    if base == 1:
        yield size, size, Reject("invalid_json", "the array never ends: is the file cut off?")
