"""Tool calls as one text that is equal for equal calls. Standard library only: the reward uses it too."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
# a longer one is not written by anybody, and the parser of Python's literals may need much memory for it
_MAX_LITERAL_CHARACTERS = 20_000
_JSON_WORDS = {"true": True, "false": False, "null": None}
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def tool_call_truth(calls: list[Any]) -> str:
    """Return JSON text of [{"name", "arguments"}], in one order; "" when a call has no name, no arguments object, or
    cannot be written as JSON. An argument that is null counts as one that is not there: a table writes null for what
    only other rows have."""
    plain = [_plain(call) for call in calls]
    if not plain or any(call is None for call in plain):
        return ""
    try:
        texts = sorted(json.dumps(call, sort_keys=True, ensure_ascii=False) for call in plain)
    except (TypeError, ValueError, RecursionError):
        return ""
    return f"[{', '.join(texts)}]"


def drop_nulls(value: Any) -> Any:
    """Drop the fields of a JSON value's objects that are null, in place, and return it; entries of lists stay."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            for key in [key for key, held in item.items() if held is None]:
                del item[key]
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return value


def calls_in(response: str) -> list[Any]:
    """Return the calls that a response makes; [] for none, or for broken ones.

    Read are the forms that chat templates and system prompts teach: each, or a list of them, as JSON in `<tool_call>`
    tags (Qwen, Hermes), the whole response as JSON (Llama), and the whole response as `[f(a=1), g(b="x")]` (ToolACE,
    BFCL).
    """
    reply = response.rpartition("</think>")[2]
    texts = _CALL.findall(reply)
    try:
        if not texts:
            written = list(_written_calls(reply.strip()))
            if written:
                return written
        calls: list[Any] = []
        for text in texts or [reply]:
            value = _literal(text.strip(), strict=not texts)
            calls.extend(value if isinstance(value, list) else [value])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return calls


def _written_calls(text: str) -> Iterator[dict[str, Any]]:
    """Calls written as `[name(key=value, ...), ...]`; names may hold spaces.

    Raises:
        ValueError, SyntaxError: a value is no literal.
    """
    if not (text.startswith("[") and text.endswith(")]")):
        return
    for part in _split(text[1:-1]):
        name, opened, rest = part.strip().partition("(")
        if not opened or not rest.endswith(")") or not name.strip() or not set("\"'[]{}=,").isdisjoint(name):
            raise ValueError(part)
        arguments = {}
        for pair in _split(rest[:-1]) if rest[:-1].strip() else ():
            key, equals, value = pair.partition("=")
            if not equals or not key.strip() or not set("\"'[]{}()").isdisjoint(key):
                raise ValueError(pair)
            arguments[key.strip()] = _literal(value.strip(), strict=False)
        yield {"name": name.strip(), "arguments": arguments}


def _split(text: str) -> Iterator[str]:
    """The parts between the commas that stand in no bracket and no quotes."""
    depth, start, at, quote = 0, 0, 0, ""
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in _BRACKETS:
            depth += _BRACKETS[character]
        elif character == "," and depth == 0:
            yield text[start:at]
            start = at + 1
        at += 1
    yield text[start:]


def _literal(text: str, *, strict: bool) -> Any:
    """A value as JSON, or unless `strict` as a Python literal in which JSON's words may stand.

    Raises:
        ValueError, SyntaxError, RecursionError, MemoryError: it is neither.
    """
    try:
        return json.loads(text)
    except ValueError:
        if strict or len(text) > _MAX_LITERAL_CHARACTERS:
            raise
    tree = _Words().visit(ast.parse(text, mode="eval"))
    return ast.literal_eval(tree)


class _Words(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in _JSON_WORDS:
            return ast.copy_location(ast.Constant(_JSON_WORDS[node.id]), node)
        return node


def _plain(call: Any) -> dict[str, Any] | None:
    if not isinstance(call, dict):
        return None
    function = call.get("function", call)
    if not isinstance(function, dict):
        return None
    name, arguments = function.get("name"), function.get("arguments", function.get("parameters", {}))
    try:
        if isinstance(arguments, str):
            arguments = json.loads(arguments or "{}")
        if not isinstance(name, str) or not name or not isinstance(arguments, dict):
            return None
        return {"name": name, "arguments": drop_nulls(arguments)}
    except (ValueError, RecursionError):
        return None
