"""Columns that a user names: a format of their own, and a least score."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from chord_exp.errors import DataError
from chord_exp.prepare.rejects import Reject, clip
from chord_exp.prepare.rows.conversation import Record
from chord_exp.prepare.rows.formats import Format
from chord_exp.prepare.rows.reading import HandReadings, Reading, find_reading, lookup

MAPPED_FIELDS = ("prompt", "response", "system", "answer", "messages", "tools", "score")
"""What can be named by hand."""

FindReading = Callable[[Record], tuple[Reading, Record]]

_LEAST = re.compile(r"(.+?)\s*>=\s*(-?[0-9]+(?:\.[0-9]+)?)")


class LeastScore(NamedTuple):
    """A column of numbers, and the least number of a row that is used."""

    column: str
    least: float

    def refuse_below(self, record: Record) -> None:
        """Refuse a row below it.

        Raises:
            Reject: its number is smaller, or it has none.
        """
        score: Any = lookup(record, self.column)
        try:
            if float(score) >= self.least:
                return
        except (TypeError, ValueError):
            pass
        raise Reject("low_score", f"{self.column!r} is {clip(repr(score), 20)}, and {self.least:g} is the least")


def least_score(mapping: Mapping[str, str]) -> LeastScore | None:
    """Return what a field map says of a score: `rating>=4`; None when it says nothing.

    Raises:
        DataError: it has no threshold.
    """
    if "score" not in mapping:
        return None
    match = _LEAST.fullmatch(mapping["score"].strip())
    if match is None:
        raise DataError(
            f"the field map has score={mapping['score']}, without a threshold",
            fix="name the column and the least number that is used: score=rating>=4",
        )
    return LeastScore(match[1], float(match[2]))


def mapped_format(mapping: Mapping[str, str]) -> Format | None:
    """Return the format of rows whose columns a user has named; None when it names a score only: formats are detected.

    Args:
        mapping: for some of MAPPED_FIELDS the column that holds it; a dot leads into a nested object.

    Raises:
        DataError: an unknown name, or neither messages nor prompt with response or answer.
    """
    unknown = [name for name in mapping if name not in MAPPED_FIELDS]
    if unknown:
        raise DataError(
            f"the field map names {unknown[0]!r}", fix=f"map some of {', '.join(MAPPED_FIELDS)} to fields of your rows"
        )
    if set(mapping) == {"score"}:
        return None
    if "messages" not in mapping and not ("prompt" in mapping and ("response" in mapping or "answer" in mapping)):
        raise DataError(
            "the field map does not say where question and answer lie",
            fix="map prompt and response, or messages (prompt and answer alone: rows for RL only)",
        )
    if "messages" in mapping and ("prompt" in mapping or "response" in mapping):
        raise DataError(
            "the field map names messages and prompt or response: both say what is asked",
            fix="map messages alone (with system, answer, tools), or prompt and response",
        )

    def column(name: str) -> tuple[str, ...]:
        return (mapping[name],) if name in mapping else ()

    return Format(
        "mapped",
        turns=column("messages"),
        prompt=column("prompt"),
        reply=column("response"),
        answer=column("answer"),
        system=column("system"),
        tools=column("tools"),
        history=(),
        reasoning=(),
        by_hand=True,
    )


def readings_of(mapping: Mapping[str, str]) -> FindReading:
    """Return what finds the reading of a row: by the columns named by hand, else by the known formats."""
    mapped = mapped_format(mapping) if mapping else None
    return find_reading if mapped is None else HandReadings(mapped).find
