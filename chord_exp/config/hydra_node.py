"""Reading a node of Hydra's (`hydra.launcher`, `hydra.sweeper`) into a dataclass that checks its values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from chord_exp.errors import ConfigError

T = TypeVar("T")


def read(kind: type[T], node: str, values: Mapping[str, Any]) -> T:
    """Make the dataclass of a node's values.

    Raises:
        ConfigError: a key that is not known, or one that is missing.
    """
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    given = {key: value for key, value in values.items() if key != "_target_"}
    if unknown := sorted(set(given) - known):
        raise refusal(node, unknown[0], "is not known", f"the keys are {', '.join(sorted(known))}")
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError(f"{node} is incomplete: {error}", node) from None


def one_of(owner: Any, node: str, choices: Mapping[str, Collection[str]]) -> None:
    """Check words against those that are known, by key."""
    for key, known in choices.items():
        if (value := getattr(owner, key)) not in known:
            raise refusal(node, key, f"{value!r} is not known", f"use one of {', '.join(known)}")


def whole_numbers(owner: Any, node: str, least: Mapping[str, int], optional: Collection[str] = ()) -> None:
    """Check whole numbers against their inclusive lower bounds, by key; None passes for the optional ones."""
    for key, lowest in least.items():
        value = getattr(owner, key)
        if value is None and key in optional:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise refusal(node, key, f"{value!r} is no whole number of {lowest} or more", "give one")


def refusal(node: str, key: str, what: str, fix: str) -> ConfigError:
    """What is wrong with a key, and what to do."""
    return ConfigError(f"{node}.{key}: {what}", f"{node}.{key}", fix)
