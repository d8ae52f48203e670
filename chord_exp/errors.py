"""The errors a user meets. Each prints as one readable line: what is wrong, where, and what to do about it."""

from __future__ import annotations

SUCCEEDED = 0
RUN_FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


class ChordExpError(Exception):
    """Root of every error this package raises on purpose.

    Args:
        what: the fault, with the offending values in it.
        where: file, key or line at fault; empty when there is no single place.
        fix: what the user can do about it; empty when nothing is known.
    """

    exit_code = RUN_FAILED

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        remedy = f" -> {self.fix}" if self.fix else ""
        return " ".join(f"{self.what}{place}{remedy}".split())


class ConfigError(ChordExpError, ValueError):
    """A configuration that cannot be run as written."""

    exit_code = BAD_INPUT


class DataError(ChordExpError, ValueError):
    """Input data that cannot be used as it is."""

    exit_code = BAD_INPUT


class RunFailed(ChordExpError, RuntimeError):
    """A run that started and did not do what was planned."""
