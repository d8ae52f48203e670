"""The output folder as one thing: built beside its place, swapped in at once, never mixed with files of
someone else.

A process killed at any moment leaves the old folder or the new one, whole; what it left beside them the next
preparation clears away.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chord_exp.errors import DataError
from chord_exp.trinity_config.rows import FILES, MANIFEST_FILE, ROWS_FILE, SIDES

TOOL = "chord_exp.prepare"
"""Written into every manifest: a folder with it is ours to replace."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def refuse_overlap(input_dir: Path, out: Path) -> None:
    """Refuses an output that would swallow its input or become part of it.

    Raises:
        DataError: the folders are the same, or one holds the other.
    """
    if input_dir == out or input_dir in out.parents or out in input_dir.parents:
        raise DataError(
            "input and output folders overlap",
            where=f"{input_dir} and {out}",
            fix="choose an --out beside the input",
        )


def refuse_foreign(out: Path) -> None:
    """Refuses to take the place of anything that prepare did not write.

    Raises:
        DataError: `out` is a file, or a folder with other things in it.
    """
    if not out.exists():
        return
    remedy = "choose another --out, or remove it yourself"
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
def locked(parent: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds `parent` so that two runs do not build one folder at a time; calls `on_wait` once if another
    process has it."""
    parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def recover(out: Path) -> None:
    """Clears what a killed preparation left beside `out`, after putting back an old folder it had moved
    aside. Call under the lock."""
    for old in sorted(out.parent.glob(f".{out.name}.prepare-*.old")):
        if out.exists():
            shutil.rmtree(old)
        else:
            old.rename(out)
    for unfinished in out.parent.glob(f".{out.name}.prepare-*.tmp"):
        shutil.rmtree(unfinished)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """An empty folder to fill; when the block ends without an error it becomes `out`, else it vanishes. Call
    under the lock."""
    staging = out.parent / f".{out.name}.prepare-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    staging.mkdir()
    try:
        yield staging
        _sync_folder(staging)
        _swap_in(staging, out)
        _sync_folder(out.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _swap_in(staging: Path, out: Path) -> None:
    if not out.exists():
        staging.rename(out)
    elif not _exchange(staging, out):
        old = staging.with_suffix(".old")
        out.rename(old)
        staging.rename(out)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step; False where the C library or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
