"""The process of one trial: `python -m chord_exp.sweep.backends.worker RUN_DIR --attempt N [--parent PID]`.

It starts what `launch.json` and `trinity.yaml` in the folder say, from the last checkpoint where there is one; it
composes, prepares and derives nothing. Whatever the scheduler believes, it never runs beside another worker of the same
folder and never runs what has succeeded.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from chord_exp.errors import INTERRUPTED, RUN_FAILED, SUCCEEDED, ChordExpError, RunFailed
from chord_exp.launch.processes import end_with_parent
from chord_exp.launch.stop_file import watching_stop_file
from chord_exp.run_files import record
from chord_exp.run_files.names import LOGS
from chord_exp.sweep.backends.stop_file import end_leftovers
from chord_exp.sweep.scheduling.attempt_end import ExitReport, read_record
from chord_exp.utils.files import is_locked, try_lock
from chord_exp.utils.text import warn

LOCK = "worker.lock"
LOG = "trial.log"
# what an earlier worker, or the run of a killed one, may take to save and end, seconds
PATIENCE = 120.0
# how Ray tells a job about the cluster that it was started on
OUTER_RAY = ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_JOB_ID")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one attempt; returns the run's exit code."""
    parser = argparse.ArgumentParser(prog="python -m chord_exp.sweep.backends.worker")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--parent", type=int, help="end when this process, which started it, dies")
    given = parser.parse_args(argv)
    run_dir: Path = given.run_dir
    (run_dir / LOGS).mkdir(exist_ok=True)
    if given.parent is not None:
        end_with_parent()
        if os.getppid() != given.parent:  # it died before the kernel was asked
            return INTERRUPTED
    _print_to(run_dir / LOGS / LOG)
    try:
        with _alone(run_dir), watching_stop_file(run_dir):
            code, error = _attempt(run_dir)
            ExitReport(given.attempt, code, error).save(run_dir)
            return code
    except RunFailed as failed:
        print(f"chord_exp: {failed}", file=sys.stderr)
        return RUN_FAILED


def is_alive(run_dir: Path) -> bool:
    """Whether a worker holds the folder."""
    return is_locked(run_dir / LOCK)


def _alone(run_dir: Path) -> IO[bytes]:
    """Wait until no other worker holds the folder, and hold it; the system lets go when this process dies."""
    deadline = time.monotonic() + PATIENCE
    while (lock := try_lock(run_dir / LOCK)) is None:
        if time.monotonic() > deadline:
            raise RunFailed("another worker holds the trial's folder and does not end", str(run_dir))
        time.sleep(0.1)
    return lock


def _print_to(log: Path) -> None:
    """Send everything that this process prints to the trial's own log, wherever it was started."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def _attempt(run_dir: Path) -> tuple[int, str]:
    """Run the experiment; return the exit code, and a line on what was wrong before the run had a record."""
    from chord_exp.launch.launch_spec import LaunchSpec
    from chord_exp.launch.run import run_experiment

    before = read_record(run_dir)
    if before is not None and before.status == record.SUCCEEDED:
        return SUCCEEDED, ""
    try:
        end_leftovers(run_dir, PATIENCE)
        launch = replace(LaunchSpec.load(run_dir), resume=before is not None)
        if launch.ray_address == "local":
            for name in OUTER_RAY:
                os.environ.pop(name, None)
        warn(launch.warnings)
        return run_experiment(launch, run_dir), ""
    except KeyboardInterrupt:
        return INTERRUPTED, ""
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        if isinstance(error, ChordExpError):
            return error.exit_code, str(error)
        return RUN_FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    sys.exit(main())
