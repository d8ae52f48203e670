"""Multiple choice: the options of a row, and the letter of the right one."""

from __future__ import annotations

import re
from typing import Any

import orjson

from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import Record

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# "A)21", "(B) 22", "C. 23": AQuA's options
_LABELLED = re.compile(r"\s*\(?([A-Z])[).:]\s*(.+)", re.DOTALL)


def options_of(record: Record, columns: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return labels and texts of the options.

    Args:
        columns: one that holds all (a list of texts, "A)21" texts, {"A": text}, {"label": [...], "text": [...]}, or the
            JSON text of one), or a column for each letter.

    Raises:
        Reject: not 2 to 26 texts.
    """
    value: Any
    if len(columns) > 1:
        value = {LETTERS[at]: record.get(column) for at, column in enumerate(columns)}
    else:
        value = _parsed(record[columns[0]])
    if isinstance(value, dict) and isinstance(value.get("text"), list) and isinstance(value.get("label"), list):
        labels, texts = value["label"], value["text"]
    elif isinstance(value, dict):
        # a table's column of options has all letters in every row
        value = {label: text for label, text in value.items() if text is not None}
        labels, texts = list(value), list(value.values())
    else:
        texts = value if isinstance(value, list) else []
        labels = list(LETTERS[: len(texts)])
        labelled = [_LABELLED.fullmatch(text) if isinstance(text, str) else None for text in texts]
        if texts and all(match and match[1] == label for match, label in zip(labelled, labels, strict=False)):
            texts = [match[2].strip() for match in labelled if match]
    texts = [str(text) if isinstance(text, (int, float)) and not isinstance(text, bool) else text for text in texts]
    if not 2 <= len(texts) <= len(LETTERS) or len(labels) != len(texts):
        raise Reject("bad_choice", f"{len(texts)} options")
    if not all(isinstance(text, str) and text.strip() for text in [*texts, *labels]):
        raise Reject("not_text", "an option")
    return labels, texts


def _parsed(value: Any) -> Any:
    """Of a table's cell, what its JSON text holds."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None


def right_letter(given: Any, labels: list[str], texts: list[str], first_index: int) -> str:
    """Return the right option as a letter.

    Args:
        given: its label, its text, or its index.
        first_index: whether the file counts options from 0 or from 1.

    Raises:
        Reject: it names none of them, or two: 2 is both the third option and the text of another.
    """
    named = set()
    if isinstance(given, str):
        plain = given.strip().strip("().").strip()
        for names in (labels, texts):
            if plain in names:
                named.add(names.index(plain))
        if given.strip() in texts:
            named.add(texts.index(given.strip()))
        if not named and plain.upper() in labels:
            named.add(labels.index(plain.upper()))
    index = index_of(given)
    if index is not None and not (isinstance(given, str) and str(index) in labels):
        at = index - first_index
        if 0 <= at < len(texts):
            named.add(at)
        if str(index) in texts:
            named.add(texts.index(str(index)))
    if len(named) != 1:
        what = "is both an index and the text of another option" if named else "names no option"
        raise Reject("bad_choice", f"the answer {clip(repr(given), 40)} {what}")
    return LETTERS[named.pop()]


def index_of(given: Any) -> int | None:
    """Return a key that counts options, as a number or its text; None for any other."""
    if isinstance(given, bool):
        return None
    if isinstance(given, float) and given.is_integer():
        return int(given)
    if isinstance(given, str):
        return int(given) if given.isascii() and given.isdigit() and len(given) < 3 else None
    return given if isinstance(given, int) else None


def asked_with_options(question: str, texts: list[str]) -> str:
    """Return the question with its options below it."""
    return "\n".join([question, *(f"{LETTERS[at]}. {text}" for at, text in enumerate(texts))])
