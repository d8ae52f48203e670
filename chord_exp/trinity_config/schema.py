"""Whether a configuration fits Trinity's own schema. Slow to import: used when a user sets Trinity's keys."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from chord_exp.errors import ConfigError
from chord_exp.trinity_config.installed import verl_is_legacy
from chord_exp.trinity_config.old_names import old_name
from chord_exp.trinity_config.user_overrides import flatten, lookup
from chord_exp.utils.text import did_you_mean

TRAINER_CONFIG = "trainer.trainer_config"
# around verl's sections in files for older versions of Trinity, which 0.6 takes off
WRAPPER = "actor_rollout_ref"


def check_schema(config: dict[str, Any]) -> None:
    """Refuse what Trinity's schema refuses, and what Trinity passes over.

    Raises:
        ConfigError: a key that Trinity does not have, a value of the wrong type, or one that has no effect.
    """
    merge_into_schema(config)
    for path in passed_over(config):
        raise passed_over_error(path)


def merge_into_schema(config: dict[str, Any]) -> None:
    """Merge a configuration into Trinity's schema, as `trinity run` does.

    Raises:
        ConfigError: a key that Trinity does not have, or a value of the wrong type.
    """
    from trinity.common.config import Config

    try:
        OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(config))
    except OmegaConfBaseException as error:
        key = str(error.full_key or "")
        message = str(error).splitlines()[0]
        if " not in '" in message:
            known = _keys(Config)
            hint = did_you_mean(key, known) or "see Trinity's documentation of its configuration"
            raise ConfigError(f"Trinity has no key {key!r}", f"trinity.{key}", hint) from error
        raise ConfigError(
            f"Trinity does not take {key}: {message}", f"trinity.{key}", "give a value of that type"
        ) from error


def passed_over_error(path: str) -> ConfigError:
    """Return the refusal of a key that has no effect."""
    used = old_name(path.rpartition(".")[2])
    hint = f"use {used[1]}" if used else "leave it out: Trinity writes that key itself, or does not hand it to verl"
    return ConfigError(f"Trinity passes over {path} without a word", f"trinity.{path}", hint)


def passed_over(config: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys of verl below `trainer.trainer_config` that Trinity, on verl >= 0.8, does not hand on."""
    given = lookup(config, TRAINER_CONFIG)
    if not isinstance(given, Mapping) or not given or verl_is_legacy():
        return []
    from trinity.trainer.verl.config import _MERGEABLE_KEYS, FROZEN_KEYS

    ignored = []
    for path, _ in flatten(given):
        inner = path.removeprefix(f"{WRAPPER}.")
        if inner.split(".")[0] not in _MERGEABLE_KEYS or inner in FROZEN_KEYS:
            ignored.append(f"{TRAINER_CONFIG}.{path}")
    return ignored


def trinity_keys() -> list[str]:
    """Dotted keys of Trinity's configuration; members of lists and of auxiliary buffers stand without a name."""
    from trinity.common.config import Config

    return _keys(Config)


def _keys(cls: type, prefix: str = "", depth: int = 6) -> list[str]:
    """Dotted keys of a dataclass and the dataclasses below it, optional ones included."""
    found = []
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        found.append(prefix + field.name)
        options = typing.get_args(hints[field.name]) or (hints[field.name],)
        for kind in options:
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and depth:
                found += _keys(kind, f"{prefix}{field.name}.", depth - 1)
    return found
