"""A look for personal data and keys in what was written. It reports, it removes nothing: a pattern is no proof."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from chord_exp.prepare.report.writer import Spooled
from chord_exp.trinity_config.rows import MESSAGES_KEY

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

PATTERNS = {
    "e-mail address": r"[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b",
    # mainland China's mobile numbers, and international ones with their plus sign
    "phone number": r"(?<![0-9A-Za-z.])(?:1[3-9][0-9]{9}|\+[0-9]{1,3}[-. ]?(?:[0-9][-. ]?){7,12}[0-9])(?![0-9A-Za-z])",
    # the prefixes that their makers document: OpenAI and Anthropic, AWS, GitHub, Hugging Face, Google, Slack
    "key or token": r"\b(?:sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|gh[pousr]_\w{36,}|hf_\w{30,}|AIza[\w-]{35}"
    r"|xox[abprs]-[\w-]{10,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----",
}
ROWS_LOOKED_AT = 10_000
"""Of each side. Rows lie in the order of a hash, so the first ones are a fair sample."""

# what a text must hold for the pattern to be looked for: that is cheap, the pattern is not
_CLUES = {
    "e-mail address": r"@",
    "phone number": r"1[3-9][0-9]{9}|\+[0-9]",
    "key or token": r"sk-|AKIA|gh[pousr]_|hf_|AIza|xox|PRIVATE",
}
_COMPILED = {name: (re.compile(_CLUES[name]), re.compile(pattern)) for name, pattern in PATTERNS.items()}


def scan_sides(spooled: Spooled, sides: Mapping[str, Array]) -> dict[str, Any]:
    """How many of the first rows of each side hold what looks like personal data or a key.

    Returns:
        `rows` looked at, and under `found` the rows of each kind with the side and line number of the first.
    """
    found: dict[str, dict[str, Any]] = {}
    looked = 0
    for side, rows in sides.items():
        for number, line in enumerate(spooled.lines(rows[:ROWS_LOOKED_AT], side), 1):
            looked += 1
            for name in kinds_in(_text(line)):
                entry = found.setdefault(name, {"rows": 0, "side": side, "first_line": number})
                entry["rows"] += 1
    return {"rows": looked, "found": dict(sorted(found.items()))}


def kinds_in(text: str) -> list[str]:
    """The kinds of PATTERNS that a text holds."""
    return [name for name, (clue, pattern) in _COMPILED.items() if clue.search(text) and pattern.search(text)]


def _text(line: bytes) -> str:
    row = orjson.loads(line)
    if MESSAGES_KEY in row:
        return "\n".join(str(message.get("content")) for message in orjson.loads(row[MESSAGES_KEY]))
    return "\n".join(map(str, row.values()))
