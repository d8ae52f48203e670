"""Whether a configuration fits Trinity's own schema. Slow to import: used when a user sets Trinity's keys."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from chord_exp.errors import ConfigError
from chord_exp.utils.text import did_you_mean


def check_schema(config: dict[str, Any]) -> None:
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
