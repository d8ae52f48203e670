"""All usable rows of a preparation as columns of numbers; their text lies in a spool file. About 150 bytes of
memory a row."""

from __future__ import annotations

import os
from array import array
from typing import BinaryIO

from chord_exp.prepare.answers import KINDS
from chord_exp.prepare.rows import CONFLICTING, SFT_ONLY, SHARED_PROMPT, Lengths, Row

_REASONS = ("", *SFT_ONLY)


class Groups:
    """Prompt groups: one number each, and the two ranks that their digest holds."""

    def __init__(self) -> None:
        self._number: dict[bytes, int] = {}
        self.split_rank = array("Q")
        self.eval_rank = array("Q")

    def __len__(self) -> int:
        return len(self.split_rank)

    def number(self, digest: bytes) -> int:
        found = self._number.get(digest)
        if found is None:
            found = self._number[digest] = len(self.split_rank)
            self.split_rank.append(int.from_bytes(digest[:8], "big"))
            self.eval_rank.append(int.from_bytes(digest[8:], "big"))
        return found


class RowTable:
    """Rows without exact duplicates.

    Of two duplicates the verifiable one stays, else the one with the smaller hash: what is kept does not
    depend on the order.

    Args:
        spool: binary file, open for writing and reading, that takes the rows' text.
    """

    def __init__(self, spool: BinaryIO) -> None:
        self._spool = spool
        self._spooled = 0
        self._by_digest: dict[bytes, int] = {}
        self.groups = Groups()
        self._mentioned: set[int] = set()
        self._conflicting: set[int] = set()
        self.group = array("L")
        self.rank = array("Q")
        self.value = array("Q")
        self.kind = array("B")
        self.reason = array("B")
        self.as_written = array("B")
        self._offset = array("Q")
        self._size = array("L")
        self.lengths = {name: array("L") for name in Lengths._fields}

    def __len__(self) -> int:
        return len(self.rank)

    def add(self, row: Row) -> bool:
        """Takes a row in; False when it is an exact duplicate of one already here."""
        for digest in row.more_groups:
            self._mentioned.add(self.groups.number(digest))
        at = self._by_digest.get(row.digest)
        if at is None:
            self._by_digest[row.digest] = len(self)
            self._append(row)
            return True
        if row.value and self.value[at] and row.value != self.value[at]:
            self._conflicting.add(self.group[at])
        if (bool(row.sft_only), row.rank) < (bool(self.reason[at]), self.rank[at]):
            self._put(at, row)
        return False

    def _append(self, row: Row) -> None:
        self.group.append(self.groups.number(row.group))
        for column in (
            self.rank,
            self.value,
            self.kind,
            self.reason,
            self.as_written,
            self._offset,
            self._size,
        ):
            column.append(0)
        for column in self.lengths.values():
            column.append(0)
        self._put(len(self) - 1, row)

    def _put(self, at: int, row: Row) -> None:
        self.rank[at], self.value[at] = row.rank, row.value
        self.kind[at], self.reason[at] = KINDS.index(row.kind), _REASONS.index(row.sft_only)
        self.as_written[at] = row.as_written
        self._offset[at], self._size[at] = self._spooled, len(row.payload)
        for name, length in zip(Lengths._fields, row.lengths, strict=True):
            self.lengths[name][at] = length
        self._spool.write(row.payload)
        self._spooled += len(row.payload)

    def payload(self, at: int) -> bytes:
        """The text of a row; `finish` must have been called."""
        return os.pread(self._spool.fileno(), self._size[at], self._offset[at])

    def sft_only(self, at: int) -> str:
        """Why a row may not leave the SFT side; "" when it may."""
        return _REASONS[self.reason[at]]

    def finish(self) -> array[int]:
        """Ends the reading. Marks the rows whose prompt group keeps them on the SFT side.

        Returns:
            Free rows of each group: those that may go to any side; 0 for a group that must stay on the SFT
            side.
        """
        self._spool.flush()
        count = len(self.groups)
        bound = bytearray(count)
        for group in self._mentioned:
            bound[group] = 1
        first_value = array("Q", bytes(8 * count))
        conflicting = self._conflicting
        for group, reason, value in zip(self.group, self.reason, self.value, strict=True):
            if reason:
                bound[group] = 1
            if value and not first_value[group]:
                first_value[group] = value
            elif value and value != first_value[group]:
                conflicting.add(group)
        free = array("L", bytes(array("L").itemsize * count))
        for at, group in enumerate(self.group):
            if self.reason[at]:
                continue
            if group in conflicting:
                self.reason[at] = _REASONS.index(CONFLICTING)
            elif bound[group]:
                self.reason[at] = _REASONS.index(SHARED_PROMPT)
            else:
                free[group] += 1
        return free
