"""From a raw row to one that can be placed: parse, detect, check, find the answer, hash. The hot path of a preparation."""

from __future__ import annotations

import re
from typing import NamedTuple

import orjson

from chord_exp.prepare.answers import KINDS, Answer, find_answer
from chord_exp.prepare.checks import check_conversation
from chord_exp.prepare.columns import AS_WRITTEN, LAST_ONLY, RL_ONLY, SEVERAL_TURNS
from chord_exp.prepare.formats import ASSISTANT, SYSTEM, USER, Message, detect, mapped_format
from chord_exp.prepare.language import LANGUAGES, language
from chord_exp.prepare.layout import expert_row, rollout_row
from chord_exp.prepare.leaks import EvalPrompts
from chord_exp.prepare.normal import content_digest, group_digest, normalise, short_hash
from chord_exp.prepare.options import PrepareOptions
from chord_exp.prepare.reader import RawRow, parse_row
from chord_exp.prepare.rejects import Reject

MULTI_TURN, OWN_SYSTEM, DATE = "multi_turn", "own_system_prompt", "prompt_is_a_date"
NOT_VERIFIABLE, ANSWER_FAILED = "not_verifiable", "answer_check_failed"
SHARED_PROMPT, CONFLICTING = "prompt_shared_with_sft_only_row", "conflicting_answers"
SFT_ONLY = (NOT_VERIFIABLE, MULTI_TURN, OWN_SYSTEM, DATE, ANSWER_FAILED, SHARED_PROMPT, CONFLICTING)
"""Why a row may not leave the SFT side. The last two are seen in its prompt group, the others in the row."""

_REASON_NUMBER = {"": 0, **{reason: number for number, reason in enumerate(SFT_ONLY, 1)}}
_KIND_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_LANGUAGE_NUMBER = {name: number for number, name in enumerate(LANGUAGES)}
# A column of nothing else is loaded as timestamps, not as text; the SFT side is JSON text and not at risk.
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9:.]*(?:Z|[-+][0-9:]+)?)?")


class Row(NamedTuple):
    """A usable row.

    Args:
        format: name of the format it was read from.
        sft_line: its line on the SFT side; empty when it has no response.
        rl_line: its line on the RL side; empty when it may not go there.
        digest: identity for exact duplicates, as two halves.
        rank: hash of both lines; decides between duplicates, and the order inside a group.
        group: digest of the prompt group, as two halves.
        value: hash of the answer's value; 0 when there is none.
        lengths: characters and bytes of the text before the last response (system prompt included), then of the
            response; chat template not counted.
        kind, reason, language: numbers into KINDS, ("", *SFT_ONLY) and LANGUAGES.
        flags: see columns.py.
        mentions: digests of the prompt groups of later user turns.
        normal_prompt, normal_response: what near duplicates are compared by.
        failed: why the reward does not score its own answer; "" when it does or nobody asked.
    """

    format: str
    sft_line: bytes
    rl_line: bytes
    digest: tuple[int, int]
    rank: int
    group: tuple[int, int]
    value: int
    lengths: tuple[int, int, int, int]
    kind: int
    reason: int
    language: int
    flags: int
    mentions: list[bytes]
    normal_prompt: str
    normal_response: str
    failed: str


class RowBuilder:
    """Builds rows; what does not change from row to row is decided once.

    Args:
        options: of the preparation.
        evals: prompts that must not be trained on; None for none.
    """

    def __init__(self, options: PrepareOptions, evals: EvalPrompts | None) -> None:
        self._options = options
        self._format = mapped_format(options.map) if options.map else None
        self._evals = evals
        self._system: Message | None = (
            {"role": SYSTEM, "content": options.system_prompt} if options.system_prompt else None
        )
        self._score = None
        if options.answer_check:
            from chord_exp.prepare.check import score_answer

            self._score = score_answer

    def build(self, raw: RawRow) -> Row:
        """One raw row, ready to be placed.

        Raises:
            Reject: the row cannot be used.
        """
        record = parse_row(raw.data) if raw.record is None else raw.record
        found = self._format or detect(record)
        conversation = found.read(record)
        messages, tools, last_only = check_conversation(conversation)
        answered = conversation.answered
        response = messages[-1]["content"] if answered else None
        calls = messages[-1].get("tool_calls") if answered else None
        answer = find_answer(conversation.answer, response, choices=conversation.choices, tool_calls=calls)
        system = messages[0]["content"] if messages[0]["role"] == SYSTEM else None
        if system is None and self._system is not None:
            messages = [self._system, *messages]
        asked = messages[:-1] if answered else messages
        normal = [normalise(message["content"]) for message in messages]
        prompts = [text for text, message in zip(normal, asked, strict=False) if message["role"] == USER]
        if self._evals is not None:
            for prompt in prompts:
                self._evals.refuse(prompt)
        several = sum(message["role"] == ASSISTANT for message in messages) > 1
        reason, failed = self._reason(answer, prompts, several, system, asked[-1]["content"]), ""
        if not answered and reason:
            raise Reject("no_use", f"no response, and {reason.replace('_', ' ')}")
        if self._score is not None and answered and not reason:
            failed = self._score(answer, response)
            reason = ANSWER_FAILED if failed else reason
        sft_line = orjson.dumps(expert_row(messages, tools), option=orjson.OPT_APPEND_NEWLINE) if answered else b""
        rl_line = b""
        if not reason:
            row = rollout_row(messages, answer, tools, self._options.free_text)
            rl_line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        first, *later = (group_digest(prompt, self._options.seed) for prompt in prompts)
        return Row(
            format=found.name,
            sft_line=sft_line,
            rl_line=rl_line,
            digest=content_digest(messages, normal, tools),
            rank=short_hash(sft_line + rl_line),
            group=first,
            value=short_hash(answer.value.encode()) if answer.truth else 0,
            lengths=_lengths(asked, response or ""),
            kind=_KIND_NUMBER[answer.kind],
            reason=_REASON_NUMBER[reason],
            language=_LANGUAGE_NUMBER[language(prompts[0])],
            flags=answer.as_written * AS_WRITTEN + last_only * LAST_ONLY + several * SEVERAL_TURNS
            + (not answered) * RL_ONLY,
            mentions=[high.to_bytes(8, "little") + low.to_bytes(8, "little") for high, low in later],
            normal_prompt=" ".join(prompts),
            normal_response=normal[-1] if answered else "",
            failed=failed,
        )

    def _reason(self, answer: Answer, prompts: list[str], several: bool, system: str | None, prompt: str) -> str:
        """Why a row may not leave the SFT side; "" when it may."""
        if not answer.verifiable and self._options.free_text == "none":
            return NOT_VERIFIABLE
        if len(prompts) > 1 or several:
            return MULTI_TURN
        if system not in (None, self._options.system_prompt):
            return OWN_SYSTEM
        return DATE if _TIMESTAMP.fullmatch(prompt) else ""


def _lengths(asked: list[Message], response: str) -> tuple[int, int, int, int]:
    prompt = asked[0]["content"] if len(asked) == 1 else "".join([message["content"] for message in asked])
    return len(prompt), len(prompt.encode()), len(response), len(response.encode())
