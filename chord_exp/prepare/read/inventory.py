"""The input as it lies on the disk: which files, how large, with which content."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from chord_exp.errors import DataError
from chord_exp.prepare.read.files import InputFile, find_files


@dataclass(frozen=True)
class Inventory:
    """What a folder held when it was looked at.

    Args:
        folder: the folder.
        files: inputs in a fixed order.
        skipped: names of files that are no data.
        facts: of each input, in the same order: path, bytes and SHA-256, as in the manifest.
        states: size and time of change of each file, to see whether it changes while it is read.
    """

    folder: Path
    files: list[InputFile]
    skipped: list[str]
    facts: list[dict[str, Any]]
    states: dict[Path, tuple[int, int]]

    @property
    def bytes(self) -> int:
        return sum(fact["bytes"] for fact in self.facts)

    def refuse_changes(self) -> None:
        """Raises:
        DataError: a file is no longer what it was.
        """
        for path, state in self.states.items():
            if _state(path) != state:
                raise DataError(
                    "the input changed while it was read",
                    where=str(path.relative_to(self.folder)),
                    fix="prepare again once it is complete",
                )


def take_inventory(folder: Path) -> Inventory:
    """Look at a folder of raw data.

    Raises:
        DataError: no such folder, nothing readable in it, or no permission.
    """
    try:
        files, skipped = find_files(folder)
        found = [{path: _state(path) for path in _parts(file.path)} for file in files]
        # hashing is all that takes time here, and lets other threads run
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as hands:
            digests = list(hands.map(lambda file, parts: _digest(file.path, tuple(parts.items())), files, found))
        facts = [
            {"path": file.name, "bytes": sum(size for size, _ in parts.values()), "sha256": digest}
            for file, parts, digest in zip(files, found, digests, strict=True)
        ]
        states = {path: state for parts in found for path, state in parts.items()}
    except OSError as error:
        raise DataError(
            f"cannot read the input: {error.strerror}",
            where=str(error.filename or folder),
            fix="check its permissions",
        ) from None
    return Inventory(folder, files, skipped, facts, states)


def _parts(path: Path) -> list[Path]:
    """The file, or the files of a folder that is one data set."""
    return sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]


def _state(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except FileNotFoundError:
        return (-1, -1)
    return state.st_size, state.st_mtime_ns


# a run looks at its data twice: before Hydra makes a folder, and when it starts
@lru_cache(maxsize=256)
def _digest(path: Path, parts: tuple[tuple[Path, tuple[int, int]], ...]) -> str:
    """SHA-256 of a file; of a folder, that of the names and hashes of its files."""
    if not path.is_dir():
        return sha256_file(path)
    names = "".join(f"{part.relative_to(path).as_posix()}\0{sha256_file(part)}\n" for part, _ in parts)
    return hashlib.sha256(os.fsencode(names)).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
