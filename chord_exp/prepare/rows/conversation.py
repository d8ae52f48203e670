"""A record in one shape, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Message = dict[str, Any]

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"


@dataclass(frozen=True)
class Conversation:
    """A record in one shape, not yet checked.

    Args:
        messages: role and content, and whatever else stands there, as found.
        answer: the record's own final answer beside the response, or the truth of a record without a response.
        tools: descriptions of tools, a list or JSON text.
        choices: options of a multiple-choice record; they stand in the prompt already.
        answered: the last turn is a response; else the record is for RL only.
    """

    messages: list[Any]
    answer: Any = None
    tools: Any = None
    choices: tuple[str, ...] = ()
    answered: bool = True


@dataclass(frozen=True)
class Format:
    """One way to write a record down.

    Args:
        name: as counted in the manifest.
        has: whether a record with these fields may have this format.
        read: its conversation; may raise Reject.
        fits: whether the values fit too; None where the fields say enough.
    """

    name: str
    has: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Record], Conversation]
    fits: Callable[[Record], bool] | None = None
