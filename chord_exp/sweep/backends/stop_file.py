"""Stopping trials from outside: by the file that their workers watch, and by force where that does not help."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from chord_exp.launch import processes
from chord_exp.launch.stop_file import request_stop
from chord_exp.run_files.names import LOCK
from chord_exp.sweep.scheduling.attempt_end import read_record
from chord_exp.sweep.scheduling.trial import Trial
from chord_exp.utils.files import is_locked

# from the request to end at once to the use of force, seconds
FORCE_AFTER = 20.0


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
        request_stop(trial.run_dir, at_once=grace <= 0)
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
            request_stop(trial.run_dir, at_once=True)
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
