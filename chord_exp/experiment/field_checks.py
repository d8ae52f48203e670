"""Checks of one field of a specification. Each raises ConfigError with the value, the key and what to do."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from typing import Any

from chord_exp.errors import ConfigError

_SAFE_NAME = re.compile(r"\w[\w.+-]{0,99}")


def require(condition: bool, what: str, where: str, fix: str) -> None:
    """Refuse with what is wrong, the key, and what to do."""
    if not condition:
        raise ConfigError(what, where, fix)


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Check a word against those that are known."""
    require(value in choices, f"{key}={value} is not known", key, f"use one of {', '.join(choices)}")


def safe_name(key: str, value: str) -> None:
    """Names become folders and Ray namespaces: nothing in them may leave the output folder."""
    require(
        _SAFE_NAME.fullmatch(value) is not None,
        f"{key}={value!r} cannot be the name of a folder",
        key,
        "use letters, digits and _ . + - , starting with a letter or digit, at most 100 of them",
    )


def tracker_label(key: str, text: str, maximum: int) -> None:
    """Check a label against what trackers take: some text of at most so many characters."""
    require(
        0 < len(text.strip()) <= maximum,
        f"{key}={text!r} is no label that trackers take",
        key,
        f"give 1 to {maximum} characters",
    )


def check_min(owner: Any, prefix: str, minimum: float, *names: str) -> None:
    """Check numeric fields of a dataclass against an inclusive lower bound; None passes."""
    for name in names:
        value, key = getattr(owner, name), f"{prefix}{name}"
        if value is not None:
            require(value >= minimum, f"{key}={value} is below {minimum}", key, f"give {minimum} or more")


def finite(owner: Any, prefix: str) -> None:
    """Check that no number of a dataclass is NaN or infinite."""
    for field in fields(owner):
        value = getattr(owner, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            key = f"{prefix}{field.name}"
            raise ConfigError(f"{key}={value} is not a finite number", key, "give an ordinary number")


def check_window(prompt: int, response: int, window: int) -> None:
    """Check that the longest prompt and the longest response fit the model's window together, tokens."""
    needed = prompt + response
    require(
        window >= needed,
        f"model.max_prompt_tokens={prompt} + model.max_response_tokens={response} = {needed} does not fit "
        f"model.max_model_len={window}",
        "model.max_model_len",
        f"raise it to {needed}, set it to null, or shorten prompt or response",
    )
