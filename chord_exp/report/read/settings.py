"""The settings of a run as it was composed, what differs from the defaults, and the study that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# the composed configuration of a run, and that of the same command line without a word: see `config.composer`
COMPOSED, DEFAULTS = ".hydra/config.yaml", ".hydra/defaults.yaml"
# settings that say nothing of what was learnt: seeds are what a group is drawn from, the others are names and places
NO_SETTING = re.compile(
    r"(seed|name|project|action|export_to|force|debug|resume|data\.(out|check)|cluster\.ray_address|monitor(\..*)?"
    r"|study(\..*)?)$"
)
STUDY = "study"


@dataclass(frozen=True)
class StudyPlan:
    """What a study asks, as its configuration says: the node `study`."""

    title: str
    question: str
    # keys whose values are the methods that are compared
    by: tuple[str, ...]
    # their values in the method that all others are compared with
    reference: tuple[str, ...]


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a file's mapping; an empty one where it is missing or damaged."""
    # libyaml, where it is: hundreds of files are read
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def study_plan(composed: Mapping[str, Any]) -> StudyPlan | None:
    """Return what a composed configuration says of its study; None where it belongs to none."""
    node = composed.get(STUDY)
    if not isinstance(node, dict) or not node.get("by"):
        return None
    settings = dict(flat(composed))
    by, reference = _listed(node["by"]), _listed(node.get("reference"))
    # a value may point to another setting
    values = (resolved({**settings, key: value})[key] for key, value in zip(by, reference, strict=False))
    return StudyPlan(str(node.get("title") or ""), str(node.get("question") or ""), by, tuple(values))


def _listed(value: Any) -> tuple[str, ...]:
    """One value, or a list of them, as texts."""
    return tuple(map(str, value if isinstance(value, list) else [value]))


def resolved(settings: dict[str, str]) -> dict[str, str]:
    """Return settings with those that point to another (`lr: ${model.lr}`) replaced by what they point to."""

    def follow(value: str, left: int) -> str:
        points = re.fullmatch(r"\$\{([\w.]+)\}", value)
        return follow(settings.get(points[1], value), left - 1) if points and left and points[1] in settings else value

    return {key: follow(value, len(settings)) for key, value in settings.items()}


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted key and value, as text, of each leaf of a tree."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, "null" if tree is None else str(tree)


def differences(settings: Mapping[str, str], defaults: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and default of what differs; a setting or a default that there is not is the empty text."""
    for key in dict.fromkeys((*settings, *defaults)):
        value, default = settings.get(key, ""), defaults.get(key, "")
        if value != default:
            yield key, value, default
