"""A configuration as YAML with a comment above every key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml


def annotated(config: Mapping[str, Any], comments: Mapping[str, str], header: str) -> str:
    """YAML text of `config`.

    Args:
        comments: by dotted path, with 0, 1, ... for members of a list; several lines become several comment lines.
        header: lines that open the file.

    Raises:
        KeyError: a key without a comment.
    """
    body = list(_mapping(config, comments, "", 0))
    separator = [""] if body[0] else []
    return "".join(f"{line}\n" for line in [*_commented(header, ""), *separator, *body])


def _commented(text: str, indent: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"{indent}# {line}".rstrip()


def _mapping(node: Mapping[str, Any], comments: Mapping[str, str], prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in node.items():
        path = f"{prefix}{key}"
        if depth == 0 and isinstance(value, Mapping):
            yield ""
        yield from _commented(comments[path], indent)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _mapping(value, comments, f"{path}.", depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{indent}{key}:"
            for index, item in enumerate(value):
                yield from _item(item, comments, f"{path}.{index}.", depth + 1)
        else:
            yield f"{indent}{key}: {_scalar(value)}"


def _item(node: Mapping[str, Any], comments: Mapping[str, str], prefix: str, depth: int) -> Iterator[str]:
    """A member of a list: the comment of its first key stands above the dash."""
    indent, dashed = "  " * depth, False
    for line in _mapping(node, comments, prefix, depth + 1):
        if not dashed:
            dashed = not line.lstrip().startswith("#")
            line = f"{indent}{'- ' if dashed else ''}{line.lstrip()}"
        yield line


def _scalar(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(value, allow_unicode=True, width=10_000).strip()
    return text.removesuffix("\n...").strip()
