"""What a study asks: a sweep whose groups of runs are compared with one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.experiment.field_checks import require


@dataclass(frozen=True)
class StudySpec:
    """The node `study` of a composed configuration.

    Raises:
        ConfigError: a part is missing or empty.
    """

    # a heading
    title: str
    # what the study is to answer
    question: str
    # the keys whose values make the groups
    by: list[str]
    # their values in the group that the others are compared with
    reference: list[str]

    def __post_init__(self) -> None:
        for name in ("title", "question"):
            text, key = getattr(self, name), f"study.{name}"
            require(isinstance(text, str) and bool(text.strip()), f"{key} is empty", key, "give a text")
        require(
            bool(self.by) and len(self.by) == len(self.reference),
            f"study.by={self.by} and study.reference={self.reference} do not go together",
            "study.reference",
            "give a value for each key",
        )

    @classmethod
    def read(cls, values: Mapping[str, Any] | None) -> StudySpec | None:
        """Make one of a configuration's node; None where there is no study.

        Raises:
            ConfigError: see the class; or a key that is not known.
        """
        if values is None:
            return None
        names = [field.name for field in fields(cls)]
        if set(values) != set(names):
            wrong = sorted(set(values) ^ set(names))[0]
            raise ConfigError(f"study.{wrong} is {'not known' if wrong in values else 'missing'}", f"study.{wrong}")
        listed = {name: _listed(values[name]) for name in ("by", "reference")}
        return cls(values["title"], values["question"], **listed)


def _listed(value: Any) -> list[str]:
    """One value, or a list of them, as texts."""
    return [str(one) for one in (value if isinstance(value, list) else [value])]
