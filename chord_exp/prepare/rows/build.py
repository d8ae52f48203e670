"""From a raw row to one that can be placed: parse, detect, check, find the answer, hash. The hot path of prepare."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import NamedTuple

import orjson

from chord_exp.prepare.answers.find import FREE_TEXT, KINDS, Answer, find_answer
from chord_exp.prepare.answers.scoring import SCORINGS, expert_row, rollout_row, scoring_of
from chord_exp.prepare.columns import AS_WRITTEN, LAST_ONLY, RL_ONLY, SEVERAL_TURNS
from chord_exp.prepare.read.raw_rows import RawRow, parse_row
from chord_exp.prepare.rejects import ANSWER_FAILED, DATE, MULTI_TURN, NOT_VERIFIABLE, SFT_ONLY, Reject
from chord_exp.prepare.rows.contamination import EvalPrompts
from chord_exp.prepare.rows.conversation import ASSISTANT, SYSTEM, USER, Message, Record
from chord_exp.prepare.rows.field_map import least_score, readings_of
from chord_exp.prepare.rows.formats import Format
from chord_exp.prepare.rows.reading import HandReadings, Reading, find_reading
from chord_exp.prepare.rows.script import LANGUAGES, language
from chord_exp.prepare.rows.text_keys import content_digest, group_digest, normalise, short_hash
from chord_exp.prepare.rows.turns import check_conversation
from chord_exp.trinity_config.rows import REWARD_KEY, WORKFLOW_KEY
from chord_exp.utils.split_settings import SplitSettings

_REASON_NUMBER = {"": 0, **{reason: number for number, reason in enumerate(SFT_ONLY, 1)}}
_KIND_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_SCORING_NUMBER = {(one.workflow, one.reward): number for number, one in enumerate(SCORINGS)}
_LANGUAGE_NUMBER = {name: number for number, name in enumerate(LANGUAGES)}
# A column of nothing else is loaded as timestamps, not as text; the SFT side is JSON text and not at risk.
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9:.]*(?:Z|[-+][0-9:]+)?)?")


class Row(NamedTuple):
    """A usable row."""

    # name of the format it was read from
    format: str
    # its line on the SFT side; empty when it has no response
    sft_line: bytes
    # its line on the RL side; empty when it may not go there
    rl_line: bytes
    # identity for exact duplicates, as two halves
    digest: tuple[int, int]
    # hash of both lines; decides between duplicates, and the order inside a group
    rank: int
    # digest of the prompt group, as two halves
    group: tuple[int, int]
    # hash of the answer's value; 0 when there is none
    value: int
    # characters and bytes of the text before the last response (system prompt included), then of the response; chat
    # template not counted
    lengths: tuple[int, int, int, int]
    # numbers into KINDS, ("", *SFT_ONLY) and LANGUAGES
    kind: int
    reason: int
    language: int
    # see columns.py
    flags: int
    # a number into SCORINGS; 0 too where the row may not go to the RL side
    scoring: int
    # digests of the prompt groups of later user turns, packed one after the other
    mentions: bytes
    # what near duplicates are compared by
    normal_prompt: str
    normal_response: str
    # why the reward does not score its own answer; "" when it does or nobody asked
    failed: str
    # columns that hold something and were not read
    unused: list[str]


class RowBuilder:
    """Build rows; what does not change from row to row is decided once.

    Args:
        options: of the preparation.
        evals: prompts that must not be trained on; None for none.
        declared: formats that `dataset_info.json` declares, by file; a field map of the user's wins over them.
    """

    def __init__(
        self, options: SplitSettings, evals: EvalPrompts | None, declared: Mapping[str, Format] | None = None
    ) -> None:
        self._options = options
        self._find = readings_of(options.map)
        self._declared = {
            name: HandReadings(known).find for name, known in (declared or {}).items() if self._find is find_reading
        }
        self._least_score = least_score(options.map)
        self._evals = evals
        self._system: Message | None = (
            {"role": SYSTEM, "content": options.system_prompt} if options.system_prompt else None
        )

    def build(self, raw: RawRow, file: str = "", first_index: int = 0) -> Row:
        """Return one raw row, ready to be placed.

        Args:
            file: name of the file it stands in.
            first_index: whether that file counts options from 0 or from 1.

        Raises:
            Reject: the row cannot be used.
        """
        options = self._options
        record = parse_row(raw.data) if raw.record is None else raw.record
        if self._least_score is not None:
            self._least_score.refuse_below(record)
        reading, record = (self._declared.get(file) or self._find)(record)
        conversation = reading.read(record, first_index)
        messages, tools, last_only = check_conversation(conversation)
        answered = conversation.answered
        last = messages[-1]
        response = last["content"] if answered else None
        answer = find_answer(
            conversation.answer,
            response,
            choices=conversation.choices,
            tool_calls=last.get("tool_calls") if answered else None,
            # in the system text of ToolACE and Hermes
            offered_tools=bool(tools) or messages[0]["role"] == SYSTEM,
        )
        if self._system is not None and messages[0]["role"] != SYSTEM:
            messages = [self._system, *messages]
        normal = [normalise(message["content"]) for message in messages]
        asked = messages[:-1] if answered else messages
        if len(asked) == 1:
            prompts = normal[:1]
        else:
            prompts = [text for text, message in zip(normal, asked, strict=False) if message["role"] == USER]
        if self._evals is not None:
            for prompt in prompts:
                self._evals.refuse(prompt)
        several = len(messages) > 3 and sum(message["role"] == ASSISTANT for message in messages) > 1
        if several and options.single_turn:
            raise Reject("several_turns")
        reason, failed = self._reason(answer, prompts, several, asked[-1]["content"]), ""
        if reason and not answered:
            raise Reject("no_use", f"no response, and {reason.replace('_', ' ')}")
        if options.answer_check and answered and not reason:
            failed = self._fails(answer, last)
            reason = ANSWER_FAILED if failed else ""
        sft_line = orjson.dumps(expert_row(messages, tools), option=orjson.OPT_APPEND_NEWLINE) if answered else b""
        rl_line, scoring = (b"", 0) if reason else self._rl_line(messages, answer, tools)
        seed = options.seed
        flags = answer.as_written * AS_WRITTEN + last_only * LAST_ONLY + several * SEVERAL_TURNS
        return Row(
            reading.name,
            sft_line,
            rl_line,
            content_digest(messages, normal, tools),
            short_hash(sft_line + rl_line),
            group_digest(prompts[0], seed),
            short_hash(answer.value.encode()) if answer.value else 0,
            _lengths(asked, response or ""),
            _KIND_NUMBER[answer.kind],
            _REASON_NUMBER[reason],
            _LANGUAGE_NUMBER[language(prompts[0])],
            flags if answered else flags + RL_ONLY,
            scoring,
            _packed_digests(prompts[1:], seed) if len(prompts) > 1 else b"",
            prompts[0],
            normal[-1] if answered else "",
            failed,
            self._unused(reading, record),
        )

    def _unused(self, reading: Reading, record: Record) -> list[str]:
        unused = reading.unused(record)
        if self._least_score is None or not unused:
            return unused
        return [name for name in unused if name != self._least_score.column]

    def _rl_line(self, messages: list[Message], answer: Answer, tools: str) -> tuple[bytes, int]:
        """Return the line of the RL side, and which of SCORINGS it names."""
        options = self._options
        row = rollout_row(messages, answer, tools, system_prompt=options.system_prompt, free_text=options.free_text)
        scoring = _SCORING_NUMBER[row[WORKFLOW_KEY], row[REWARD_KEY]]
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE), scoring

    def _reason(self, answer: Answer, prompts: list[str], several: bool, prompt: str) -> str:
        """Return why a row may not leave the SFT side; "" when it may."""
        if len(prompts) > 1 or several:
            return MULTI_TURN
        if not answer.verifiable and scoring_of(answer, self._options.free_text) is None:
            return NOT_VERIFIABLE
        return DATE if prompt[:1].isdigit() and _TIMESTAMP.fullmatch(prompt) else ""

    def _fails(self, answer: Answer, last: Message) -> str:
        """Return what the reward of training says of the expert's own answer; "" when it is content."""
        from chord_exp.prepare.answers.reward_check import reward_mismatch

        return "" if answer.kind == FREE_TEXT else reward_mismatch(answer, last)


def _packed_digests(prompts: list[str], seed: int) -> bytes:
    halves = [half for prompt in prompts for half in group_digest(prompt, seed)]
    return struct.pack(f"<{len(halves)}Q", *halves)


def _lengths(asked: list[Message], response: str) -> tuple[int, int, int, int]:
    prompt = asked[0]["content"] if len(asked) == 1 else "".join([message["content"] for message in asked])
    return len(prompt), _bytes(prompt), len(response), _bytes(response)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
