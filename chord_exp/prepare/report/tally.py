"""Counts kept while reading, and the identity they must satisfy: every row read is written, rejected or a
duplicate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chord_exp.prepare.chunk_reader import ChunkResult
from chord_exp.prepare.columns import Columns
from chord_exp.prepare.split.assign import Assignment
from chord_exp.trinity_config.rows import SIDES


@dataclass
class FileTally:
    """Rows of one input file; `duplicates` are exact ones of another row, `near` those like another one."""

    read: int = 0
    rejected: int = 0
    duplicates: int = 0
    near: int = 0
    # what a user should hear of how the file is read
    notes: list[str] = field(default_factory=list)


@dataclass
class Tally:
    """Rows of a whole preparation.

    Args:
        files: by name.
        formats: usable rows, by format.
        rejects: rows that cannot be used, by reason.
        unused: columns that no format reads, with the usable rows that fill them.
        examples: the first of each reason, with its place.
        same_prompt: rows left out because a rollout or held-out prompt needs to stand there only once.
    """

    files: dict[str, FileTally] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    same_prompt: int = 0

    def take(self, result: ChunkResult) -> None:
        """Count a chunk."""
        file = self.files.setdefault(result.chunk.file.name, FileTally())
        file.read += result.read
        file.notes += result.chunk.notes
        file.rejected += result.rejects.total()
        self.rejects += result.rejects
        self.examples = {**result.examples, **self.examples}
        self.formats += result.formats
        self.unused += result.unused

    def count_final(self, assignment: Assignment, columns: Columns) -> None:
        """Count what only the whole showed: duplicates, and rows without a place."""
        import numpy as np

        names, number = list(self.files), columns.files()
        for dropped, what in ((assignment.exact, "duplicates"), (assignment.near, "near")):
            for name, count in zip(names, np.bincount(number[dropped], minlength=len(names)), strict=True):
                setattr(self.files[name], what, getattr(self.files[name], what) + int(count))
        for reason, rows in assignment.late_rejects:
            self.rejects[reason] += len(rows)
            for row in rows.tolist():
                self.files[names[number[row]]].rejected += 1
        self.same_prompt = len(assignment.same_prompt)

    def total(self, name: str) -> int:
        return sum(getattr(file, name) for file in self.files.values())

    def rows(self, written: dict[str, int]) -> dict[str, Any]:
        """The manifest's row counts.

        Args:
            written: rows written to each side.

        Raises:
            AssertionError: a row was lost or made up: a fault of this package, never of the data.
        """
        read, rejected, exact, near = (self.total(name) for name in ("read", "rejected", "duplicates", "near"))
        accounted = sum(written.values()) + rejected + exact + near + self.same_prompt
        if accounted != read:
            raise AssertionError(f"{read} rows read but {accounted} accounted for")
        return {
            "read": read,
            "rejected": rejected,
            "duplicates": {"exact": exact, "near": near, "same_prompt": self.same_prompt},
            **{side: written[side] for side in SIDES},
        }
