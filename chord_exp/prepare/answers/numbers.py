"""Numbers as text: which are plain, and when two are equal."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MAX_NUMBER_CHARACTERS = 24

_PLAIN = re.compile(r"-?[1-9][0-9]{0,17}|0")
_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")
_FRACTION = re.compile(r"(-?)(?:\\[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}|(-?[0-9]+)/([0-9]+))")
_MARKS = re.compile(r"\\?[$%]")


def number_text(text: str) -> tuple[str, str] | None:
    """A tidy text as a number: how the reward wants it written, and its value.

    None when it is no number, or one that the reward and a reader would take differently (007).
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        return None
    if _PLAIN.fullmatch(text):
        return text, text
    if _NUMBER.fullmatch(text) is None:
        return None
    plain = text.replace(",", "").lstrip("+")
    digits = plain.lstrip("-")
    if len(digits) > 1 and digits[0] == "0" and digits[1] != ".":
        return None
    if "." not in plain:
        plain = digits if digits == "0" else plain
        return plain, plain
    value = Fraction(plain)
    return plain if value else digits, str(value)


def fraction_value(text: str) -> Fraction | None:
    """The value of a fraction of two integers (1/2, \\frac{1}{2}); None for anything else."""
    if len(text) > 2 * MAX_NUMBER_CHARACTERS or ("/" not in text and "frac" not in text):
        return None
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    over, under = int(match[2] or match[4]), int(match[3] or match[5])
    return Fraction(-over if match[1] else over, under) if under else None


def tidy(raw: str) -> str:
    """Without the marks around a number that carry no value: full-width forms, $, %, LaTeX spacing, the closing full
    stop."""
    if _PLAIN.fullmatch(raw):
        return raw
    if not raw.isascii():
        raw = unicodedata.normalize("NFKC", raw).replace("\u2212", "-")
    text = raw.strip().rstrip(".。").strip()
    if "\\" in text:
        if text.startswith("\\(") and text.endswith("\\)"):
            text = text[2:-2]
        text = text.replace("\\!", "")
    if "{,}" in text:
        text = text.replace("{,}", ",")
    return _MARKS.sub("", text).strip() if "$" in text or "%" in text else text
