"""What a conversation must satisfy before anything else looks at it, and its turns in one form."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import orjson

from chord_exp.plugins.tool_calls import drop_nulls
from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import ASSISTANT, SYSTEM, TOOL, USER, Conversation, Message
from chord_exp.prepare.rows.parts import calls_of, with_reasoning

MAX_TEXT_CHARACTERS = 1 << 20
"""Of one conversation; a quarter of a million tokens, beyond what any run here can train on."""

_ROLES = {
    SYSTEM: SYSTEM,
    "developer": SYSTEM,
    USER: USER,
    ASSISTANT: ASSISTANT,
    TOOL: TOOL,
    "function": TOOL,
    "tool_response": TOOL,
}
# who may speak after whom; the start is None
_MAY_FOLLOW = {USER: (None, ASSISTANT), ASSISTANT: (USER, TOOL), TOOL: (ASSISTANT, TOOL)}
_PAIR = (USER, ASSISTANT)


# the escape itself, not the same letters after an escaped backslash
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_MEDIA = ("images", "audio")
# where the text points at what lies beside it
_MEDIA_MARKS = ("<image>", "<video>", "<audio>")
_REASONING = ("reasoning_content", "reasoning", "thinking")


class Checked(NamedTuple):
    """A conversation that can be used."""

    # [system,] then turns that begin with the user; content is text; assistant turns may carry `tool_calls` in OpenAI's
    # form, tool turns `name` and `tool_call_id`
    messages: list[Message]
    # JSON text of a list of tool schemas in OpenAI's form, "" for none
    tools: str
    # an earlier assistant turn must not be trained
    last_only: bool


def check_conversation(conversation: Conversation) -> Checked:
    """Return the conversation in one form, without an empty system turn and what follows the last turn to be trained.

    Raises:
        Reject: with the first fault found.
    """
    if _is_plain_pair(conversation):
        return Checked(conversation.messages, "", False)
    found = _with_calls_joined(conversation.messages)
    messages, last_only = [_full(message) for message in found], False
    if messages and messages[0]["role"] == SYSTEM and not messages[0]["content"].strip():
        del messages[0]
    if conversation.answered:
        messages, last_only = _trained(found, messages)
    start = 1 if messages and messages[0]["role"] == SYSTEM else 0
    if len(messages) == start:
        raise Reject("empty_prompt", "no user turn")
    _check_turns(messages[start:] if start else messages, conversation.answered)
    characters = 0
    for message in messages:
        content = message["content"]
        characters += len(content)
        if "\0" in content:
            raise Reject("nul_character", f"in the {message['role']} turn")
        if message["role"] == USER and "<" in content:
            _refuse_media_marks(content)
        if len(message) > 2:
            rest = {key: value for key, value in message.items() if key != "content"}
            characters += len(_written(rest, "bad_tool_call"))
    tools = _tools(conversation.tools) if conversation.tools else ""
    characters += len(tools)
    if characters > MAX_TEXT_CHARACTERS:
        raise Reject("too_long", f"{characters:,} characters")
    return Checked(messages, tools, last_only)


def _is_plain_pair(conversation: Conversation) -> bool:
    """Whether it is a question and an answer that pass every check as they are: most are, and this is the hot path."""
    messages = conversation.messages
    if len(messages) != 2 or conversation.tools or not conversation.answered:
        return False
    characters = 0
    for message, role in zip(messages, _PAIR, strict=True):
        if message.__class__ is not dict or len(message) != 2 or message.get("role") != role:
            return False
        content = message.get("content")
        if content.__class__ is not str or not content or content.isspace() or "\0" in content:
            return False
        if "<" in content and role == USER:
            _refuse_media_marks(content)
        characters += len(content)
    return characters <= MAX_TEXT_CHARACTERS


def _refuse_media_marks(text: str) -> None:
    for mark in _MEDIA_MARKS:
        if mark in text:
            raise Reject("field_lost", f"{mark} in the text")


def _with_calls_joined(found: list[Any]) -> list[Any]:
    """ms-swift writes every tool call as a turn of its own, after what the assistant says: together they are one."""
    if not any(_role(message) == "tool_call" for message in found):
        return found
    joined: list[Any] = []
    for message in found:
        if _role(message) != "tool_call":
            joined.append(message)
            continue
        call = _json(message.get("content"), "bad_tool_call")
        before = joined[-1] if joined and _role(joined[-1]) == ASSISTANT else None
        calls = (before or {}).get("tool_calls") or []
        if before is None:
            joined.append({**message, "role": ASSISTANT, "content": "", "tool_calls": [call]})
        elif _wanted(before) != _wanted(message) or not isinstance(calls, list):
            raise Reject("bad_tool_call", "of a turn that is trained in part only")
        else:
            joined[-1] = {**before, "tool_calls": [*calls, call]}
    return joined


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _full(message: Any) -> Message:
    """A turn with all that may stand in it."""
    if not isinstance(message, dict):
        raise Reject("not_text", "a message is no object")
    role, content = message.get("role"), message.get("content")
    known = _ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        raise Reject("unknown_role", clip(repr(role), 40))
    for field in _MEDIA:
        if message.get(field):
            raise Reject("field_lost", f"{field!r} in a turn of {known}")
    calls = message.get("tool_calls")
    if not calls and message.get("function_call"):
        calls = [message["function_call"]]
    reasoning = next((message[field] for field in _REASONING if message.get(field)), None)
    if isinstance(content, list):
        content, thought, called = _joined(content, known)
        reasoning, calls = reasoning or thought, calls or called
    elif content is None and calls:
        content = ""
    elif not isinstance(content, str):
        raise Reject("not_text", f"the {known} turn is {type(content).__name__}")
    if reasoning and known == ASSISTANT:
        content = with_reasoning(reasoning, content)
    checked: Message = {"role": known, "content": content}
    if calls:
        if known != ASSISTANT or not isinstance(calls, list):
            raise Reject("bad_tool_call", f"in a turn of {known}")
        checked["tool_calls"] = [_call(call) for call in calls]
    for field in ("name", "tool_call_id"):
        if known == TOOL and isinstance(message.get(field), str):
            checked[field] = message[field]
    return checked


def _joined(parts: list[Any], role: str) -> tuple[str, str, list[Any]]:
    """Text, reasoning and calls of a turn in parts: OpenAI's {type, text}, LLaMA-Factory's {type, value}."""
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[Any] = []
    for part in parts:
        if not isinstance(part, dict):
            raise Reject("not_text", f"a part of the {role} turn is {type(part).__name__}")
        kind, value = part.get("type", "text"), part.get("text", part.get("value"))
        if kind == "tool_call":
            calls += calls_of(value)
        elif kind in ("text", "reasoning") and isinstance(value, str):
            texts[kind].append(value)
        else:
            raise Reject("field_lost", f"a part of kind {clip(repr(kind), 20)} in the {role} turn")
    return "".join(texts["text"]), "".join(texts["reasoning"]), calls


def _call(call: Any) -> Message:
    """A tool call in OpenAI's form, its arguments as an object."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise Reject("bad_tool_call", "a call without a name")
    arguments = function.get("arguments", function.get("parameters"))
    if arguments is None:
        arguments = {}
    elif isinstance(arguments, str):
        arguments = _json(arguments, "bad_tool_call") if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise Reject("bad_tool_call", f"the arguments of {clip(function['name'], 40)} are no object")
    # a table writes null for what only other rows have
    arguments = drop_nulls(arguments)
    checked: Message = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
    if isinstance(call.get("id"), str):
        checked["id"] = call["id"]
    return checked


def _json(text: Any, reason: str) -> Any:
    try:
        return orjson.loads(text) if isinstance(text, str) else text
    except orjson.JSONDecodeError:
        raise Reject(reason, clip(text, 60)) from None


def _tools(tools: Any) -> str:
    """Tool schemas as JSON text of a list in OpenAI's form; a bare schema is put into that form."""
    schemas = _json(tools, "bad_tools")
    if isinstance(schemas, dict):
        schemas = [schemas]
    if not isinstance(schemas, list):
        raise Reject("bad_tools", f"they are {type(schemas).__name__}")
    full = []
    for schema in schemas:
        schema = _json(schema, "bad_tools")
        if not isinstance(schema, dict):
            raise Reject("bad_tools", "a tool is no object")
        function = schema.get("function", schema)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Reject("bad_tools", "a tool without a name")
        schema = drop_nulls(schema)
        full.append(schema if "function" in schema else {"type": "function", "function": schema})
    return _written(full, "bad_tools") if full else ""


def _written(value: Any, reason: str) -> str:
    """As JSON text.

    Raises:
        Reject: it cannot be written (nested too deeply, bytes of a table), or holds a NUL character.
    """
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError) as error:
        raise Reject(reason, str(error)) from None
    if "\\u0000" in text and _NUL.search(text):
        raise Reject("nul_character", "in a tool or its call")
    return text


def _trained(found: list[Any], messages: list[Message]) -> tuple[list[Message], bool]:
    """The conversation up to its last assistant turn to be trained, and whether an earlier one must not be."""
    if not any(message.__class__ is dict and len(message) > 2 for message in found):
        return messages, False
    wanted = [_wanted(message) for message in found][len(found) - len(messages) :]
    answers = [at for at, message in enumerate(messages) if message["role"] == ASSISTANT]
    taught = [at for at in answers if wanted[at]]
    if answers and not taught:
        raise Reject("nothing_trained", "every answer has weight 0")
    if not taught or taught[-1] == answers[-1]:
        return messages, len(taught) < len(answers)
    kept = messages[: taught[-1] + 1]
    return kept, any(at < taught[-1] and not wanted[at] for at in answers)


def _wanted(message: Message) -> bool:
    """Whether a turn is to be trained: `weight` (OpenAI), `loss` (ms-swift), `train` (Axolotl) and `loss_weight`
    (LLaMA-Factory) say no by 0 or false."""
    return not any(message.get(field) in (0, False) for field in _WEIGHTS)


_WEIGHTS = ("weight", "loss", "train", "loss_weight")


def _check_turns(turns: list[Message], answered: bool) -> None:
    before: str | None = None
    for position, message in enumerate(turns, 1):
        role = message["role"]
        if role == SYSTEM or before not in _MAY_FOLLOW[role]:
            raise Reject("bad_turns", f"turn {position} is {role}, after {before or 'nothing'}")
        if role != TOOL and not message["content"].strip() and not message.get("tool_calls"):
            raise Reject("empty_answer" if role == ASSISTANT else "empty_prompt", f"turn {position}")
        before = role
    if answered and before != ASSISTANT:
        raise Reject("bad_turns", f"the last turn is {before}, not assistant")
    if not answered and before not in (USER, TOOL):
        raise Reject("bad_turns", f"the last turn is {before}, and the record is for RL only")
