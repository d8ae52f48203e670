"""All usable rows as columns of numbers, 89 bytes a row; their text lies in spool files.

A worker packs each row with `PACKED`; the parent appends the blocks to one file and reads back only the columns that a
step needs, so that a million rows take tens of megabytes, not gigabytes.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

_FIELDS = (
    # identity of the conversation, for exact duplicates
    ("digest_high", "Q"),
    ("digest_low", "Q"),
    # hash of the payload: decides between duplicates, and the order in which rows are written
    ("rank", "Q"),
    # prompt group; its halves are the two ranks of the split
    ("group_high", "Q"),
    ("group_low", "Q"),
    # hash of the answer's value, 0 when there is none
    ("value", "Q"),
    # where the row's text lies in its spool
    ("offset", "Q"),
    ("sft_bytes", "I"),
    ("rl_bytes", "I"),
    ("line", "I"),
    ("prompt_chars", "I"),
    ("prompt_bytes", "I"),
    ("response_chars", "I"),
    ("response_bytes", "I"),
    ("kind", "B"),
    ("reason", "B"),
    ("language", "B"),
    ("flags", "B"),
    ("scoring", "B"),
)
PACKED = struct.Struct("<" + "".join(code for _, code in _FIELDS))
FIELD_NAMES = tuple(name for name, _ in _FIELDS)

AS_WRITTEN, LAST_ONLY, SEVERAL_TURNS, RL_ONLY = 1, 2, 4, 8
"""Bits of `flags`: the response scores as it stands; earlier answers must not be trained; there are earlier answers;
the record has no response."""

_NUMPY_CODES = {"Q": "<u8", "I": "<u4", "B": "u1"}
_ROWS_A_READ = 1 << 15


class Columns:
    """The rows of a preparation, block after block; each block comes from one chunk of one input file.

    Args:
        store: binary file, open for writing and reading, that takes the packed rows.
    """

    def __init__(self, store: BinaryIO) -> None:
        self._store = store
        self._starts: list[int] = []
        self._sources: list[tuple[int, int]] = []
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, packed: bytes, file: int, spool: int) -> None:
        """Add the rows of one chunk.

        Args:
            packed: rows as `PACKED` packs them, one after the other.
            file: number of the input file.
            spool: number of the spool that holds their text.
        """
        if not packed:
            return
        self._starts.append(self._rows)
        self._sources.append((file, spool))
        self._rows += len(packed) // PACKED.size
        self._store.write(packed)

    def load(self, *names: str) -> dict[str, np.ndarray[Any, Any]]:
        """Some columns as arrays of shape (rows,)."""
        import numpy as np

        self._store.flush()
        kind = np.dtype({"names": FIELD_NAMES, "formats": [_NUMPY_CODES[code] for _, code in _FIELDS]})
        assert kind.itemsize == PACKED.size
        columns = {name: np.empty(self._rows, kind[name]) for name in names}
        self._store.seek(0)
        for start in range(0, self._rows, _ROWS_A_READ):
            block = np.frombuffer(self._store.read(_ROWS_A_READ * PACKED.size), kind)
            for name, column in columns.items():
                column[start : start + len(block)] = block[name]
        self._store.seek(0, 2)
        return columns

    def files(self) -> np.ndarray[Any, Any]:
        """Number of the input file of each row."""
        return self._spread(0)

    def spools(self) -> np.ndarray[Any, Any]:
        """Number of the spool of each row."""
        return self._spread(1)

    def _spread(self, which: int) -> np.ndarray[Any, Any]:
        import numpy as np

        numbers = np.array([source[which] for source in self._sources], np.uint32)
        return np.repeat(numbers, np.diff([*self._starts, self._rows]))

    def source(self, row: int) -> int:
        """Number of the input file of one row."""
        return self._sources[bisect_right(self._starts, row) - 1][0]
