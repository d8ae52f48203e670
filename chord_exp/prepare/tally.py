"""Counts kept while reading, and the identity they must satisfy: every row read is written, rejected or a
duplicate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chord_exp.prepare.layout import SIDES

_PERCENTILES = (50, 90, 99)


@dataclass
class FileTally:
    """Rows of one input file; `duplicates` are exact ones of a row read before."""

    read: int = 0
    rejected: int = 0
    duplicates: int = 0


@dataclass
class Tally:
    """Rows of a whole preparation."""

    files: dict[str, FileTally] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    same_prompt: int = 0
    """Rows left out because a rollout or held-out prompt needs to stand there only once."""

    def total(self, name: str) -> int:
        return sum(getattr(file, name) for file in self.files.values())

    def rows(self, written: dict[str, int]) -> dict[str, Any]:
        """The manifest's row counts.

        Args:
            written: rows written to each side.

        Raises:
            AssertionError: a row was lost or made up: a fault of this package, never of the data.
        """
        read, rejected, exact = (self.total(name) for name in ("read", "rejected", "duplicates"))
        accounted = sum(written.values()) + rejected + exact + self.same_prompt
        if accounted != read:
            raise AssertionError(f"{read} rows read but {accounted} accounted for")
        return {
            "read": read,
            "rejected": rejected,
            "duplicates": {"exact": exact, "same_prompt": self.same_prompt},
            **{side: written[side] for side in SIDES},
        }


def percentiles(values: Iterable[int]) -> dict[str, int]:
    """Nearest-rank percentiles and the maximum of a non-empty collection."""
    ordered = sorted(values)
    ranks = {f"p{share}": ordered[max(0, -(-share * len(ordered) // 100) - 1)] for share in _PERCENTILES}
    return {**ranks, "max": ordered[-1]}
