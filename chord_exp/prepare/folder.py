"""The output folder as one thing: built as a draft beside its place, renamed into it, never mixed with files of someone
else.

A folder below the root is named after what is in it, so it is written once and never changed. A folder that the user
names may have to make way for other content; then the old one is moved aside, the new one into its place, and a process
killed between the two leaves what the next preparation puts back.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chord_exp.errors import DataError
from chord_exp.trinity_config.rows import FILES, MANIFEST_FILE, ROWS_FILE, SIDES
from chord_exp.utils.files import try_lock

TOOL = "chord_exp.prepare"
"""Written into every manifest: a folder with it is ours to replace."""


def refuse_overlap(input_dir: Path, out: Path, key: str) -> None:
    """Refuse an output that would swallow its input or become part of it.

    Raises:
        DataError: the folders are the same, or one holds the other.
    """
    if input_dir == out or input_dir in out.parents or out in input_dir.parents:
        raise DataError(
            "input and output folders overlap",
            where=f"{input_dir} and {out}",
            fix=f"give {key} a folder beside the input",
        )


def refuse_foreign(out: Path, key: str) -> None:
    """Refuse to take the place of anything that prepare did not write.

    Raises:
        DataError: `out` is a file, or a folder with other things in it.
    """
    if not out.exists():
        return
    remedy = f"choose another {key}, or remove it yourself"
    if not out.is_dir():
        raise DataError("the output is a file, not a folder", where=str(out), fix=remedy)
    entries = {entry.name for entry in out.iterdir()}
    if not entries:
        return
    try:
        ours = json.loads((out / MANIFEST_FILE).read_bytes())["tool"] == TOOL
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise DataError("the output folder was not written by chord_exp.prepare", where=str(out), fix=remedy)
    foreign = entries - {*SIDES, *FILES}
    for side in SIDES:
        if (out / side).is_dir():
            foreign |= {f"{side}/{entry.name}" for entry in (out / side).iterdir() if entry.name != ROWS_FILE}
    if foreign:
        names = ", ".join(sorted(foreign)[:3])
        raise DataError(
            f"the output folder holds files of yours: {names}", where=str(out), fix=f"move them; or {remedy}"
        )


@contextmanager
def locked(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the right to write `folder`, cleared of what a killed preparation left beside it; call `on_wait` once if
    another process has it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = _beside(folder, "lock")
    told = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                on_wait()
                told = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        # whoever had it before has removed the file, and another may be waiting at a new one
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                break
        os.close(handle)
    try:
        _clear_up(folder)
        yield
    finally:
        path.unlink()
        os.close(handle)


@contextmanager
def writing(folder: Path, key: str) -> Iterator[Path]:
    """An empty draft to fill, which becomes `folder` when the block ends without an error, else vanishes. Call under
    the lock.

    Raises:
        DataError: the old folder is in use, or files in it were changed by hand; it is left as it is.
    """
    draft, old = _beside(folder, "draft"), _beside(folder, "old")
    draft.mkdir()
    try:
        yield draft
        _sync_folder(draft)
        if folder.exists():
            with _unused(folder, key):
                folder.rename(old)
                draft.rename(folder)
        else:
            draft.rename(folder)
        _sync_folder(folder.parent)
    finally:
        _clear_up(folder)


def is_locked(folder: Path) -> bool:
    """Whether `folder` is being written, or a killed preparation has left things beside it."""
    return _beside(folder, "lock").exists()


def _clear_up(folder: Path) -> None:
    """Remove what a preparation leaves beside `folder` when it fails or is killed, and put back an old folder whose
    place is still empty."""
    draft, old = _beside(folder, "draft"), _beside(folder, "old")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (draft, old):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _unused(folder: Path, key: str) -> Iterator[None]:
    """
    Raises:
        DataError: a run reads it.
    """
    if not (folder / MANIFEST_FILE).exists():
        # an empty folder that the user has made
        yield
        return
    manifest = try_lock(folder / MANIFEST_FILE)
    if manifest is None:
        raise DataError(
            "a run is reading the prepared folder that would be replaced",
            where=str(folder),
            fix=f"wait for it to end, or choose another {key}",
        )
    with manifest:
        yield


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
