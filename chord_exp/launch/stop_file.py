"""Stopping a run from outside: a file in its folder that its process watches.

Signals do not serve: a run may be on another machine, and Ray's own way to stop a job signals every process below it at
once, those of the run's private Ray too, and nothing can be saved after that.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chord_exp.errors import RunFailed
from chord_exp.run_files.names import LOGS
from chord_exp.utils.files import write_atomically

# what the file says: finish the step and save, or end at once
GRACEFUL, IMMEDIATE = "stop", "now"
WATCH_SECONDS = 0.25


def stop_path(run_dir: Path) -> Path:
    """Return where the file lies in a run's folder."""
    return run_dir / LOGS / "stop"


def request_stop(run_dir: Path, *, at_once: bool = False) -> None:
    """Ask the process of a run to finish its step, save and end; or to end at once."""
    write_atomically(stop_path(run_dir), IMMEDIATE if at_once else GRACEFUL)


def clear_stop_file(run_dir: Path) -> None:
    """Remove a request that was meant for an earlier attempt, and make the folder of the file.

    Raises:
        RunFailed: the run's folder cannot be written to.
    """
    try:
        (run_dir / LOGS).mkdir(parents=True, exist_ok=True)
        stop_path(run_dir).unlink(missing_ok=True)
    except OSError as error:
        raise RunFailed(f"cannot write to the run's folder: {error.strerror}", str(run_dir)) from error


@contextmanager
def watching_stop_file(run_dir: Path) -> Iterator[None]:
    """Meanwhile turn the file into the signals that a run understands, once each, from a thread of this process."""
    over = threading.Event()

    def watch() -> None:
        passed_on = 0
        while passed_on < 2 and not over.wait(WATCH_SECONDS):
            try:
                request = stop_path(run_dir).read_text()
            except OSError:
                request = ""
            wanted = {GRACEFUL: 1, IMMEDIATE: 2}.get(request, 0)
            if passed_on < wanted:
                passed_on += 1
                os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="stop-request").start()
    try:
        yield
    finally:
        over.set()
