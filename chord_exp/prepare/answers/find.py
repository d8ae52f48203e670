"""The final answer of a row: its kind, and the truth that the reward of that kind compares with (scoring.py).

A truth is a clean string, whatever the record held: "1000", never 1000 or "1,000", because Trinity compares numbers
and choices as strings after a light clean-up (`trinity.common.rewards.eval_utils.compute_score_v0`). Fractions and
expressions are compared by math_verify, which wants LaTeX: their truth stands in `\\boxed{…}`. Everything that no rule
can compare is free text.

This runs once for every row of a preparation: the common cases are told apart by substring tests before any pattern
is tried.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from chord_exp.plugins.tool_calls import tool_call_truth
from chord_exp.prepare.answers.numbers import MAX_NUMBER_CHARACTERS, fraction_value, number_text, tidy
from chord_exp.prepare.rejects import Reject

NUMBER, FRACTION, CHOICE, EXPRESSION, TOOL_CALL = "number", "fraction", "choice", "expression", "tool_call"
SEVERAL, FREE_TEXT = "several_answers", "free_text"
KINDS = (NUMBER, FRACTION, CHOICE, EXPRESSION, TOOL_CALL, SEVERAL, FREE_TEXT)
VERIFIABLE = frozenset((NUMBER, FRACTION, CHOICE, EXPRESSION, TOOL_CALL))
"""The kinds that a rule can score."""

_MAX_BOX_CHARACTERS = 2000
_MAX_EXPRESSION_CHARACTERS = 200
_TAIL_CHARACTERS = 200
_HUGE = 10**MAX_NUMBER_CHARACTERS
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_CHOICE = re.compile(r"\(?([A-H])\)?|\\text\{\(?([A-H])\)?\}")
_ANY_CHOICE = re.compile(r"\(?([A-Za-z])[).]?|\\text\{\(?([A-Za-z])\)?\}")
_GSM8K = re.compile(r"####\s*([^\n#]{1,48})\s*$")
_STATED = re.compile(r"(?:\banswer\s+is\s*:?|答案(?:(?:是|为)\s*:?|:))\s*([^\n]{1,48})$", re.IGNORECASE)
_BOX = re.compile(r"\\boxed\s*\{")
# what math_verify might compute for hours, in a thread that nothing can stop: towers, huge exponents and factorials
_ENDLESS = re.compile(r"\^[^+\-=,&]*\^|\^\s*\{?-?[0-9]{4}|\*\*|[0-9]{3}\}?\)?\s*!|[0-9]{40}")
# maths, and in a form that math_verify reads: "7/0" and ".5(" it gives 0 even to themselves
_MATHS = re.compile(
    r"(?=[^$]*$)(?!.*/0(?![0-9.]))(?=.*(?:[0-9\\^_+=<>|(\[]|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])))"
    r"[-+]?(?:[0-9a-zA-Z(\[|]|\\[a-zA-Z{]).*"
)


@dataclass(frozen=True)
class Answer:
    """The final answer of one row.

    Args:
        kind: one of KINDS.
        truth: what the reward compares with; "" when not verifiable. Of free text without a response, the reference.
        value: equal for equal answers however written ("1.50", "3/2"); "" when not verifiable.
        as_written: the response itself scores 1 under the reward of its kind. Errs to False.
    """

    kind: str
    truth: str = ""
    value: str = ""
    as_written: bool = False

    @property
    def verifiable(self) -> bool:
        return self.kind in VERIFIABLE


_FREE = Answer(FREE_TEXT)


def find_answer(
    field: Any,
    response: str | None,
    *,
    choices: tuple[str, ...] = (),
    tool_calls: list[Any] | None = None,
) -> Answer:
    """The final answer of a response, taken from its tool calls, else from `\\boxed{…}`, `#### 42`, "the answer is
    42", a response that is only a number, else from the record's own answer field.

    Args:
        field: the record's answer field: text, int, float or None.
        response: the expert's whole reply; None for a record that has only a prompt and a truth.
        choices: the texts of a multiple-choice record, in order; the truth is then a letter.
        tool_calls: those of the last assistant turn.

    Raises:
        Reject: field and response give different values.
    """
    if isinstance(field, int) and not -_HUGE < field < _HUGE:
        # no reward compares it, and Python may refuse to write it out
        field = None
    if tool_calls:
        truth = tool_call_truth(tool_calls)
        return Answer(TOOL_CALL, truth, truth) if truth else _FREE
    if response is None:
        given = _from_field(field, choices)
        if given is not None:
            return given
        return Answer(FREE_TEXT, str(field).strip()) if isinstance(field, (str, int, float)) else _FREE
    found = _from_response(response, choices)
    if field is None:
        return found
    given = _from_field(field, choices)
    if given is None:
        return found
    if not found.verifiable:
        return given
    if found.value != given.value:
        if EXPRESSION in (found.kind, given.kind):
            # only the reward itself can tell whether they are equal: --answer-check asks it
            return given
        raise Reject("answer_mismatch", f"the field says {given.truth}, the response {found.truth}")
    return found


def without_reasoning(response: str) -> str:
    """What follows the reasoning of a response."""
    return response.rpartition("</think>")[2] if "</think>" in response else response


def _from_field(field: Any, choices: tuple[str, ...]) -> Answer | None:
    if isinstance(field, bool) or not isinstance(field, (str, int, float)):
        return None
    if choices:
        return _choice_of(field, choices)
    text = str(field)
    if len(text) > _MAX_EXPRESSION_CHARACTERS:
        return None
    if "\\boxed" in text:
        found = _from_boxes(text)
        return found if found.verifiable else None
    if text.startswith("$") and text.endswith("$") and len(text) > 2:
        text = text.strip("$")
        found = _classify(tidy(text), text)
        return found if found.verifiable else None
    text = tidy(text)
    found = _classify(text, text)
    # words are no expression: only what LaTeX marks as one
    if not found.verifiable or (found.kind == EXPRESSION and "\\" not in text and "^" not in text):
        return None
    return found


def _choice_of(field: Any, choices: tuple[str, ...]) -> Answer | None:
    """The letter of an answer field: a letter, the text of a choice, or an index from 0."""
    if isinstance(field, str):
        text = field.strip()
        same = [at for at, choice in enumerate(choices) if choice.strip() == text]
        if len(same) == 1:
            return _letter(same[0], choices)
        match = _ANY_CHOICE.fullmatch(text)
        if match is not None:
            return _letter(_LETTERS.find((match[1] or match[2]).upper()), choices)
        return _letter(int(text), choices) if text.isascii() and text.isdigit() and len(text) < 3 else None
    return _letter(int(field), choices) if float(field).is_integer() else None


def _letter(at: int, choices: tuple[str, ...]) -> Answer | None:
    if not 0 <= at < min(len(choices), len(_LETTERS)):
        return None
    return Answer(CHOICE, _LETTERS[at], _LETTERS[at])


def _from_response(response: str, choices: tuple[str, ...]) -> Answer:
    if "\\boxed" in response:
        found = _from_boxes(response)
        if choices and found.kind != CHOICE and found.value:
            named = _choice_of(found.value, choices)
            return named if named is not None else found
        if found.kind != FREE_TEXT:
            return found
    tail = response[-_TAIL_CHARACTERS:]
    if not tail.isascii():
        tail = unicodedata.normalize("NFKC", tail)
    if "####" in tail:
        match = _GSM8K.search(tail)
    elif "nswer" in tail or "答案" in tail or "NSWER" in tail:
        match = _STATED.search(tail)
    else:
        match = None
    if match is not None:
        return _stated(match[1], choices)
    if len(response) <= 2 * MAX_NUMBER_CHARACTERS:
        return _stated(without_reasoning(response), choices)
    return _FREE


def _stated(text: str, choices: tuple[str, ...]) -> Answer:
    text = tidy(text)
    if choices:
        return _choice_of(text, choices) or _FREE
    plain = number_text(text)
    return Answer(NUMBER, *plain) if plain is not None else _FREE


def _from_boxes(response: str) -> Answer:
    """FREE_TEXT when the reply, its reasoning left out, has no box."""
    reply = without_reasoning(response)
    boxes = [_box_content(reply, match.end()) for match in _BOX.finditer(reply)]
    if not boxes:
        return _FREE
    raw = boxes[-1]
    if raw is None:
        return _FREE
    answer = _classify(tidy(raw), raw)
    if any(box is None or _classify(tidy(box), box).value != answer.value for box in boxes[:-1]):
        return Answer(SEVERAL)
    if not answer.verifiable:
        return answer
    return Answer(answer.kind, answer.truth, answer.value, _reward_reads(response, raw, answer))


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


def _classify(text: str, raw: str) -> Answer:
    """A tidy text by kind; `raw` is what an expression's truth is made of."""
    plain = number_text(text)
    if plain is not None:
        return Answer(NUMBER, *plain)
    value = fraction_value(text)
    if value is not None:
        return Answer(FRACTION, f"\\boxed{{{text}}}", str(value))
    match = _CHOICE.fullmatch(text)
    if match is not None:
        letter = match[1] or match[2]
        return Answer(CHOICE, letter, letter)
    return _expression(raw.strip())


def _expression(raw: str) -> Answer:
    if not 0 < len(raw) <= _MAX_EXPRESSION_CHARACTERS or "\\boxed" in raw or _ENDLESS.search(raw):
        return _FREE
    if not raw.isascii() or not _MATHS.fullmatch(raw) or raw.count("{") != raw.count("}"):
        return _FREE
    text = raw.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").rstrip(".")
    return Answer(EXPRESSION, f"\\boxed{{{text}}}", re.sub(r"\s+|\\[,!;]", "", text)) if text else _FREE


def _reward_reads(response: str, raw: str, answer: Answer) -> bool:
    """Whether the reward, which cleans less than `tidy`, finds the truth in this response. Errs to False."""
    if answer.kind in (FRACTION, EXPRESSION):
        # math_verify takes the box for what it says; which box, or whether it parses, is its own to tell
        return response.count("\\boxed") == 1 and answer.truth == f"\\boxed{{{raw}}}"
    if "\\boxed " in response or not response.startswith("\\boxed{" + raw + "}", response.rfind("\\boxed")):
        return False
    if raw == answer.truth:
        return True
    if answer.kind == CHOICE:
        return raw in {form.format(answer.truth) for form in ("{}", "({})", "\\text{{{}}}", "\\text{{({})}}")}
    return re.sub(r"\\!|\\\$|[$%\s]", "", raw.strip().rstrip(".")) == answer.truth
