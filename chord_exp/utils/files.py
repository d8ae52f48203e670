"""Files that a crash leaves whole, and locks that a crash lets go of."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import struct
from pathlib import Path
from typing import IO


def _whole_file(kind: int) -> bytes:
    """`struct flock` of a whole file, as <bits/fcntl.h> has it."""
    return struct.pack("hhqqi", kind, os.SEEK_SET, 0, 0, 0)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader, and a crash, sees the old text or the new."""
    draft = path.with_name(f"{path.name}.part")
    with open(draft, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, path)


def try_lock(path: Path, note: str | None = None) -> IO[bytes] | None:
    """Lock a file for as long as the returned stream is open here, or in a process that inherited it.

    Holds across the machines that share a file system; one that knows no locks is taken at its word.

    Args:
        note: what the file holds from now on, for whom the lock keeps out; None to leave it as it is.

    Returns:
        The stream; None if another holds the lock.
    """
    stream = _locked(path, "a+b", fcntl.F_WRLCK)
    if stream is not None and note is not None:
        stream.truncate(0)
        stream.write(note.encode())
        stream.flush()
    return stream


def share_lock(path: Path) -> IO[bytes] | None:
    """Keep `try_lock` from taking a file for as long as the returned stream is open; several may do so at once.

    Returns:
        The stream; None if somebody holds the lock alone.

    Raises:
        OSError: the file cannot be read.
    """
    return _locked(path, "rb", fcntl.F_RDLCK)


def _locked(path: Path, mode: str, kind: int) -> IO[bytes] | None:
    stream: IO[bytes] = open(path, mode)  # noqa: SIM115 - held as long as the caller wants
    try:
        # of the open file, not of the process: it passes to children and goes with the last of them
        fcntl.fcntl(stream, fcntl.F_OFD_SETLK, _whole_file(kind))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            stream.close()
            return None
    return stream


def is_locked(path: Path) -> bool:
    """Return whether somebody holds the lock of a file, without taking it even for a moment."""
    try:
        with open(path, "rb") as stream:
            found = fcntl.fcntl(stream, fcntl.F_OFD_GETLK, _whole_file(fcntl.F_WRLCK))
    except FileNotFoundError:
        return False
    except OSError:  # it cannot be told
        return True
    return struct.unpack_from("h", found)[0] != fcntl.F_UNLCK


def claim_folder(wanted: Path) -> Path:
    """Make a folder that nobody else has made: `wanted`, or `wanted-2`, `wanted-3`, ... where it is taken.

    Raises:
        OSError: it cannot be made.
    """
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError
