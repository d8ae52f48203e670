"""The settings that decide which row of a data set goes where, declared once. Standard library only.

`data.*` of a run (experiment.sections.DataSpec), the options of `python -m chord_exp.prepare` and the digest that names
a prepared folder are made from the fields below; values come from conf/data. They stand here, since both rooms need
them and neither may import the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from chord_exp.errors import ConfigError

NONE, JUDGE, CHRF, BLEU = "none", "judge", "chrf", "bleu"
# what becomes of free text: the SFT side only, a judge model, or similarity to the expert's response
FREE_TEXT_CHOICES = (NONE, JUDGE, CHRF, BLEU)
# of eval_rows: every prompt that can be scored, of a benchmark
ALL = -1


def _setting(help_: str, metavar: str = "", **argument: Any) -> Any:
    """A field with what argparse needs to know of it."""
    return field(metadata={"help": help_, **({"metavar": metavar} if metavar else {}), **argument})


# by name alone, so that a class that adds fields may have some without a default
@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """What decides which row goes where.

    Raises:
        ConfigError: a value out of range, with the key and the remedy.
    """

    # share of the verifiable training rows that become expert (SFT) rows, in (0, 1); the rest becomes RL prompts
    expert_ratio: float = _setting("share that goes to SFT", "R")
    # prompts held out of both sides for evaluation; ALL of them make a benchmark, which nothing is trained on
    eval_rows: int = _setting("prompts held out of both sides; -1: all", "N")
    # prompts held out besides, for a test set that nothing is chosen by
    test_rows: int = _setting("prompts of a test set, held out besides", "N")
    # of the hash that splits
    seed: int = _setting("another seed, another split", "N")
    # of expert rows, rollouts and evaluation alike; written into expert rows that have none; empty for none
    system_prompt: str = _setting("the run's system prompt, put into SFT rows", "TEXT")
    # folder of evaluation data whose prompts must not be trained on; null for none
    eval_dir: str | None = _setting("evaluation data that must not be trained on", "DIR")
    # fields of the raw rows named by hand, such as {prompt: question, response: reply}; empty to detect formats
    map: Mapping[str, Any] = _setting("prompt=my_field,response=my_other_field", "FIELDS")
    # similarity from which two rows are near duplicates, in (0, 1]; null to keep them
    near_dedup: float | None = _setting("drop rows alike from similarity S (0.8)", "S", nargs="?", const=0.8)
    # score each expert's answer with the reward; what fails stays on the SFT side
    answer_check: bool = _setting("score the experts' answers by the reward")
    # leave out expert rows that have more tokens than the model's window, and count them
    drop_long: bool = _setting("drop rows over --max-tokens")
    # leave out conversations in which the model speaks more than once, and count them
    single_turn: bool = _setting("drop conversations of several turns")
    # what becomes of free text: none (SFT only), judge, chrf or bleu
    free_text: str = _setting("|".join(FREE_TEXT_CHOICES), "HOW", choices=FREE_TEXT_CHOICES)

    def key(self, name: str) -> str:
        """What the user calls a setting."""
        return f"--{name.replace('_', '-')}"

    def split_arguments(self) -> dict[str, Any]:
        """The settings by name, as JSON takes them. The evaluation data counts by its content, not by its place."""
        values = {one.name: getattr(self, one.name) for one in fields(SplitSettings) if one.name != "eval_dir"}
        return {**values, "map": dict(self.map)}

    def __post_init__(self) -> None:
        ratio = self.expert_ratio
        self._require("expert_ratio", _is_number(ratio), "is no number", "give a share such as 0.25")
        self._require(
            "expert_ratio",
            ratio != 0,
            "leaves the SFT side without verifiable rows",
            "give a share above 0; to train by RL alone keep the split and choose variant=grpo",
        )
        self._require(
            "expert_ratio",
            ratio != 1,
            "leaves the RL side empty",
            "give a share below 1; to train by SFT alone keep the split and choose variant=sft",
        )
        self._require("expert_ratio", 0 < ratio < 1, "is outside 0..1", "it is a share of rows: 25% is 0.25")
        for name in ("eval_rows", "test_rows", "seed"):
            value = getattr(self, name)
            good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            everything = name == "eval_rows" and value == ALL
            self._require(name, good or everything, "is no integer of 0 or more", "give one")
        near = self.near_dedup
        self._require(
            "near_dedup",
            near is None or (_is_number(near) and 0 < near <= 1),
            "is no similarity",
            "give a number above 0 up to 1, such as 0.8, or null",
        )
        self._require(
            "free_text",
            self.free_text in FREE_TEXT_CHOICES,
            "is not known",
            f"use one of {', '.join(FREE_TEXT_CHOICES)}",
        )
        prompt = self.system_prompt
        nothing = 'give a text, or "" for no system prompt'
        self._require("system_prompt", isinstance(prompt, str), "is no text", nothing)
        self._require("system_prompt", not prompt or bool(prompt.strip()), "holds only white space", nothing)
        self._require("system_prompt", "\0" not in prompt, "holds a NUL character", "remove it")
        self._require("system_prompt", _is_utf8(prompt), "is not valid UTF-8", "type it in a UTF-8 terminal")

    def _require(self, name: str, condition: bool, what: str, fix: str) -> None:
        if not condition:
            raise ConfigError(f"{self.key(name)}={getattr(self, name)!r} {what}", self.key(name), fix)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
