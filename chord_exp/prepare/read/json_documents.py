"""Rows of JSON that is not one object a line: an array, objects over several lines, one object that holds the rows.

A document up to SMALL_BYTES is decoded element by element, so that a broken one costs itself; a larger one is streamed
by ijson up to where it breaks.
"""

from __future__ import annotations

import json
import mmap
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from chord_exp.prepare.read.raw_rows import MAX_ROW_BYTES, RawRow, too_long
from chord_exp.prepare.rejects import Reject

SMALL_BYTES = 32 << 20
_HEAD_BYTES, _HEAD_LINES = 1 << 20, 20
_BLANK = re.compile(r"[\s,]*")
_INDENT = re.compile(r"(?:^|\n)([ \t]*)$")
# names that people give to a list of rows
_ROW_LISTS = ("train", "data", "rows", "examples", "instances", "items", "records", "samples")
# what a turn of a conversation has, and a row has not
_OF_TURNS = ("role", "from", "speaker")


def is_document(text: mmap.mmap, start: int, lines_expected: bool) -> bool:
    """Whether a text is a document, rather than one object a line.

    Args:
        lines_expected: by the file's name; then only clear evidence counts.
    """
    head = [line.strip() for line in text[start : start + _HEAD_BYTES].split(b"\n", _HEAD_LINES)[:_HEAD_LINES]]
    head = [line for line in head if line]
    if not head or head[0][:1] not in b"[{":
        return False
    if head[0][:1] == b"[":
        # lists one a line are rows (of turns); one alone is the array of all
        return not lines_expected or len(head) == 1 or not _is_json(head[0])
    objects = [line for line in head if line.startswith(b"{") and line.rstrip(b",").endswith(b"}")]
    whole = sum(not _holds_several(line) for line in objects)
    return whole == 0 if lines_expected else 2 * whole < len(head) or len(head) == 1


def _holds_several(line: bytes) -> bool:
    return re.search(rb"\}\s*\{", line) is not None and not _is_json(line)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def document_rows(path: Path, text: mmap.mmap, start: int) -> Iterator[RawRow]:
    """The rows of a document, numbered from 1; at last what is wrong with it.

    Args:
        text: that of `path`; it begins at byte `start`.
    """
    size = len(text) - start
    # ijson knows no NaN
    if size <= SMALL_BYTES or text.find(b"NaN", start) >= 0 or text.find(b"Infinity", start) >= 0:
        found = _decoded(text[start:].decode("utf-8", "surrogateescape"))
    else:
        found = _streamed(path, start, text[start : start + _HEAD_BYTES].lstrip()[:1] == b"[")
    for number, value in enumerate(_unfolded(found), 1):
        if isinstance(value, Reject):
            yield RawRow(number, b"", value)
            continue
        try:
            data = orjson.dumps(value)
        except TypeError as error:
            broken = "surrogates" in str(error) or "UTF-8" in str(error)
            reason = "not_utf8" if broken and _has_bytes(value) else "invalid_json"
            yield RawRow(number, b"", Reject(reason, str(error)))
            continue
        yield RawRow(number, data, too_long(len(data)) if len(data) > MAX_ROW_BYTES else None)


def _has_bytes(value: Any) -> bool:
    """Whether a text holds bytes that do not decode, rather than half a pair that was written as an escape."""
    return re.search("[\udc80-\udcff]", json.dumps(value, ensure_ascii=False)) is not None


def _decoded(text: str) -> Iterator[Any]:
    """The values of a text one after the other, and of an array its elements; a Reject for what is broken."""
    twice: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice.append(next(key for key, count in counts.items() if count > 1))
        return made

    decode = json.JSONDecoder(object_pairs_hook=once, parse_constant=lambda _: None).raw_decode
    at = _after_blanks(text, 0)
    in_array = text[at : at + 1] == "["
    at = _after_blanks(text, at + 1) if in_array else at
    while at < len(text):
        if in_array and text[at] == "]":
            if text[at + 1 :].strip():
                yield Reject("invalid_json", "text after the end of the array")
            return
        try:
            value, end = decode(text, at)
        except RecursionError:
            yield Reject("invalid_json", "nested too deeply")
            return
        except ValueError as error:
            yield Reject("invalid_json", _printable(f"{error}: {text[at : at + 80]}"))
            end = _next_like(text, at)
            if end == 0:
                if text[at:].count("\n") > 1 or in_array:
                    yield Reject("invalid_json", "what follows is not read")
                return
        else:
            yield Reject("duplicate_key", _printable(twice[0])) if twice else value
            twice.clear()
        at = _after_blanks(text, end)
    if in_array:
        yield Reject("invalid_json", "the array never ends: is the file cut off?")


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _after_blanks(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _next_like(text: str, at: int) -> int:
    """Where the next object begins that is indented as the one at `at`, which begins its line; 0 where none does."""
    line = _INDENT.search(text, max(0, text.rfind("\n", 0, at)), at)
    if line is None:
        return 0
    following = re.compile(rf"\n{line[1]}\{{").search(text, at + 1)
    return following.end() - 1 if following else 0


class _Streamed(dict):
    """An object as ijson builds it, which remembers a key that came twice."""

    twice = ""

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            self.twice = key
        super().__setitem__(key, value)


def _streamed(path: Path, start: int, in_array: bool) -> Iterator[Any]:
    """The same for a large file."""
    import ijson

    with path.open("rb") as stream:
        stream.seek(start)
        try:
            for value in ijson.items(
                stream, "item" if in_array else "", use_float=True, multiple_values=not in_array, map_type=_Streamed
            ):
                yield Reject("duplicate_key", value.twice) if getattr(value, "twice", "") else value
        except (ijson.JSONError, UnicodeDecodeError, ValueError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            yield Reject("invalid_json", f"{first}: what follows is not read")


def _unfolded(values: Iterator[Any]) -> Iterator[Any]:
    """The values; of an object that stands alone and holds the rows, those."""
    first = next(values, None)
    if first is None:
        return
    second = next(values, None)
    if second is not None or not isinstance(first, dict):
        yield first
        if second is not None:
            yield second
            yield from values
        return
    yield from _held_rows(first)


def _held_rows(held: dict[str, Any]) -> list[Any]:
    """The rows that an object holds: as lists of them, as columns, or by id; else itself."""
    lists = {name: value for name, value in held.items() if isinstance(value, list) and value}
    of_rows = [name for name, value in lists.items() if all(map(_is_row, value))]
    named = [name for name in _ROW_LISTS if name in of_rows] or (of_rows if len(held) == 1 else [])
    if named:
        return lists[named[0]]
    columns = len(held) > 1 and len(lists) == len(held) and len({len(value) for value in lists.values()}) == 1
    if columns and not any(isinstance(cell, dict) for value in lists.values() for cell in value):
        return [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
    if held and all(map(_is_row, held.values())):
        return list(held.values())
    return [held]


def _is_row(value: Any) -> bool:
    return isinstance(value, dict) and not any(name in value for name in _OF_TURNS)
