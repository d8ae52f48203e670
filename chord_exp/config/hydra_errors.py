"""What Hydra and OmegaConf refuse, as one readable line with a suggestion."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.abc import Traversable

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from chord_exp.config.compose import known_keys
from chord_exp.errors import ConfigError
from chord_exp.trinity_config.old_names import old_name
from chord_exp.utils.text import did_you_mean

REFUSALS = (HydraException, OmegaConfBaseException)


def groups() -> dict[str, list[str]]:
    """The configuration groups of the package and their options."""
    found: dict[str, list[str]] = {}

    def walk(folder: Traversable, name: str) -> None:
        options = sorted(file.name[: -len(".yaml")] for file in folder.iterdir() if file.name.endswith(".yaml"))
        if name and options:
            found[name] = options
        for inner in folder.iterdir():
            if inner.is_dir() and not inner.name.startswith("_"):
                walk(inner, f"{name}/{inner.name}" if name else inner.name)

    walk(resources.files("chord_exp.conf"), "")
    return found


def unknown_key(key: str) -> ConfigError:
    """The refusal of a key that the configuration does not have."""
    if found := old_name(key):
        return ConfigError(
            f"unknown key {key!r}: {found[0]!r} is a name of older Trinity configurations",
            key,
            f"use {found[1]}",
        )
    known = [*known_keys(), *groups()]
    hint = did_you_mean(key, known) or "see --cfg job for all keys; Trinity's own keys go under trinity."
    return ConfigError(f"unknown key {key!r}", key, hint)


class CompositionError(ConfigError):
    """A configuration that Hydra does not compose: an unknown key or option, or a value of the wrong type."""


@contextmanager
def hydra_errors_in_one_line() -> Iterator[None]:
    """Turn what Hydra and OmegaConf refuse into a ConfigError."""
    try:
        yield
    except REFUSALS as error:
        said = to_config_error(error)
        raise CompositionError(said.what, said.where, said.fix) from error


def to_config_error(error: Exception) -> ConfigError:
    """Return one readable line for an exception of Hydra or OmegaConf."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override), _first_line(error))
    if isinstance(error, MissingConfigException):
        return _missing_config(error)
    if isinstance(cause, MissingMandatoryValue):
        key = _full_key(cause) or _quoted(str(cause)) or "?"
        return ConfigError(f"{key} has no value", key, f"give {key}=...")
    text = str(error)
    for pattern in (r"Could not override '([^'@]+)", r"group '([^']+)'\s+does not"):
        if match := re.search(pattern, text):
            return _could_not_override(match.group(1), cause)
    if isinstance(cause, OmegaConfBaseException):
        return _from_omegaconf(cause, text)
    return ConfigError(_first_line(error), "command line", "")


def _unreadable(override: str, why: str) -> ConfigError:
    """Name the word to type: Hydra reads a value in quotes as it stands, and a shell needs quotes around those."""
    key, equals, value = override.partition("=")
    if not equals or not value:
        return ConfigError(f"cannot read the override {override!r}", "command line", "write key=value")
    quoted = "'{}'".format(value.replace("'", "\\'"))
    word = f"{key}={quoted}"
    typed = shlex.quote(word) if set(word) & set('"$`\\!') else f'"{word}"'
    # of a character outside ASCII, say, Hydra's lexer has no more to tell than the override itself
    reason = "" if why.startswith("Lexer") else f": {why}"
    return ConfigError(f"cannot read the override {override!r}{reason}", "command line", f"type {typed}")


def _could_not_override(key: str, cause: BaseException) -> ConfigError:
    key = key.replace("/", ".")
    if isinstance(cause, ValidationError):
        return _from_omegaconf(cause, str(cause))
    if key.startswith("hydra."):
        return ConfigError(f"unknown key {key!r}", key, "see --cfg hydra for Hydra's own keys")
    return unknown_key(key)


def _from_omegaconf(cause: OmegaConfBaseException, text: str) -> ConfigError:
    key, message = _full_key(cause), _first_line(cause)
    if re.match(r"Key '.*' (is )?not in ", message):
        return unknown_key(key or _quoted(message) or "?")
    if "Interpolation key" in message or "InterpolationKeyError" in text:
        return ConfigError(message, key, "name an existing key in ${...}, or put the value in single quotes")
    shown = re.sub(r"^Value (.*) of type '[^']*' could not be converted to ", r"\1 is no ", message)
    return ConfigError(f"{key}: {shown}" if key else shown, key, "see --cfg job for the type of value in use")


def _missing_config(error: MissingConfigException) -> ConfigError:
    wanted = str(error.missing_cfg_file or _quoted(str(error)) or "")
    group, _, option = wanted.rpartition("/")
    options = list(error.options or groups().get(group, []))
    if not group:
        return ConfigError(_first_line(error), wanted, "check --config-name and --config-dir")
    hint = did_you_mean(option, options)
    listed = f"options: {', '.join(options)}" if options else ""
    return ConfigError(f"{group}={option} is not known", group, " ".join(filter(None, (hint, listed))))


def _full_key(error: BaseException) -> str:
    return str(getattr(error, "full_key", None) or "")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _quoted(text: str) -> str:
    match = re.search(r"'([^']+)'", text)
    return match.group(1) if match else ""
