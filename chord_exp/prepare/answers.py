"""Which rows a rule can score, and by which truth.

The RL side is scored by Trinity's `math_boxed_workflow`: the last `\\boxed{…}` of a rollout against the
truth, as strings, after a light clean-up (`trinity.common.rewards.eval_utils.compute_score_v0`). So a truth
must be a clean string: "1000", never 1000 or "1,000". Everything that is not plainly a number, a fraction of
integers or a choice letter counts as free text and stays on the SFT side.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from chord_exp.prepare.rejects import Reject

NUMBER, FRACTION, CHOICE = "number", "fraction", "choice"
EXPRESSION, SEVERAL, FREE_TEXT = "expression", "several_answers", "free_text"
KINDS = (NUMBER, FRACTION, CHOICE, EXPRESSION, SEVERAL, FREE_TEXT)

MAX_NUMBER_CHARACTERS = 24
_MAX_BOX_CHARACTERS = 2000

_DIGITS = r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"
_NUMBER = re.compile(_DIGITS)
_FRACTION = re.compile(r"(-?)(?:\\[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}|(-?[0-9]+)/([0-9]+))")
_CHOICE = re.compile(r"\(?([A-H])\)?|\\text\{\(?([A-H])\)?\}")
_MONEY_NUMBER = rf"\\?\$?\s*({_DIGITS})\s*\\?%?\s*\$?"
_GSM8K = re.compile(rf"####\s*{_MONEY_NUMBER}\s*\.?\s*$")
_STATED = re.compile(rf"(?:\banswer\s+is\s*:?|答案(?:(?:是|为)\s*:?|:))\s*{_MONEY_NUMBER}\s*[.。]?\s*$", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s*\{")
_TAIL_CHARACTERS = 200


@dataclass(frozen=True)
class Answer:
    """The final answer of one row.

    Args:
        kind: one of KINDS; the first three are verifiable.
        truth: what the reward compares with; "" when not verifiable.
        value: equal for equal answers however written ("1.50", "3/2"); "" when not verifiable.
        as_written: the response itself scores 1 under the reward, so expert rows and rollouts are taught one
            form.
    """

    kind: str
    truth: str = ""
    value: str = ""
    as_written: bool = False

    @property
    def verifiable(self) -> bool:
        return bool(self.truth)


def find_answer(field: Any, response: str, choices=(), tool_calls=None) -> Answer:
    """The final answer of a response, taken from `\\boxed{…}`, else `#### 42`, "the answer is 42", a response
    that is only a number, else from the record's own answer field.

    Args:
        field: the record's answer field beside the response: text, int, float or None; used only when it is a
            number.
        response: the expert's whole reply.

    Raises:
        Reject: field and response give different values.
    """
    found = _from_response(response)
    given = _from_field(field)
    if given is None:
        return found
    if not found.verifiable:
        return given
    if found.value != given.value:
        raise Reject("answer_mismatch", f"the field says {given.truth}, the response {found.truth}")
    return found


def _from_field(field: Any) -> Answer | None:
    if isinstance(field, bool) or not isinstance(field, (str, int, float)):
        return None
    text = str(field)
    return _number(_tidy(text)) if len(text) <= 2 * MAX_NUMBER_CHARACTERS else None


def _from_response(response: str) -> Answer:
    reply = response.rpartition("</think>")[2]
    boxes = [_box_content(reply, match.end()) for match in _BOX.finditer(reply)]
    if boxes:
        return _from_boxes(boxes, response)
    tail = unicodedata.normalize("NFKC", reply[-_TAIL_CHARACTERS:])
    match = _GSM8K.search(tail) or _STATED.search(tail)
    if match is not None:
        return _number(_tidy(match[1])) or Answer(FREE_TEXT)
    whole = response.strip()
    if len(whole) <= 2 * MAX_NUMBER_CHARACTERS:
        return _number(_tidy(whole)) or Answer(FREE_TEXT)
    return Answer(FREE_TEXT)


def _from_boxes(boxes: list[str | None], response: str) -> Answer:
    raw = boxes[-1]
    if raw is None:
        return Answer(EXPRESSION)
    answer = _classify(_tidy(raw))
    if any(box is None or _classify(_tidy(box)).value != answer.value for box in boxes[:-1]):
        return Answer(SEVERAL)
    if not answer.verifiable:
        return Answer(EXPRESSION)
    return Answer(answer.kind, answer.truth, answer.value, _reward_reads(response, raw, answer))


def _box_content(text: str, start: int) -> str | None:
    """What stands between the brace before `start` and its partner; None when there is none near by."""
    depth = 1
    for position in range(start, min(len(text), start + _MAX_BOX_CHARACTERS)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if depth == 0:
                return text[start:position]
    return None


def _classify(text: str) -> Answer:
    number = _number(text)
    if number is not None:
        return number
    match = _FRACTION.fullmatch(text)
    if match is not None and len(text) <= 2 * MAX_NUMBER_CHARACTERS:
        over, under = match[2] or match[4], match[3] or match[5]
        if int(under):
            value = Fraction(int(over), int(under)) * (-1 if match[1] else 1)
            return Answer(FRACTION, text, str(value))
    match = _CHOICE.fullmatch(text)
    if match is not None:
        letter = match[1] or match[2]
        return Answer(CHOICE, letter, letter)
    return Answer(EXPRESSION, value=text)


def _number(text: str) -> Answer | None:
    """A tidy text as a number; None when it is none, or one that the reward and a reader would take
    differently (007)."""
    if len(text) > MAX_NUMBER_CHARACTERS or _NUMBER.fullmatch(text) is None:
        return None
    plain = text.replace(",", "").lstrip("+")
    digits = plain.lstrip("-")
    if len(digits) > 1 and digits[0] == "0" and digits[1] != ".":
        return None
    if "." not in plain:
        plain = digits if digits == "0" else plain
        return Answer(NUMBER, plain, plain)
    value = Fraction(plain)
    return Answer(NUMBER, plain if value else digits, str(value))


def _tidy(raw: str) -> str:
    """Without the marks around a number that carry no value: full-width forms, $, %, LaTeX spacing, the
    closing full stop."""
    text = unicodedata.normalize("NFKC", raw).strip().rstrip(".。").strip()
    if text.startswith("\\(") and text.endswith("\\)"):
        text = text[2:-2]
    text = text.replace("{,}", ",").replace("\\!", "").replace("\u2212", "-")
    return re.sub(r"\\?[$%]", "", text).strip()


def _reward_reads(response: str, raw: str, answer: Answer) -> bool:
    """Whether the reward, which cleans less than `_tidy`, finds the truth in this response. Errs to False."""
    if "\\boxed " in response or not response.startswith("\\boxed{" + raw + "}", response.rfind("\\boxed")):
        return False
    if raw == answer.truth:
        return True
    if answer.kind == CHOICE:
        return raw in {form.format(answer.truth) for form in ("{}", "({})", "\\text{{{}}}", "\\text{{({})}}")}
    return re.sub(r"\\!|\\\$|[$%\s]", "", raw.strip().rstrip(".")) == answer.truth
