"""The settings of a split on a command line, and what a caller can be told while it is made."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable
from dataclasses import fields
from importlib import resources
from typing import Any

from chord_exp.errors import DataError
from chord_exp.utils.split_settings import SplitSettings

# told now and then: what is being done, how much of it, out of how much, and the rows read so far
Progress = Callable[[str, int, int, int], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each setting; what is not given has the value of conf/data/prepared.yaml."""
    defaults, hints = _defaults(), typing.get_type_hints(SplitSettings)
    for setting in fields(SplitSettings):
        facts: dict[str, Any] = dict(setting.metadata)
        if hints[setting.name] is bool:
            facts["action"] = "store_true"
        else:
            kind = next(iter(typing.get_args(hints[setting.name])), hints[setting.name])
            facts["type"] = parse_map if setting.name == "map" else kind
            if defaults[setting.name] not in (None, "", {}):
                facts["help"] += f" ({defaults[setting.name]})"
        parser.add_argument(f"--{setting.name.replace('_', '-')}", default=defaults[setting.name], **facts)


def settings_from(arguments: argparse.Namespace) -> SplitSettings:
    """Return the settings that `add_arguments` made options for.

    Raises:
        ConfigError: a value out of range.
    """
    return SplitSettings(**{setting.name: getattr(arguments, setting.name) for setting in fields(SplitSettings)})


def default_settings() -> SplitSettings:
    """Return the settings of a command line without options."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_from(parser.parse_args([]))


def _defaults() -> dict[str, Any]:
    import yaml

    return yaml.safe_load(resources.files("chord_exp.conf").joinpath("data", "prepared.yaml").read_text("utf-8"))


def parse_map(text: str) -> dict[str, str]:
    """Return `prompt=question,response=reply` as a mapping.

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
