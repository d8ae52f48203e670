"""The choices a user makes when preparing data, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from chord_exp.errors import DataError
from chord_exp.prepare.answers.scoring import FREE_TEXT_CHOICES


@dataclass(frozen=True)
class PrepareOptions:
    """What decides which row goes where.

    Args:
        expert_ratio: share of the verifiable training rows that become expert (SFT) rows; strictly between 0
            and 1.
        eval_rows: prompts held out of both sides; give this or `eval_ratio`.
        eval_ratio: the same as a share of the verifiable prompts, in [0, 1).
        seed: seed of the hash that splits; another seed gives another split.
        system_prompt: system prompt of the run, written into expert rows that have none; "" for none.
        map: fields named by hand, {"prompt": "their_field", ...}; empty to detect formats.
        near_dedup: similarity from which two rows are near duplicates, in (0, 1]; None to keep them.
        answer_check: score each expert's answer with the reward of the run; what fails stays on the SFT side.
        free_text: how free text is scored on the RL side: none keeps it on the SFT side.
        tokenizer: folder of a model, whose tokenizer then gives lengths in tokens; None for bytes alone.

    Raises:
        DataError: a value out of range, with the remedy.
    """

    expert_ratio: float
    eval_rows: int | None
    eval_ratio: float | None
    seed: int
    system_prompt: str
    map: Mapping[str, str] = field(default_factory=dict)
    near_dedup: float | None = None
    answer_check: bool = False
    free_text: str = "none"
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        _check_expert_ratio(self.expert_ratio)
        if (self.eval_rows is None) == (self.eval_ratio is None):
            raise DataError("eval_rows and eval_ratio are two ways to say one thing", fix="give exactly one of them")
        if self.eval_rows is not None and (not _is_int(self.eval_rows) or self.eval_rows < 0):
            raise DataError(f"eval_rows={self.eval_rows!r} is no row count", fix="give an integer of 0 or more")
        if self.eval_ratio is not None and not (_is_number(self.eval_ratio) and 0 <= self.eval_ratio < 1):
            raise DataError(f"eval_ratio={self.eval_ratio!r} is no share", fix="give a number from 0 to below 1")
        if not _is_int(self.seed):
            raise DataError(f"seed={self.seed!r} is no integer", fix="give an integer")
        if self.near_dedup is not None and not (_is_number(self.near_dedup) and 0 < self.near_dedup <= 1):
            raise DataError(
                f"near_dedup={self.near_dedup!r} is no similarity", fix="give a number above 0 up to 1, such as 0.8"
            )
        if self.free_text not in FREE_TEXT_CHOICES:
            raise DataError(
                f"free_text={self.free_text!r} is not known", fix=f"use one of {', '.join(FREE_TEXT_CHOICES)}"
            )
        _check_system_prompt(self.system_prompt)


def parse_map(text: str) -> dict[str, str]:
    """`prompt=question,response=reply` as a mapping.

    Raises:
        DataError: a part without "=", or one field named twice.
    """
    mapping: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        ours, equals, theirs = (word.strip() for word in part.partition("="))
        if not (ours and equals and theirs) or ours in mapping:
            raise DataError(
                f"{part!r} in the field map says nothing, or says it twice",
                fix="write it as prompt=their_prompt_field,response=their_response_field",
            )
        mapping[ours] = theirs
    return mapping


def _check_expert_ratio(ratio: float) -> None:
    if not _is_number(ratio):
        raise DataError(f"expert_ratio={ratio!r} is no number", fix="give a share such as 0.25")
    if ratio == 0:
        raise DataError(
            "expert_ratio=0 leaves the SFT side without verifiable rows",
            fix="give a share above 0; to train by RL alone keep the split and choose variant=grpo",
        )
    if ratio == 1:
        raise DataError(
            "expert_ratio=1 leaves the RL side empty",
            fix="give a share below 1; to train by SFT alone keep the split and choose variant=sft",
        )
    if not 0 < ratio < 1:
        raise DataError(f"expert_ratio={ratio} is outside 0..1", fix="it is a share of rows: 25% is 0.25")


def _check_system_prompt(prompt: str) -> None:
    if not isinstance(prompt, str):
        raise DataError(f"system_prompt={prompt!r} is no text", fix='give a text, or "" for no system prompt')
    if prompt and not prompt.strip():
        raise DataError("system_prompt holds only white space", fix='give a text, or "" for no system prompt')
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError("system_prompt is not valid UTF-8", fix="type it in a UTF-8 terminal") from error
    if "\0" in prompt:
        raise DataError("system_prompt holds a NUL character", fix="remove it")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
