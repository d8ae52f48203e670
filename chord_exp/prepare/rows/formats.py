"""Which format a record has. Detected per record, so that one folder may mix formats; the first that matches reads it.

To add a format, write a reader (formats_chat.py, formats_pair.py) and give it a line in FORMATS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chord_exp.errors import DataError
from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import ASSISTANT, SYSTEM, USER, Conversation, Format, Record
from chord_exp.prepare.rows.formats_chat import (
    TRUTH_FIELDS,
    read_conversations,
    read_messages,
    read_pairs_of_turns,
    read_prompt_and_truth,
    read_prompt_completion,
    read_verl,
    spoken,
    turns,
)
from chord_exp.prepare.rows.formats_pair import (
    QUERY_FIELDS,
    REPLY_FIELDS,
    pair_reader,
    read_alpaca,
    read_choice,
    read_math,
    read_openr1,
    reply_text,
)

MAPPED_FIELDS = ("prompt", "response", "system", "answer", "messages", "tools")
"""What fields can be named by hand."""

# a folder holds few sets of fields; a hostile one must not fill the memory
_MOST_FIELD_SETS = 10_000
_UNKNOWN = "unknown_format"


def _all(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda fields: all(name in fields for name in names)


def _refuse(reason: str, detail: str) -> Callable[[Record], Conversation]:
    def read(record: Record) -> Conversation:
        raise Reject(reason, detail)

    return read


def _filled(*names: str) -> Callable[[Record], bool]:
    return lambda record: any(record[name] for name in names if name in record)


FORMATS: tuple[Format, ...] = (
    Format(
        "preference",
        _all("chosen", "rejected"),
        _refuse("preference", "chosen and rejected"),
        _filled("chosen", "rejected"),
    ),
    Format("messages", _all("messages"), read_messages, _filled("messages")),
    Format("sharegpt", _all("conversations"), read_conversations, _filled("conversations")),
    Format("swift_sharegpt", _all("conversation"), read_pairs_of_turns, _filled("conversation")),
    Format(
        "prompt_completion",
        _all("prompt", "completion"),
        read_prompt_completion,
        # two texts are a pair like any other
        lambda record: (
            isinstance(record["prompt"], list)
            or isinstance(record["completion"], list)
            or isinstance(record.get("label"), bool)
        ),
    ),
    Format(
        "verl",
        _all("prompt", "reward_model"),
        read_verl,
        lambda record: isinstance(record["reward_model"], dict) and isinstance(record["prompt"], (list, str)),
    ),
    Format(
        "prompt_truth",
        lambda fields: "prompt" in fields and any(name in fields for name in TRUTH_FIELDS),
        read_prompt_and_truth,
        lambda record: (
            isinstance(record["prompt"], list)
            and not any(record.get(name) for name in ("response", "output"))
            and any(record.get(name) is not None for name in TRUTH_FIELDS)
        ),
    ),
    Format("openr1", _all("problem", "generations"), read_openr1),
    Format(
        "multiple_choice",
        lambda fields: (
            ("choices" in fields or "options" in fields)
            and any(name in fields for name in ("question", "problem", "prompt", "query"))
        ),
        read_choice,
        _filled("choices", "options"),
    ),
    Format("math", _all("problem", "solution"), read_math),
    Format(
        "gsm8k",
        _all("question", "answer"),
        pair_reader("question", "answer"),
        lambda record: isinstance(record["answer"], str) and "####" in record["answer"] and "response" not in record,
    ),
    Format(
        "alpaca",
        lambda fields: (
            "instruction" in fields
            and ("output" in fields or ("response" in fields and ("context" in fields or "input" in fields)))
        ),
        read_alpaca,
    ),
    # a question in one field and its answer in another; the seed's pairs come first
    *(
        Format(f"{query}_{reply}", _all(query, reply), pair_reader(query, reply))
        for query in QUERY_FIELDS
        for reply in REPLY_FIELDS
        if query != reply
    ),
    Format("text", _all("text"), _refuse("no_turns", "running text, no question and answer")),
)

_candidates: dict[tuple[str, ...], tuple[Format, ...]] = {}


def detect(record: Record) -> Format:
    """The first format that matches.

    Raises:
        Reject: none does; the detail lists the record's fields.
    """
    fields = tuple(record)
    candidates = _candidates.get(fields)
    if candidates is None:
        candidates = tuple(known for known in FORMATS if known.has(record))
        if len(_candidates) < _MOST_FIELD_SETS:
            _candidates[fields] = candidates
    for known in candidates:
        if known.fits is None or known.fits(record):
            return known
    shown = ", ".join(clip(str(field), 30) for field in fields[:8]) or "no fields"
    if candidates:
        shown += f"; it looks like {candidates[0].name}, and its values are empty or of another type"
    raise Reject(_UNKNOWN, shown)


def mapped_format(mapping: Mapping[str, str]) -> Format:
    """The format of records whose fields a user has named.

    Args:
        mapping: for some of MAPPED_FIELDS the field that holds it; a dot leads into a nested object.

    Raises:
        DataError: an unknown name, or neither messages nor prompt with response or answer.
    """
    unknown = [name for name in mapping if name not in MAPPED_FIELDS]
    if unknown:
        raise DataError(
            f"the field map names {unknown[0]!r}", fix=f"map some of {', '.join(MAPPED_FIELDS)} to fields of your rows"
        )
    if "messages" not in mapping and not ("prompt" in mapping and ("response" in mapping or "answer" in mapping)):
        raise DataError(
            "the field map does not say where question and answer lie",
            fix="map prompt and response, or messages (prompt and answer alone: rows for RL only)",
        )

    if "messages" in mapping and ("prompt" in mapping or "response" in mapping):
        raise DataError(
            "the field map names messages and prompt or response: both say what is asked",
            fix="map messages alone (with system, answer, tools), or prompt and response",
        )

    def read(record: Record) -> Conversation:
        def value(name: str) -> Any:
            return _lookup(record, mapping[name]) if name in mapping else None

        if "messages" in mapping:
            messages = list(spoken(turns(value("messages"), mapping["messages"])))
        else:
            prompt = _needed(value("prompt"), mapping["prompt"])
            messages = list(prompt) if isinstance(prompt, list) else [{"role": USER, "content": prompt}]
        if value("system") is not None:
            messages.insert(0, {"role": SYSTEM, "content": value("system")})
        if "response" in mapping:
            reply = reply_text(_needed(value("response"), mapping["response"]))
            messages.append({"role": ASSISTANT, "content": reply})
        answered = "messages" in mapping or "response" in mapping
        return Conversation(messages, value("answer"), value("tools"), answered=answered)

    return Format("mapped", lambda fields: True, read)


def _lookup(record: Any, path: str) -> Any:
    """The value at a path; None where there is none. A field whose own name holds the dots comes first."""
    if isinstance(record, dict) and path in record:
        return record[path]
    for part in path.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(part)
    return record


def _needed(value: Any, path: str) -> Any:
    if value is None:
        raise Reject("missing_field", f"{path!r}, which the field map names")
    return value
