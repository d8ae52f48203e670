"""Formats whose records hold turns: OpenAI messages, ShareGPT, ms-swift, TRL prompt-completion, verl."""

from __future__ import annotations

from typing import Any

import orjson

from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import ASSISTANT, SYSTEM, TOOL, USER, Conversation, Message, Record

# ShareGPT's and LLaMA-Factory's speakers
_SPEAKERS = {
    "human": USER,
    "user": USER,
    "gpt": ASSISTANT,
    "chatgpt": ASSISTANT,
    "assistant": ASSISTANT,
    "system": SYSTEM,
    "observation": TOOL,
    "tool": TOOL,
}


MEDIA_FIELDS = frozenset(("image", "images", "video", "videos", "audio", "audios"))


def read_messages(record: Record) -> Conversation:
    """OpenAI, TRL, Axolotl, ms-swift: `messages`, with `tools` and a final `answer` beside them."""
    refuse_media(record)
    return Conversation(turns(record["messages"], "messages"), record.get("answer"), record.get("tools"))


def read_conversations(record: Record) -> Conversation:
    """ShareGPT: `conversations` of {from, value}, `system` and `tools` beside them; {role, content} is taken too."""
    refuse_media(record)
    messages = spoken(turns(record["conversations"], "conversations"))
    return Conversation(_after_system(record, messages), record.get("answer"), record.get("tools"))


def spoken(found: list[Any]) -> list[Any]:
    """ShareGPT's turns {from, value} as messages; turns of another kind as they are."""
    if not found or not isinstance(found[0], dict) or "from" not in found[0]:
        return found
    return [_said(turn) for turn in found]


def refuse_media(record: Record) -> None:
    """Turns only point at images and sounds that lie beside them.

    Raises:
        Reject: the record has some.
    """
    if MEDIA_FIELDS.isdisjoint(record):
        return
    for field in record:
        if field in MEDIA_FIELDS and record[field]:
            raise Reject("field_lost", f"{field!r} beside the text")


def _said(turn: Any) -> Message:
    if not isinstance(turn, dict) or "from" not in turn or "value" not in turn:
        raise Reject("not_text", "a turn has no from and value")
    speaker, text = turn["from"], turn["value"]
    if speaker == "function_call":
        return {"role": ASSISTANT, "content": "", "tool_calls": _calls(text)}
    known = _SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if known is None:
        raise Reject("unknown_role", clip(repr(speaker), 40))
    return {**{key: turn[key] for key in ("weight", "loss", "train") if key in turn}, "role": known, "content": text}


def _calls(text: Any) -> list[Any]:
    """The tool calls that a `function_call` turn holds as JSON text: one, or a list."""
    try:
        value = orjson.loads(text) if isinstance(text, str) else text
    except orjson.JSONDecodeError:
        raise Reject("bad_tool_call", clip(text, 60)) from None
    calls = value if isinstance(value, list) else [value]
    return [{"type": "function", "function": call} for call in calls]


def read_pairs_of_turns(record: Record) -> Conversation:
    """ms-swift: `conversation` of {human, assistant} pairs, `system` beside them; {role, content} is taken too."""
    refuse_media(record)
    messages: list[Any] = []
    for turn in turns(record["conversation"], "conversation"):
        if isinstance(turn, dict) and "human" in turn and "assistant" in turn:
            messages.append({"role": USER, "content": turn["human"]})
            messages.append({"role": ASSISTANT, "content": turn["assistant"]})
        else:
            messages.append(turn)
    return Conversation(_after_system(record, messages), record.get("answer"), record.get("tools"))


def read_prompt_completion(record: Record) -> Conversation:
    """TRL: `prompt` and `completion`, lists of messages (one of them may be a text); KTO's `label` is refused."""
    refuse_media(record)
    prompt, completion = record["prompt"], record["completion"]
    if isinstance(record.get("label"), bool):
        raise Reject("preference", "label says whether the completion is liked")
    asked = prompt if isinstance(prompt, list) else [{"role": USER, "content": prompt}]
    said = completion if isinstance(completion, list) else [{"role": ASSISTANT, "content": completion}]
    return Conversation(_after_system(record, [*asked, *said]), record.get("answer"), record.get("tools"))


def read_verl(record: Record) -> Conversation:
    """verl, DAPO: a list of messages as `prompt`, and the truth in `reward_model.ground_truth`; for RL only."""
    refuse_media(record)
    truth = record["reward_model"].get("ground_truth")
    if truth is None:
        raise Reject("no_truth", "reward_model has no ground_truth")
    return Conversation(turns(record["prompt"], "prompt"), truth, record.get("tools"), answered=False)


def read_prompt_and_truth(record: Record) -> Conversation:
    """TRL's data for GRPO: a list of messages as `prompt`, the truth beside it; for RL only."""
    refuse_media(record)
    truth = next(record[name] for name in TRUTH_FIELDS if record.get(name) is not None)
    return Conversation(record["prompt"], truth, record.get("tools"), answered=False)


TRUTH_FIELDS = ("ground_truth", "answer", "solution")


def turns(value: Any, name: str) -> list[Any]:
    """A list of turns; of a Parquet or CSV cell, the list that its JSON text holds.

    Raises:
        Reject: it is none.
    """
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = None
    if not isinstance(value, list):
        raise Reject("not_text", f"{name!r} is no list of turns")
    return value


def _after_system(record: Record, messages: list[Any]) -> list[Any]:
    system = record.get("system")
    return messages if system is None else [{"role": SYSTEM, "content": system}, *messages]
