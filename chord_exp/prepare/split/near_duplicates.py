"""Near duplicates: rows whose texts share most of their character 5-grams, found by MinHash and banding.

Signatures are made by rensa (Rust) while rows are read. Afterwards rows that agree in a whole band are compared by
their signatures, band after band over sorted arrays: which row stays depends on hashes only, never on the order of
files.

A problem with other numbers is another problem: rows whose prompts hold different numbers, or whose answers differ, are
never near duplicates, however alike their wording.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from chord_exp.prepare.rows.text_keys import short_hash

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

PERMUTATIONS = 128
BANDS, ROWS_A_BAND = 21, 6
"""Chance that a pair of similarity s is compared: 1 - (1 - s^6)^21; 0.998 at s = 0.8."""
_SHINGLE = 5
_SEED = 1
_NUMBER = re.compile(r"[0-9]+")
_PRIME = 0x9E3779B97F4A7C15
# the signature, then the hash of the prompt's numbers
_RECORD = [("signature", "<u4", PERMUTATIONS), ("numbers", "<u8")]
RECORD_BYTES = 4 * PERMUTATIONS + 8
_PAIRS_AT_ONCE = 1 << 14


class Part(NamedTuple):
    """Signatures of consecutive rows.

    Args:
        path: file that holds them.
        first: offset of the first, bytes.
        rows: how many.
    """

    path: Path
    first: int
    rows: int


def signatures(texts: Sequence[tuple[str, str]]) -> bytes:
    """Records of RECORD_BYTES, one a row.

    Args:
        texts: normalised prompt and response of each row.
    """
    import numpy as np
    from rensa import RMinHash

    hashes, offsets = _shingle_hashes([f"{prompt}\n{response}" for prompt, response in texts])
    digests = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, PERMUTATIONS, _SEED).to_rows()
    numbers = [short_hash(" ".join(_NUMBER.findall(prompt)).encode()) for prompt, _ in texts]
    records = np.empty(len(texts), _RECORD)
    records["signature"] = np.frombuffer(b"".join(array("I", digest).tobytes() for digest in digests), "<u4").reshape(
        -1, PERMUTATIONS
    )
    records["numbers"] = numbers
    return records.tobytes()


def _shingle_hashes(texts: Sequence[str]) -> tuple[Array, list[int]]:
    """Hashes of all 5-grams of characters of all texts, one text after the other, and where each begins and ends."""
    import numpy as np

    padded = [text if len(text) >= _SHINGLE else text.ljust(_SHINGLE) for text in texts]
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    rolling = np.zeros(len(letters) - _SHINGLE + 1, np.uint64)
    for ahead in range(_SHINGLE):
        rolling = (rolling ^ letters[ahead : ahead + len(rolling)]) * np.uint64(_PRIME)
    sizes = np.array([len(text) for text in padded])
    # a 5-gram that begins in the last four letters of a text reaches into the next
    inside = np.ones(len(rolling), bool)
    borders = np.cumsum(sizes)[:-1]
    for back in range(1, _SHINGLE):
        inside[borders - back] = False
    return rolling[inside], [0, *np.cumsum(sizes - _SHINGLE + 1).tolist()]


def near_duplicates(parts: Sequence[Part], rank: Array, value: Array, threshold: float) -> Array:
    """Which rows have a near duplicate of lower rank.

    Args:
        parts: signatures of all rows, in their order.
        rank: hash rank of each row, shape (rows,).
        value: hash of each row's answer, shape (rows,).
        threshold: estimated Jaccard similarity from which two rows count as near duplicates.

    Returns:
        Booleans of shape (rows,).
    """
    import numpy as np

    found = np.zeros(len(rank), bool)
    by_rank = np.argsort(rank, kind="stable")
    store = _Signatures(parts)
    for keys in store.band_keys():
        # stable: within a bucket the lowest rank comes first
        order = by_rank[np.argsort(keys[by_rank], kind="stable")]
        sorted_keys = keys[order]
        same = np.flatnonzero(sorted_keys[1:] == sorted_keys[:-1]) + 1
        if not len(same):
            continue
        starts = np.flatnonzero(np.diff(same, prepend=-1) != 1)
        first = np.repeat(order[same[starts] - 1], np.diff(np.append(starts, len(same))))
        # each row against the lowest of its bucket and against its neighbour below
        pairs = np.concatenate([np.stack([order[same], order[same - 1]], 1), np.stack([order[same], first], 1)])
        pairs = pairs[~found[pairs[:, 0]] & (value[pairs[:, 0]] == value[pairs[:, 1]])]
        for at in range(0, len(pairs), _PAIRS_AT_ONCE):
            block = pairs[at : at + _PAIRS_AT_ONCE]
            found[block[store.alike(block, threshold), 0]] = True
    return found


class _Signatures:
    """The signatures of all rows, left on disk."""

    def __init__(self, parts: Sequence[Part]) -> None:
        import numpy as np

        maps = {path: np.memmap(path, _RECORD, "r") for path in {part.path for part in parts}}
        self._parts = [(maps[part.path], part.first // RECORD_BYTES, part.rows) for part in parts]
        self._ends = np.cumsum([part.rows for part in parts])

    def band_keys(self) -> Array:
        """A hash of each band of each row's signature, shape (bands, rows); a collision costs one comparison."""
        import numpy as np

        keys = np.zeros((BANDS, int(self._ends[-1]) if len(self._ends) else 0), np.uint64)
        at = 0
        for records, first, rows in self._parts:
            signature = records["signature"][first : first + rows, : BANDS * ROWS_A_BAND]
            for word in signature.reshape(rows, BANDS, ROWS_A_BAND).transpose(2, 1, 0):
                part = keys[:, at : at + rows]
                np.multiply(part ^ word, np.uint64(_PRIME), out=part)
                part ^= part >> np.uint64(29)
            at += rows
        return keys

    def alike(self, pairs: Array, threshold: float) -> Array:
        """Which pairs reach the threshold and hold the same numbers; booleans of shape (pairs,)."""
        one, other = self._gather(pairs[:, 0]), self._gather(pairs[:, 1])
        similar = (one["signature"] == other["signature"]).mean(axis=1) >= threshold
        return similar & (one["numbers"] == other["numbers"])

    def _gather(self, rows: Array) -> Array:
        import numpy as np

        part_of = np.searchsorted(self._ends, rows, side="right")
        gathered = np.empty(len(rows), _RECORD)
        for number in np.unique(part_of):
            records, first, count = self._parts[number]
            chosen = part_of == number
            gathered[chosen] = records[first + rows[chosen] - (self._ends[number] - count)]
        return gathered
