"""The final answer of a row: its kind, and the truth that the reward of that kind compares with (scoring.py).

A truth is a clean string, whatever the record held: "1000", never 1000 or "1,000", because Trinity compares numbers
and choices as strings after a light clean-up (`trinity.common.rewards.eval_utils.compute_score_v0`). Fractions and
expressions are compared by math_verify, which wants LaTeX: their truth stands in `\\boxed{…}`. Everything that no rule
can compare is free text.

How a final answer is written is `plugins/final_answer.py`'s to know, which the reward of training reads too.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

from chord_exp.plugins.final_answer import (
    MAX_NUMBER_CHARACTERS,
    boxes,
    choice_letter,
    fraction_value,
    number_text,
    stated_answers,
    strip_marks,
    without_reasoning,
)
from chord_exp.plugins.tool_calls import calls_in, tool_call_truth
from chord_exp.prepare.rejects import Reject

NUMBER, FRACTION, CHOICE, EXPRESSION, TOOL_CALL = "number", "fraction", "choice", "expression", "tool_call"
SEVERAL, FREE_TEXT = "several_answers", "free_text"
KINDS = (NUMBER, FRACTION, CHOICE, EXPRESSION, TOOL_CALL, SEVERAL, FREE_TEXT)
VERIFIABLE = frozenset((NUMBER, FRACTION, CHOICE, EXPRESSION, TOOL_CALL))
"""The kinds that a rule can score."""

_MAX_EXPRESSION_CHARACTERS = 200
_HUGE = 10**MAX_NUMBER_CHARACTERS
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_ANY_CHOICE = re.compile(r"\(?([A-Za-z])[).]?|\\text\{\(?([A-Za-z])\)?\}")
# what math_verify might compute for hours, in a thread that nothing can stop: towers, huge exponents and factorials
_ENDLESS = re.compile(r"\^[^+\-=,&]*\^|\^\s*\{?-?[0-9]{4}|\*\*|[0-9]{3}\}?\)?\s*!|[0-9]{40}")
# maths, and in a form that math_verify reads: "7/0" and ".5(" it gives 0 even to themselves
_MATHS = re.compile(
    r"(?=[^$]*$)(?!.*/0(?![0-9.]))(?=.*(?:[0-9\\^_+=<>|(\[]|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z])))"
    r"[-+]?(?:[0-9a-zA-Z(\[|]|\\[a-zA-Z{]).*"
)


class Answer(NamedTuple):
    """The final answer of one row."""

    # one of KINDS
    kind: str
    # what the reward compares with; "" when not verifiable. Of free text without a response, the reference
    truth: str = ""
    # equal for equal answers however written ("1.50", "3/2"); "" when not verifiable
    value: str = ""
    # the response itself scores 1 under the reward of its row. Errs to False
    as_written: bool = False
    # only our own reward reads the form in which the response has it, such as a percentage in a box, or `#### 7`
    own_form: bool = False

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
    offered_tools: bool = False,
) -> Answer:
    """Return the final answer of a response: its tool calls, else what stands in a box, after "the answer is" or after
    `####`, or is the whole response; else the row's own answer field.

    Args:
        field: the row's answer field: text, number, a list of one of them, or None.
        response: the expert's whole reply; None for a row that has only a prompt and a truth.
        choices: the texts of a multiple-choice row, in order; the truth is then a letter.
        tool_calls: those of the last assistant turn.
        offered_tools: the row may offer tools, so that a response of the form `[f(a=1)]` calls them.

    Raises:
        Reject: field and response give different values.
    """
    field = _only(field)
    if isinstance(field, int) and not -_HUGE < field < _HUGE:
        # no reward compares it, and Python may refuse to write it out
        field = None
    if tool_calls:
        truth = tool_call_truth(tool_calls)
        return Answer(TOOL_CALL, truth, truth) if truth else _FREE
    if response is not None and _may_call(response, offered_tools):
        truth = tool_call_truth(calls_in(response))
        if truth:
            return Answer(TOOL_CALL, truth, truth, as_written=True)
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


def is_bare_answer(reply: Any) -> bool:
    """Return whether a reply is nothing but a final answer that a rule can score: 42, B, x^2.

    A box is a form that a reply may be written in.
    """
    if isinstance(reply, str):
        return len(reply) <= _MAX_EXPRESSION_CHARACTERS and "boxed" not in reply and _from_field(reply, ()) is not None
    return isinstance(reply, (int, float)) and not isinstance(reply, bool)


def _may_call(response: str, offered_tools: bool) -> bool:
    if "<tool_call>" in response:
        return True
    return offered_tools and response.rstrip().endswith("]") and without_reasoning(response).lstrip().startswith("[")


def _only(field: Any) -> Any:
    """The one entry of a list, which Skywork-OR1 writes as JSON text: ["7"]."""
    if isinstance(field, str) and field.startswith('["') and field.endswith('"]'):
        try:
            value = orjson.loads(field)
        except orjson.JSONDecodeError:
            return field
        return value[0] if len(value) == 1 and isinstance(value[0], str) else field
    return field[0] if isinstance(field, list) and len(field) == 1 else field


def _from_field(field: Any, choices: tuple[str, ...]) -> Answer | None:
    if isinstance(field, bool) or not isinstance(field, (str, int, float)):
        return None
    if choices:
        return _choice_of(field, choices)
    text = str(field)
    if len(text) > _MAX_EXPRESSION_CHARACTERS:
        return None
    if "\\boxed" in text:
        found = _from_boxes(text)._replace(as_written=False, own_form=False)
        return found if found.verifiable else None
    if text.startswith("$") and text.endswith("$") and len(text) > 2:
        text = text.strip("$")
        found = _classify(strip_marks(text), text)
        return found if found.verifiable else None
    text = strip_marks(text)
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
    for text in stated_answers(response):
        found = _stated(text, choices)
        if found.verifiable:
            return found
    return _FREE


def _stated(text: str, choices: tuple[str, ...]) -> Answer:
    text = strip_marks(text)
    if choices:
        found = _choice_of(text, choices)
        written = found is not None and choice_letter(text) == found.truth
        return _in_own_form(found, written) if found is not None else _FREE
    plain = number_text(text)
    return _in_own_form(Answer(NUMBER, *plain), True) if plain is not None else _FREE


def _in_own_form(answer: Answer, as_written: bool) -> Answer:
    """An answer whose form only our own reward reads."""
    return answer._replace(as_written=as_written, own_form=as_written)


def _from_boxes(response: str) -> Answer:
    """FREE_TEXT when the reply, its reasoning left out, has no box."""
    reply = without_reasoning(response)
    found = boxes(reply)
    if not found:
        return _FREE
    raw = found[-1]
    if raw is None:
        return _FREE
    answer = _classify(strip_marks(raw), raw)
    if any(box is None or _classify(strip_marks(box), box).value != answer.value for box in found[:-1]):
        return Answer(SEVERAL)
    if not answer.verifiable:
        return answer
    read = _reward_reads(response, raw, answer)
    if not read and answer.kind in (NUMBER, FRACTION, CHOICE):
        return _in_own_form(answer, True)
    return Answer(answer.kind, answer.truth, answer.value, read)


def _classify(text: str, raw: str) -> Answer:
    """A text without marks by kind; `raw` is what an expression's truth is made of."""
    plain = number_text(text)
    if plain is not None:
        return Answer(NUMBER, *plain)
    value = fraction_value(text)
    if value is not None:
        # math_verify does not read \frac12
        written = text if "frac" not in text or "}{" in text else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
        return Answer(FRACTION, f"\\boxed{{{written}}}", str(value))
    letter = choice_letter(text)
    if letter:
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
    """Whether the reward, which cleans less than `strip_marks`, finds the truth in this response. Errs to False."""
    if answer.kind in (FRACTION, EXPRESSION):
        # math_verify takes the box for what it says; which box, or whether it parses, is its own to tell
        return response.count("\\boxed") == response.count("\\boxed{") == 1 and answer.truth == f"\\boxed{{{raw}}}"
    if "\\boxed " in response or not response.startswith("\\boxed{" + raw + "}", response.rfind("\\boxed")):
        return False
    if raw == answer.truth:
        return True
    if answer.kind == CHOICE:
        return raw in {form.format(answer.truth) for form in ("{}", "({})", "\\text{{{}}}", "\\text{{({})}}")}
    return re.sub(r"\\!|\\\$|[$%\s]", "", raw.strip().rstrip(".")) == answer.truth
