"""Read a node of Hydra's (`hydra.launcher`, `hydra.sweeper`) into a dataclass that checks its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, ValidationError

from chord_exp.errors import ConfigError

T = TypeVar("T")


def read(kind: type[T], node: str, values: Mapping[str, Any]) -> T:
    """Make the dataclass of a node's values.

    Raises:
        ConfigError: a key that is not known or missing, or a value of another type.
    """
    types = {entry.name: entry.type for entry in fields(cast(Any, kind))}
    given = {key: value for key, value in values.items() if key != "_target_"}
    try:
        return cast(T, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), given)))
    except (ConfigKeyError, MissingMandatoryValue, ValidationError) as error:
        name = str(error.full_key)
        key = f"{node}.{name}"
        if isinstance(error, ConfigKeyError):
            raise ConfigError(f"{key} is not known", key, f"the keys are {', '.join(sorted(types))}") from None
        if isinstance(error, MissingMandatoryValue):
            raise ConfigError(f"{key} is missing", key, "give it; the option files in conf/hydra have all") from None
        top = name.partition("[")[0].partition(".")[0]
        what = f"{key}={OmegaConf.select(OmegaConf.create(given), name)!r} has the wrong type"
        raise ConfigError(what, key, f"it is declared as {types[top]}") from None
