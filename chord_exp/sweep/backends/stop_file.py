"""Stopping a trial from outside: a file that its worker watches, and force where that does not help.

Signals do not serve: Ray's own way to stop a job signals every process below it at once, those of the run's private
Ray too, and nothing can be saved after that.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from chord_exp.errors import RunFailed
from chord_exp.launch import processes
from chord_exp.run_files.names import LOCK, LOGS
from chord_exp.sweep.scheduling.attempt_end import read_record
from chord_exp.sweep.scheduling.trial import Trial
from chord_exp.utils.files import is_locked, write_atomically

# what the file says: finish the step and save, or end at once
GRACEFUL, IMMEDIATE = "stop", "now"
WATCH_SECONDS = 0.25
# from the request to end at once to the use of force, seconds
FORCE_AFTER = 20.0


def stop_path(run_dir: Path) -> Path:
    """Return where the file lies in a trial's folder."""
    return run_dir / LOGS / "stop"


def clear_stop_file(run_dir: Path) -> None:
    """Remove a request that was meant for an earlier attempt, and make the folder of the file.

    Raises:
        RunFailed: the trial's folder cannot be written to.
    """
    try:
        (run_dir / LOGS).mkdir(exist_ok=True)
        stop_path(run_dir).unlink(missing_ok=True)
    except OSError as error:
        raise RunFailed(f"cannot write to the trial's folder: {error.strerror}", str(run_dir)) from error


def watch_stop_file(run_dir: Path) -> None:
    """Turn the file into the signals that a run understands, once each, from a thread of the worker."""

    def watch() -> None:
        passed_on = 0
        while passed_on < 2:
            try:
                request = stop_path(run_dir).read_text()
            except OSError:
                request = ""
            wanted = {GRACEFUL: 1, IMMEDIATE: 2}.get(request, 0)
            if passed_on < wanted:
                passed_on += 1
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(WATCH_SECONDS)

    threading.Thread(target=watch, daemon=True, name="stop-request").start()


class StopRequests:
    """The trials that the scheduler asked to stop, and until when they may take their time."""

    def __init__(self, now: Callable[[], float], force: Callable[[Trial], None]) -> None:
        """
        Args:
            force: ends the processes of a trial without asking.
        """
        self._now, self._force = now, force
        # by trial: when it is asked to end at once, and when force is used
        self._deadlines: dict[int, tuple[float, float]] = {}

    def send(self, trial: Trial, grace: float) -> None:
        """Ask a trial to stop; with a grace of 0 at once."""
        write_atomically(stop_path(trial.run_dir), GRACEFUL if grace > 0 else IMMEDIATE)
        self.set_deadline(trial, grace)

    def set_deadline(self, trial: Trial, grace: float) -> None:
        """Give a trial that is ending already so many seconds for it."""
        end = self._now() + grace
        self._deadlines[trial.number] = (end, end + FORCE_AFTER)

    def escalate(self, trial: Trial) -> None:
        """Ask a trial that is still there after its deadline to end at once, and end it by force after the next."""
        if trial.number not in self._deadlines:
            return
        soft, hard = self._deadlines[trial.number]
        now = self._now()
        if now >= hard:
            self._force(trial)
            self._deadlines[trial.number] = (soft, now + FORCE_AFTER)
        elif soft <= now and soft != 0.0:
            write_atomically(stop_path(trial.run_dir), IMMEDIATE)
            self._deadlines[trial.number] = (0.0, hard)

    def clear(self, trial: Trial) -> None:
        """Forget a trial that is gone."""
        self._deadlines.pop(trial.number, None)


def end_leftovers(run_dir: Path, patience: float = 0.0) -> None:
    """End what a killed worker left behind on this machine.

    Args:
        patience: seconds to let it save and end by itself, which it does when its watcher dies.
    """
    run = read_record(run_dir)
    if run is None:
        return
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and processes.of_run(run.run_id):
        time.sleep(0.2)
    processes.end_run(run.run_id, grace=0.0 if patience == 0 else processes.GRACE_SECONDS)
    # a process that is going cannot be told by its environment any more, and may still hold the folder
    while time.monotonic() < deadline and is_locked(run_dir / LOCK):
        time.sleep(0.1)
