"""What a conversation must satisfy before anything else looks at it."""

from __future__ import annotations

from typing import Any

from chord_exp.prepare.formats import ASSISTANT, SYSTEM, USER, Message
from chord_exp.prepare.rejects import Reject, clip

MAX_TEXT_CHARACTERS = 1 << 20
"""Of one conversation; a quarter of a million tokens, beyond what any run here can train on."""


def check_messages(messages: list[Any]) -> list[Message]:
    """The conversation as [system,] user, assistant, …, assistant with text in every turn; an empty system
    turn is dropped.

    Raises:
        Reject: with the first fault found.
    """
    checked = [_check_message(message) for message in messages]
    if checked and checked[0]["role"] == SYSTEM and not checked[0]["content"].strip():
        del checked[0]
    turns = checked[1:] if checked and checked[0]["role"] == SYSTEM else checked
    if not turns:
        raise Reject("empty_prompt", "no user turn")
    for position, message in enumerate(turns):
        expected = ASSISTANT if position % 2 else USER
        if message["role"] != expected:
            raise Reject("bad_turns", f"turn {position + 1} is {message['role']}, not {expected}")
        if not message["content"].strip():
            raise Reject("empty_answer" if position % 2 else "empty_prompt", f"turn {position + 1}")
    if turns[-1]["role"] != ASSISTANT:
        raise Reject("bad_turns", "the last turn is the user's")
    characters = sum(len(message["content"]) for message in checked)
    if characters > MAX_TEXT_CHARACTERS:
        raise Reject("too_long", f"{characters:,} characters")
    return checked


def _check_message(message: Any) -> Message:
    if not isinstance(message, dict):
        raise Reject("not_text", "a message is no object")
    role, content = message.get("role"), message.get("content")
    if role not in (SYSTEM, USER, ASSISTANT):
        raise Reject("unknown_role", clip(repr(role), 40))
    for field in ("tool_calls", "function_call"):
        if message.get(field):
            raise Reject("field_lost", f"{field!r} in a message")
    if not isinstance(content, str):
        raise Reject("not_text", f"the {role} turn is {type(content).__name__}")
    if "\0" in content:
        raise Reject("nul_character", f"in the {role} turn")
    return {"role": role, "content": content}

def check_conversation(conversation):
    return check_messages(conversation.messages), "", False
