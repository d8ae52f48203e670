"""Writes the sides: one folder each, one fixed schema each, strings only (layout.py)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson


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

    def write(self, row: dict[str, Any]) -> None:
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        self._file.write(line)
        self._sha256.update(line)
        self.rows += 1
        self.bytes += len(line)

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
