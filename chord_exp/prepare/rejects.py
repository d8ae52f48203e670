"""Rows that cannot be used, or for one side only: why, and where they are listed."""

from __future__ import annotations

import orjson

REASONS = {
    "unreadable_file": "the file cannot be decoded",
    "invalid_json": "not valid JSON",
    "invalid_csv": "not a row of the table",
    "not_utf8": "not UTF-8",
    "duplicate_key": "the same key twice in one object",
    "not_an_object": "a row must be an object",
    "unknown_format": "no known format has these fields",
    "preference": "a preference pair says which of two answers is better, not which to imitate",
    "bad_answer": "the row itself says that its answer is not to be imitated",
    "low_score": "its score lies below the least one that the field map names",
    "no_turns": "there is no question and answer in it",
    "no_truth": "a row for RL without a truth to compare with",
    "missing_field": "a field that should be there is not",
    "bad_choice": "a multiple-choice row whose answer is none of its options",
    "bad_tool_call": "a tool call that is not {name, arguments}",
    "bad_tools": "tool descriptions that are no list of schemas",
    "nothing_trained": "no answer in it is to be trained",
    "field_lost": "a field that the format cannot keep",
    "not_text": "a field that must be text is not",
    "nul_character": "a NUL character in the text",
    "too_long": "longer than any model can train on",
    "over_window": "longer than the model's window",
    "empty_prompt": "the prompt is empty",
    "empty_answer": "the answer is empty",
    "unknown_role": "a role other than system, user, assistant, tool",
    "bad_turns": "turns must alternate user, assistant (tools after a call) and end with the assistant",
    "no_use": "it can serve neither side",
    "several_turns": "a conversation of several turns, and only single ones are wanted",
    "leaks_eval": "its prompt stands in the evaluation data",
    "conflicting_truths": "no response, and the same prompt has another answer or stands in a row for SFT only",
    "untrained_turn": "an earlier answer must not be trained, and other rows need all their answers trained",
    "answer_mismatch": "the answer field contradicts the response",
}
"""Reason code, as counted in the manifest, and what it means."""

MULTI_TURN, DATE = "multi_turn", "prompt_is_a_date"
NOT_VERIFIABLE, ANSWER_FAILED = "not_verifiable", "answer_check_failed"
SHARED_PROMPT, CONFLICTING = "prompt_shared_with_sft_only_row", "conflicting_answers"
# why a row may not leave the SFT side; the last two are seen in its prompt group, the others in the row
SFT_ONLY = (NOT_VERIFIABLE, MULTI_TURN, DATE, ANSWER_FAILED, SHARED_PROMPT, CONFLICTING)

CLIP_CHARACTERS = 200


class Reject(Exception):
    """A row that cannot be used.

    Args:
        reason: a key of REASONS.
        detail: what this row has, shortened.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise KeyError(reason)
        self.reason = reason
        self.detail = f"{REASONS[reason]}: {clip(detail)}" if detail else REASONS[reason]
        # its own arguments, or it could not be sent to another process
        super().__init__(reason, detail)

    def __str__(self) -> str:
        return self.detail


def clip(text: str, characters: int = CLIP_CHARACTERS) -> str:
    """The start of a text, marked when something is missing."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def clip_bytes(raw: bytes) -> str:
    """The start of a raw row as text, whatever its encoding."""
    return clip(raw[: 4 * CLIP_CHARACTERS + 4].decode("utf-8", "backslashreplace"))


def reject_line(file: str, line: int, reject: Reject, text: str) -> bytes:
    """The line of a row in the list of rejects."""
    row = {"file": file, "line": line, "reason": reject.reason, "detail": reject.detail, "text": text}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def failed_answer_line(file: str, line: int, detail: str, text: str) -> bytes:
    """The line of a row in the list of answers that the reward does not score."""
    row = {"file": file, "line": line, "detail": detail, "text": text}
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
