"""A row as a conversation, whatever its format."""

from __future__ import annotations

from typing import Any, NamedTuple

Record = dict[str, Any]
Message = dict[str, Any]

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"


class Conversation(NamedTuple):
    """A row as a conversation, not yet checked."""

    # role and content, and whatever else stands there, as found
    messages: list[Any]
    # the row's own final answer beside the response, or the truth of a row without a response
    answer: Any = None
    # descriptions of tools, a list or JSON text
    tools: Any = None
    # options of a multiple-choice row; they stand in the prompt already
    choices: tuple[str, ...] = ()
    # the last turn is a response; else the row is for RL only
    answered: bool = True
