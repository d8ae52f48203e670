"""The parts of a row by themselves: turns in every dialect, options and their key, replies and their reasoning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import ASSISTANT, SYSTEM, TOOL, USER, Message, Record

_HUGE = 1e16  # from here on Python writes a float with an exponent; not a number is not below it either
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
    "function_response": TOOL,
}
_CALLS = "function_call"
_VERDICTS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# LLaMA-Factory's `tags`: which key names the speaker and which the text, and what the speakers are called
_TAG_ROLES = {
    "user_tag": USER,
    "assistant_tag": ASSISTANT,
    "observation_tag": TOOL,
    "system_tag": SYSTEM,
    "function_tag": _CALLS,
}
_KEPT_IN_TURNS = ("weight", "loss", "train", "loss_weight", "reasoning_content", "reasoning", "thinking")


def turns_of(value: Any, name: str, tags: Mapping[str, str]) -> list[Any]:
    """Return the turns of a column as messages; of a table's cell, those that its JSON text holds.

    Args:
        value: messages, ShareGPT's {from, value}, ms-swift's {human, assistant}, or texts in alternation.
        name: of the column, for the error.
        tags: LLaMA-Factory's names of keys and roles; empty for the usual ones.

    Raises:
        Reject: it is no list of turns.
    """
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = None
    if not isinstance(value, list):
        raise Reject("not_text", f"{name!r} is no list of turns")
    if not value:
        return []
    first = value[0]
    if isinstance(first, str) and all(isinstance(text, str) for text in value):
        return [{"role": (USER, ASSISTANT)[at % 2], "content": text} for at, text in enumerate(value)]
    if not isinstance(first, dict):
        return value
    if tags:
        return _tagged(value, tags)
    if "from" in first:
        return [_spoken(turn, "from", "value", _SPEAKERS) for turn in value]
    if "human" in first and "assistant" in first:
        return [message for turn in value for message in _pair_of(turn)]
    return value


def _tagged(value: list[Any], tags: Mapping[str, str]) -> list[Any]:
    speakers = {tags[tag]: role for tag, role in _TAG_ROLES.items() if tag in tags}
    return [
        _spoken(turn, tags.get("role_tag", "from"), tags.get("content_tag", "value"), {**_SPEAKERS, **speakers})
        for turn in value
    ]


def _spoken(turn: Any, role_key: str, text_key: str, speakers: Mapping[str, str]) -> Message:
    """One of ShareGPT's turns as a message."""
    if not isinstance(turn, dict) or role_key not in turn or not (text_key in turn or "ground_truth" in turn):
        raise Reject("not_text", f"a turn has no {role_key} and {text_key}")
    speaker, text = turn[role_key], turn.get(text_key)
    known = speakers.get(speaker) if isinstance(speaker, str) else None
    if known == _CALLS or (known is None and speaker == _CALLS):
        return {"role": ASSISTANT, "content": "", "tool_calls": calls_of(text)}
    if known is None:
        raise Reject("unknown_role", clip(repr(speaker), 40))
    kept = {key: turn[key] for key in (*_KEPT_IN_TURNS, "ground_truth") if key in turn}
    return {**kept, "role": known, "content": text}


def _pair_of(turn: Any) -> list[Any]:
    if not isinstance(turn, dict) or "human" not in turn or "assistant" not in turn:
        return [turn]
    return [{"role": USER, "content": turn["human"]}, {"role": ASSISTANT, "content": turn["assistant"]}]


def calls_of(text: Any) -> list[Any]:
    """Return tool calls, one or a list, as objects or JSON text, in OpenAI's form.

    Raises:
        Reject: the text is no JSON.
    """
    try:
        value = orjson.loads(text) if isinstance(text, str) else text
    except orjson.JSONDecodeError:
        raise Reject("bad_tool_call", clip(text, 60)) from None
    calls = value if isinstance(value, list) else [value]
    return [call if isinstance(call, dict) and "function" in call else {"function": call} for call in calls]


def without_truth(messages: list[Any]) -> tuple[list[Any], Any]:
    """Return the turns before a last one that holds no text but the truth (Open-Reasoner-Zero), and that truth."""
    last = messages[-1] if messages else None
    if not isinstance(last, dict) or "ground_truth" not in last or last.get("content"):
        return messages, None
    truth = last["ground_truth"]
    return messages[:-1], truth.get("value") if isinstance(truth, dict) else truth


def reply_text(value: Any) -> Any:
    """Return a reply as text: a plain number, as many answer columns are, but no huge one; of a list with one entry
    (`targets`), that entry."""
    if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and -_HUGE < value < _HUGE:
        text = str(value)
        return value if "e" in text else text
    return value


def right_generation(record: Record, generations: Any) -> Any:
    """Return the first of the `generations` that math_verify, or else a judge, found correct; None without one."""
    flags = record.get("correctness_math_verify") or record.get("correctness") or []
    if not isinstance(generations, list) or not isinstance(flags, list):
        return None
    return next((text for text, right in zip(generations, flags, strict=False) if right is True), None)


def with_reasoning(reasoning: Any, reply: Any) -> Any:
    """Return a reply behind its reasoning, as the templates of Qwen3 and DeepSeek-R1 write it.

    A reply that holds its reasoning already stays as it is, and a single word is a flag ("on"), not a reasoning.
    """
    if not isinstance(reasoning, str) or not isinstance(reply, str) or len(reasoning.split(None, 1)) < 2:
        return reply
    return reply if "</think>" in reply else f"<think>\n{reasoning.strip()}\n</think>\n\n{reply.lstrip()}"


def verdict_of(value: Any) -> bool | None:
    """Return whether a column of true and false (1 and 0, or their text) says that the answer is to be imitated; None
    when it says something else."""
    if isinstance(value, str):
        return _VERDICTS.get(value.strip().casefold())
    return bool(value) if isinstance(value, (bool, int, float)) and value in (0, 1) else None


def history_of(history: Any) -> list[Message]:
    """Return earlier turns of Alpaca's `history`, [question, answer] each.

    Raises:
        Reject: it is something else.
    """
    if isinstance(history, str):
        try:
            history = orjson.loads(history)
        except orjson.JSONDecodeError:
            history = None
    earlier: list[Message] = []
    for turn in history if isinstance(history, list) else [None]:
        if not isinstance(turn, list) or len(turn) != 2:
            raise Reject("not_text", "'history' is no list of [question, answer]")
        earlier += [{"role": USER, "content": turn[0]}, {"role": ASSISTANT, "content": turn[1]}]
    return earlier
