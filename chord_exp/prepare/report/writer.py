"""Writes the sides: one folder each, one fixed schema each, strings only (layout.py)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from chord_exp.prepare.answers.scoring import eval_line
from chord_exp.prepare.columns import Columns
from chord_exp.trinity_config.rows import EVAL, RL, SFT, TEST, output_name

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_ROWS_AT_ONCE = 1 << 12


class LinesWriter:
    """A file of one JSON object a line, hashed while it is written.

    Args:
        path: the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self._file = path.open("wb")
        self._sha256 = hashlib.sha256()
        self.rows = 0
        self.bytes = 0

    def write(self, lines: bytes, rows: int) -> None:
        """Append whole lines."""
        self._file.write(lines)
        self._sha256.update(lines)
        self.rows += rows
        self.bytes += len(lines)

    def facts(self) -> dict[str, Any]:
        """Rows, bytes and SHA-256 of what was written."""
        return {"rows": self.rows, "bytes": self.bytes, "sha256": self._sha256.hexdigest()}

    def __enter__(self) -> LinesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


class Spooled:
    """The text of all rows, each with its line for the SFT side and its line for the RL side.

    Args:
        columns: where the text lies.
        spools: the files, by number.
    """

    def __init__(self, columns: Columns, spools: list[Path]) -> None:
        self._spool_of = columns.spools()
        self._loaded = columns.load("offset", "sft_bytes", "rl_bytes")
        with ExitStack() as stack:
            self._files = [stack.enter_context(path.open("rb")) for path in spools]
            self._stack = stack.pop_all()

    def __enter__(self) -> Spooled:
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.close()

    def texts(self, rows: Array) -> Iterator[bytes]:
        """What there is of each row: its line for the SFT side, or for the RL side where it has no response."""
        for line, other in zip(self.lines(rows, SFT), self.lines(rows, RL), strict=True):
            yield line or other

    def lines(self, rows: Array, side: str) -> Iterator[bytes]:
        """The line of each row for a side; empty where it has none."""
        handles = [file.fileno() for file in self._files]
        offset, sft, rl = (self._loaded[name] for name in ("offset", "sft_bytes", "rl_bytes"))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            block = rows[start : start + _ROWS_AT_ONCE]
            first = offset[block] if side == SFT else offset[block] + sft[block]
            size = sft[block] if side == SFT else rl[block]
            places = zip(self._spool_of[block].tolist(), size.tolist(), first.tolist(), strict=True)
            lines = (os.pread(handles[spool], count, at) for spool, count, at in places)
            yield from map(eval_line, lines) if side in (EVAL, TEST) else lines


def write_sides(folder: Path, spooled: Spooled, sides: dict[str, Array]) -> dict[str, Any]:
    """Write every side that has rows.

    Args:
        folder: of the output.
        sides: row numbers of each side, in writing order.

    Returns:
        Rows, bytes and SHA-256 of each file, by its name.

    Raises:
        OSError: the disk is full or broken.
    """
    outputs = {}
    for side, rows in sides.items():
        if not len(rows):
            continue
        # hashing takes as long as reading the lines back, and lets other threads run
        with LinesWriter(folder / output_name(side)) as writer, ThreadPoolExecutor(1) as hand:
            lines, before = spooled.lines(rows, side), None
            while batch := list(islice(lines, _ROWS_AT_ONCE)):
                text = b"".join(batch)
                if before is not None:
                    before.result()
                before = hand.submit(writer.write, text, len(batch))
            if before is not None:
                before.result()
        outputs[output_name(side)] = writer.facts()
    return outputs
