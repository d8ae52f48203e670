"""Which format a record has, and its conversation in one shape. Detected per record, so that one folder may
mix formats.

A format is one small entry of FORMATS: a name, a test, a reader. The first whose test passes reads the
record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chord_exp.prepare.rejects import Reject, clip

Record = dict[str, Any]
Message = dict[str, str]

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


@dataclass(frozen=True)
class Conversation:
    """A record in one shape, not yet checked.

    Args:
        messages: role and content, as found.
        answer: the record's own final answer beside the response; None when it has none.
    """

    messages: list[Any]
    answer: Any = None
    tools: Any = None
    choices: tuple = ()
    answered: bool = True


@dataclass(frozen=True)
class Format:
    """One way to write a record down.

    Args:
        name: as counted in the manifest.
        matches: whether a record has this format.
        read: its conversation; may raise Reject.
    """

    name: str
    matches: Callable[[Record], bool]
    read: Callable[[Record], Conversation]


# Reading a record as a pair would drop these, and with them part of what was asked or answered.
_LOST_BY_PAIRS = (
    "history",
    "tools",
    "images",
    "image",
    "choices",
    "options",
    "context",
    "chosen",
    "rejected",
)


def _pair(name: str, query: str, reply: str, *, lost: tuple[str, ...] = (), answer: str | None = None) -> Format:
    """A format of two text fields and an optional `system`; a record with content in a `lost` field is
    refused."""
    refused = _LOST_BY_PAIRS + lost

    def matches(record: Record) -> bool:
        return query in record and reply in record

    def read(record: Record) -> Conversation:
        for field in refused:
            if record.get(field):
                raise Reject("field_lost", f"{field!r} beside {query!r} and {reply!r}")
        messages = [
            {"role": USER, "content": record[query]},
            {"role": ASSISTANT, "content": _reply(record[reply])},
        ]
        if record.get("system") is not None:
            messages.insert(0, {"role": SYSTEM, "content": record["system"]})
        return Conversation(messages, record.get(answer) if answer else None)

    return Format(name, matches, read)


def _reply(value: Any) -> Any:
    """A reply that is a plain number, as many answer fields are, is its own text; not a huge one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and "e" not in str(value):
        return str(value)
    return value


def _read_messages(record: Record) -> Conversation:
    messages = record["messages"]
    if not isinstance(messages, list):
        raise Reject("not_text", "'messages' is no list of {role, content}")
    if record.get("tools"):
        raise Reject("field_lost", "'tools' beside 'messages'")
    return Conversation(messages, record.get("answer"))


FORMATS: tuple[Format, ...] = (
    Format("messages", lambda record: "messages" in record, _read_messages),
    _pair("prompt_response", "prompt", "response", lost=("instruction", "input"), answer="answer"),
    _pair("question_answer", "question", "answer", lost=("response", "solution", "output")),
    _pair("input_output", "input", "output", lost=("instruction",), answer="answer"),
)


def detect(record: Record) -> Format:
    """The first format that matches.

    Raises:
        Reject: none does; the detail lists the record's fields.
    """
    for known in FORMATS:
        if known.matches(record):
            return known
    fields = ", ".join(clip(field, 30) for field in list(record)[:8]) or "no fields"
    raise Reject("unknown_format", fields)

QUERY_FIELDS=("prompt","question","input","query","instruction","problem")
def mapped_format(mapping):
    raise NotImplementedError
