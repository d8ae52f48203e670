"""One raw row, and the object that its JSON text holds."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import orjson

from chord_exp.prepare.rejects import Reject

MAX_ROW_BYTES = 32 << 20

_KEY = re.compile(rb'"[ \t\r\n]*:')
_NO_NUMBER = re.compile(rb"\b(?:NaN|Infinity)\b")


class RawRow(NamedTuple):
    """One row as it lies in its file."""

    # line in a text file; row in a table or a JSON document; from 1
    line: int
    # its bytes, of JSON
    data: bytes
    # why it is known to be unusable; None when it may be used
    fault: Reject | None = None
    # what it holds, of a table; None for JSON, which `parse_row` parses
    record: dict[str, Any] | None = None


def too_long(size: int) -> Reject:
    """Why a row of that many bytes is none."""
    return Reject("too_long", f"{size:,} bytes")


def parse_row(data: bytes) -> dict[str, Any]:
    """Return the object that a raw row holds. NaN, which Python writes, is null; a comma after the object is nothing.

    Raises:
        Reject: not UTF-8, not JSON (lone surrogates included), a key given twice, not an object.
    """
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        record, data = _parse_again(data, error)
    added = 0
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


def _parse_again(data: bytes, error: orjson.JSONDecodeError) -> tuple[Any, bytes]:
    """What is no JSON to the letter, and text that is.

    Raises:
        Reject: it is none at all.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as decoding:
        raise Reject("not_utf8", f"byte {data[decoding.start]:#04x} at {decoding.start}") from None
    if _NO_NUMBER.search(data):
        try:
            # outside strings only
            data = json.dumps(json.loads(data, parse_constant=lambda _: None)).encode()
        except (ValueError, RecursionError):
            raise Reject("invalid_json", str(error)) from None
    try:
        data = data.rstrip(b" \t\r\n,")
        return orjson.loads(data), data
    except orjson.JSONDecodeError:
        raise Reject("invalid_json", str(error)) from None


_JSON_NAMES = {
    list: "list",
    str: "text",
    int: "number",
    float: "number",
    bool: "true/false",
    type(None): "null",
}
_NESTED = (dict, list)


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
