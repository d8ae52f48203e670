"""Formats whose records hold a question and an answer: OpenR1, MATH, GSM8K, Alpaca, multiple choice, plain pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import ASSISTANT, SYSTEM, USER, Conversation, Message, Record
from chord_exp.prepare.rows.formats_chat import MEDIA_FIELDS

QUERY_FIELDS = ("prompt", "question", "input", "query", "instruction", "problem")
# `answer` last: beside one of the others it is the final answer
REPLY_FIELDS = ("response", "output", "completion", "solution", "target", "targets", "answer")
_EXPLANATIONS = ("solution", "explanation", "rationale", "response", "output", "completion")
_KEYS = ("answer", "answerKey", "answer_key", "answer_idx", "correct_answer", "label", "target")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HUGE = 1e16  # from here on Python writes a float with an exponent; not a number is not below it either
# reading a record as a pair would lose these, and with them part of what was asked or answered
_LOST = frozenset((*MEDIA_FIELDS, "context", "passage", "article", "choices", "options", "messages"))


def read_openr1(record: Record) -> Conversation:
    """OpenR1: the first of the `generations` that math_verify found correct, else the `solution`."""
    reply = record.get("solution")
    generations = record["generations"]
    if isinstance(generations, list):
        flags = record.get("correctness_math_verify") or record.get("correctness") or []
        flags = flags if isinstance(flags, list) else []
        reply = next((text for text, right in zip(generations, flags, strict=False) if right is True), reply)
    return _pair(record, record["problem"], reply, record.get("answer"))


def read_math(record: Record) -> Conversation:
    """MATH: `problem` and `solution`, with `answer` beside them in some copies."""
    return _pair(record, record["problem"], record["solution"], record.get("answer"))


def read_alpaca(record: Record) -> Conversation:
    """Alpaca: `instruction` with an `input` (Dolly: `context`) below it, `history` of earlier pairs before it."""
    asked, more = record["instruction"], record.get("input") or record.get("context")
    if record.get("input") and record.get("context"):
        raise Reject("field_lost", "'context' beside instruction and input")
    if more is not None and more != "":
        if not isinstance(asked, str) or not isinstance(more, str):
            raise Reject("not_text", "instruction or input")
        asked = f"{asked}\n{more}" if asked.strip() else more
    reply = record["output"] if "output" in record else record["response"]
    return _pair(record, asked, reply, record.get("answer"), kept=("context",))


def read_choice(record: Record) -> Conversation:
    """Multiple choice: the options are written below the question; the answer becomes a letter."""
    _refuse_lost(record, kept=("choices", "options"))
    labels, texts = _options(record["choices"] if "choices" in record else record["options"])
    letter = _letter(record, labels, texts)
    question = next((record[name] for name in ("question", "problem", "prompt", "query") if name in record), None)
    if not isinstance(question, str):
        raise Reject("not_text", "the question of a multiple-choice record")
    asked = "\n".join([question, *(f"{_LETTERS[at]}. {text}" for at, text in enumerate(texts))])
    reply = next((record[name] for name in _EXPLANATIONS if isinstance(record.get(name), str) and record[name]), letter)
    return Conversation(_turns(record, asked, reply), letter, choices=tuple(texts))


def _options(value: Any) -> tuple[list[str], list[str]]:
    """Labels and texts: of a list of texts, {"A": text}, or {"label": [...], "text": [...]}."""
    if isinstance(value, dict) and isinstance(value.get("text"), list) and isinstance(value.get("label"), list):
        labels, texts = value["label"], value["text"]
    elif isinstance(value, dict):
        # a table's column of options has all letters in every row
        value = {label: text for label, text in value.items() if text is not None}
        labels, texts = list(value), list(value.values())
    else:
        texts = value if isinstance(value, list) else []
        labels = list(_LETTERS[: len(texts)])
    texts = [str(text) if isinstance(text, (int, float)) and not isinstance(text, bool) else text for text in texts]
    if not 2 <= len(texts) <= len(_LETTERS) or len(labels) != len(texts):
        raise Reject("bad_choice", f"{len(texts)} options")
    if not all(isinstance(text, str) and text.strip() for text in [*texts, *labels]):
        raise Reject("not_text", "an option")
    return labels, texts


def _letter(record: Record, labels: list[str], texts: list[str]) -> str:
    """The right option as a letter, given as its label, its position from 0, or its text."""
    given = next((record[name] for name in _KEYS if record.get(name) is not None), None)
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < len(texts):
        return _LETTERS[given]
    if isinstance(given, str):
        plain = given.strip().strip("().").strip()
        for names in (labels, texts):
            if plain in names:
                return _LETTERS[names.index(plain)]
        if given.strip() in texts:
            return _LETTERS[texts.index(given.strip())]
        if plain.upper() in labels:
            return _LETTERS[labels.index(plain.upper())]
    raise Reject("bad_choice", f"the answer is {clip(repr(given), 40)}")


def pair_reader(query: str, reply: str) -> Callable[[Record], Conversation]:
    """A reader of records with these two fields; `answer` is a final answer where it is not the reply itself."""
    answer = None if reply == "answer" else "answer"
    others = tuple((field, query) for field in QUERY_FIELDS if field not in (query, reply))
    others += tuple((field, reply) for field in REPLY_FIELDS if field not in (query, reply, "answer"))

    names = frozenset(field for field, _ in others)

    def read(record: Record) -> Conversation:
        for field, read_field in () if names.isdisjoint(record) else others:
            # two questions, or two replies: which is the one is anyone's guess
            if field in record and record[field] not in (None, "", [], record[read_field]):
                raise Reject("field_lost", f"{field!r} beside {query!r} and {reply!r}")
        return _pair(record, record[query], record[reply], record.get(answer) if answer else None)

    return read


def _pair(record: Record, asked: Any, reply: Any, answer: Any, kept: tuple[str, ...] = ()) -> Conversation:
    _refuse_lost(record, kept)
    return Conversation(_turns(record, asked, reply_text(reply)), answer, record.get("tools"))


def _refuse_lost(record: Record, kept: tuple[str, ...]) -> None:
    if _LOST.isdisjoint(record):
        return
    for field in record:
        if field in _LOST and record[field] and field not in kept:
            raise Reject("field_lost", f"{field!r} beside a question and its answer")


def _turns(record: Record, asked: Any, reply: Any) -> list[Message]:
    messages = [{"role": USER, "content": asked}, {"role": ASSISTANT, "content": reply}]
    history = record.get("history")
    if history:
        messages[:0] = _history(history)
    system = record.get("system")
    if system is not None:
        messages.insert(0, {"role": SYSTEM, "content": system})
    return messages


def _history(history: Any) -> list[Message]:
    earlier: list[Message] = []
    for turn in history if isinstance(history, list) else [None]:
        if not isinstance(turn, list) or len(turn) != 2:
            raise Reject("not_text", "'history' is no list of [question, answer]")
        earlier += [{"role": USER, "content": turn[0]}, {"role": ASSISTANT, "content": turn[1]}]
    return earlier


def reply_text(value: Any) -> Any:
    """A reply that is a plain number, as many answer fields are, is its own text; not a huge one. Of a list with one
    text (`targets`), that text."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and -_HUGE < value < _HUGE:
        text = str(value)
        return value if "e" in text else text
    return value
