"""The final answer of a response: where it stands, and when two are equal. Standard library only: the reward and the
preparation read answers alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction

MAX_NUMBER_CHARACTERS = 24
_MAX_BOX_CHARACTERS = 2000
_TAIL_CHARACTERS = 200

_PLAIN = re.compile(r"-?[1-9][0-9]{0,17}|0")
_NUMBER = re.compile(r"[-+]?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)")
_FRACTION = re.compile(
    r"(-?)(?:\\[dt]?frac(?:\{(-?[0-9]+)\}\{([0-9]+)\}|([0-9])([0-9])|\{(-?[0-9]+)\}([0-9])|([0-9])\{([0-9]+)\})"
    r"|(-?[0-9]+)/([0-9]+))"
)
_MARKS = re.compile(r"\\?[$%]")
_THIN_SPACE = re.compile(r"(?<=[0-9])(?:\\[,;: ]|\\!|~)(?=[0-9]{3}(?![0-9]))")
_LETTER = re.compile(r"\(?([A-H])\)?[.)]?|\\(?:text|textbf|mathrm|mathbf)\{\(?([A-H])\)?[.)]?\}")
_GSM8K = re.compile(r"####\s*([^\n#]{1,48})\s*$")
_STATED = re.compile(r"(?:\banswer\s+is\s*:?|答案(?:(?:是|为)\s*:?|:))\s*([^\n]{1,48})$", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s*\{")


def without_reasoning(response: str) -> str:
    """Return what follows the reasoning of a response."""
    return response.rpartition("</think>")[2] if "</think>" in response else response


def boxes(reply: str) -> list[str | None]:
    """Return what stands in each `\\boxed{…}`; None for one that does not end near by."""
    return [_box_content(reply, match.end()) for match in _BOX.finditer(reply)]


def stated_answers(response: str) -> Iterator[str]:
    """Yield what a response without a box may state at its end: "the answer is 42", `#### 42`; else itself if short."""
    tail = response[-_TAIL_CHARACTERS:]
    if not tail.isascii():
        tail = unicodedata.normalize("NFKC", tail)
    found = False
    if ("nswer" in tail or "答案" in tail or "NSWER" in tail) and (match := _STATED.search(tail)):
        found = True
        yield match[1]
    if "####" in tail and (match := _GSM8K.search(tail)):
        found = True
        yield match[1]
    if not found and len(response) <= 2 * MAX_NUMBER_CHARACTERS:
        yield without_reasoning(response)


def value_of(text: str) -> str:
    """Return the value of a final answer, equal for equal ones however written: 1.50, 3/2, `\\frac32`; (B), B; "" for
    anything else."""
    text = strip_marks(text)
    plain = number_text(text)
    if plain is not None:
        return plain[1]
    fraction = fraction_value(text)
    if fraction is not None:
        return str(fraction)
    return choice_letter(text)


def final_value(response: str) -> str:
    """Return the value of a response's final answer: of its last box, else of what it states; "" for none."""
    reply = without_reasoning(response)
    found = boxes(reply)
    if found:
        return value_of(found[-1] or "")
    return next(filter(None, map(value_of, stated_answers(reply))), "")


def choice_letter(text: str) -> str:
    """Return the letter of a choice: B, (B), `\\text{(B)}`; "" for anything else."""
    match = _LETTER.fullmatch(text)
    return (match[1] or match[2]) if match is not None else ""


def number_text(text: str) -> tuple[str, str] | None:
    """Return a number without marks: how the reward wants it written, and its value.

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
    if digits[0] == ".":
        plain, digits = plain.replace(".", "0."), f"0{digits}"
    if len(digits) > 1 and digits[0] == "0" and digits[1] != ".":
        return None
    if "." not in plain:
        plain = digits if digits == "0" else plain
        return plain, plain
    value = Fraction(plain)
    return plain if value else digits, str(value)


def fraction_value(text: str) -> Fraction | None:
    """Return the value of a fraction of two integers (1/2, `\\frac{1}{2}`, `\\frac12`); None for anything else."""
    if len(text) > 2 * MAX_NUMBER_CHARACTERS or ("/" not in text and "frac" not in text):
        return None
    match = _FRACTION.fullmatch(text)
    if match is None:
        return None
    over, under = (int(part) for part in match.groups()[1:] if part is not None)
    return Fraction(-over if match[1] else over, under) if under else None


def strip_marks(raw: str) -> str:
    """Return a text without the marks around a number that carry no value: full-width forms, $, %, LaTeX spacing, the
    closing full stop."""
    if _PLAIN.fullmatch(raw):
        return raw
    if not raw.isascii():
        raw = unicodedata.normalize("NFKC", raw).replace("\u2212", "-")
    text = raw.strip().rstrip(".。").strip()
    if "\\" in text:
        if text.startswith("\\(") and text.endswith("\\)"):
            text = text[2:-2].strip()
        text = _THIN_SPACE.sub("", text).replace("\\!", "")
    if "{,}" in text:
        text = text.replace("{,}", ",")
    return _MARKS.sub("", text).strip() if "$" in text or "%" in text else text


def _box_content(text: str, start: int) -> str | None:
    """What stands between the brace before `start` and its partner; None when there is none near by."""
    end = text.find("}", start)
    if end < 0:
        return None
    if text.find("{", start, end) < 0 and end - start < _MAX_BOX_CHARACTERS:
        return text[start:end]
    depth = 1
    for position in range(start, min(len(text), start + _MAX_BOX_CHARACTERS)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return text[start:position]
    return None
