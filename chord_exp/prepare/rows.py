"""From a raw row to one that can be placed: detect, normalise, check, find the answer. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

import orjson

from chord_exp.prepare.answers import find_answer
from chord_exp.prepare.checks import check_messages
from chord_exp.prepare.formats import SYSTEM, Message, detect
from chord_exp.prepare.normal import content_digest, group_digest, normalise, short_hash
from chord_exp.prepare.options import PrepareOptions
from chord_exp.prepare.reader import parse_row

MULTI_TURN, OWN_SYSTEM, DATE = "multi_turn", "own_system_prompt", "prompt_is_a_date"
SHARED_PROMPT, CONFLICTING = "prompt_shared_with_sft_only_row", "conflicting_answers"
NOT_VERIFIABLE = "not_verifiable"
SFT_ONLY = (NOT_VERIFIABLE, MULTI_TURN, OWN_SYSTEM, DATE, SHARED_PROMPT, CONFLICTING)
"""Why a row may not leave the SFT side. The last two are seen in its prompt group, the others in the row."""


# A column of nothing else is loaded as timestamps, not as text; the SFT side is JSON text and not at risk.
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9:.]*(?:Z|[-+][0-9:]+)?)?")


class Lengths(NamedTuple):
    """Of the text before the last turn (system prompt included) and of the last turn; chat template not
    counted."""

    prompt_chars: int
    prompt_bytes: int
    response_chars: int
    response_bytes: int


class Row(NamedTuple):
    """A usable row.

    Args:
        format: name of the format it was read from.
        kind: kind of its final answer.
        sft_only: why it cannot be a rollout prompt; "" when it can.
        value: hash of the answer's value; 0 when not verifiable.
        as_written: the response scores 1 under the reward as it stands.
        payload: JSON of [messages, kind of answer, truth].
        digest: identity for exact duplicates.
        rank: hash of the payload; decides between duplicates, and the order inside a group.
        group: digest of the prompt group.
        more_groups: prompt groups of the later user turns.
        lengths: see Lengths.
    """

    format: str
    kind: str
    sft_only: str
    value: int
    as_written: bool
    payload: bytes
    digest: bytes
    rank: int
    group: bytes
    more_groups: tuple[bytes, ...]
    lengths: Lengths


def build_row(data: bytes, options: PrepareOptions) -> Row:
    """One raw row, ready to be placed.

    Raises:
        Reject: the row cannot be used.
    """
    record = parse_row(data)
    found = detect(record)
    conversation = found.read(record)
    messages = check_messages(conversation.messages)
    answer = find_answer(conversation.answer, messages[-1]["content"])
    system = messages[0]["content"] if messages[0]["role"] == SYSTEM else None
    if system is None and options.system_prompt:
        messages.insert(0, {"role": SYSTEM, "content": options.system_prompt})
    normal = [normalise(message["content"]) for message in messages]
    # Turns alternate, so the first role and the texts say all there is.
    first_role = messages[0]["role"]
    prompts = normal[first_role == SYSTEM : -1 : 2]
    if not answer.verifiable:
        sft_only = NOT_VERIFIABLE
    elif len(prompts) > 1:
        sft_only = MULTI_TURN
    elif system not in (None, options.system_prompt):
        sft_only = OWN_SYSTEM
    else:
        sft_only = DATE if _TIMESTAMP.fullmatch(messages[-2]["content"]) else ""
    payload = orjson.dumps([messages, answer.kind, answer.truth])
    return Row(
        format=found.name,
        kind=answer.kind,
        sft_only=sft_only,
        value=short_hash(answer.value.encode()) if answer.verifiable else 0,
        as_written=answer.as_written,
        payload=payload,
        digest=content_digest([first_role, *normal]),
        rank=short_hash(payload),
        group=group_digest(prompts[0], options.seed),
        more_groups=tuple(group_digest(prompt, options.seed) for prompt in prompts[1:]),
        lengths=_lengths(messages),
    )


def _lengths(messages: list[Message]) -> Lengths:
    prompt = "".join(message["content"] for message in messages[:-1])
    response = messages[-1]["content"]
    return Lengths(len(prompt), len(prompt.encode()), len(response), len(response.encode()))
