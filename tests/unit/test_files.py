"""Locks of files, held by whoever has them open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from chord_exp.utils.files import is_locked, share_lock, try_lock


def test_a_lock_is_held_once_and_tells_the_others_by_whom(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    assert not is_locked(file)
    held = try_lock(file, "process 1")
    assert held is not None
    assert try_lock(file, "process 2") is None
    assert is_locked(file) and file.read_text() == "process 1"
    held.close()
    assert not is_locked(file)


def test_looking_at_a_lock_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.touch()
    with open(file, "rb"):
        assert not is_locked(file)
        assert try_lock(file) is not None


def test_readers_share_a_lock_and_keep_the_writer_out(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.write_text("kept")
    readers = [share_lock(file), share_lock(file)]
    assert all(readers) and is_locked(file) and try_lock(file) is None
    for reader in readers:
        reader.close()
    writer = try_lock(file)
    assert writer is not None and share_lock(file) is None
    assert file.read_text() == "kept"


def test_a_lock_lives_as_long_as_the_last_process_that_inherited_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    held = try_lock(file)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdin=held)
    held.close()
    assert is_locked(file)
    child.kill()
    child.wait()
    assert not is_locked(file)
