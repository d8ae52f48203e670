"""One run: how it stands, its end, its going on, its logs."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from chord_exp.errors import SUCCEEDED, ConfigError
from chord_exp.launch import summary
from chord_exp.launch.driver.warm_server import warm_server
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.launch.progress import State
from chord_exp.launch.run import run_experiment
from chord_exp.launch.run_request import read_phase
from chord_exp.launch.stop_file import clear_stop_file, request_stop, watching_stop_file
from chord_exp.run_files import metrics, record
from chord_exp.run_files.names import LOCK, LOGS, METRICS
from chord_exp.runs.find import JOB_RUN, TRIAL_OF_SWEEP, Found
from chord_exp.sweep import job
from chord_exp.sweep.backends import worker
from chord_exp.sweep.scheduling.attempt_end import read_record
from chord_exp.sweep.scheduling.trial import ACTIVE
from chord_exp.utils.files import is_locked

WAIT_SECONDS = 0.2


def show(found: Found, console: Console) -> None:
    """Print how a run stands, or how it ended."""
    run, rows = read_record(found.path), metrics.read(found.path / METRICS)
    if run is not None and run.status != record.RUNNING:
        summary.show(console, run, rows, found.path)
        return
    state = State({stage.name: stage.planned_steps for stage in LaunchSpec.load(found.path).stages})
    state.phase = read_phase(found.path) if run is not None else "waiting: it has not been started yet"
    for row in rows:
        state.update(row)
    by = f", by {(found.path / LOCK).read_text()}" if run is not None else ""
    for line in (f"{found.path}{by}", state.line()):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def is_going_on(found: Found) -> bool:
    """Whether a process holds the folder of a run, or its job may still come to do so."""
    if found.kind == JOB_RUN and job.read(found.path)[1].state in ACTIVE:
        return True
    return is_locked(found.path / LOCK) or worker.is_alive(found.path)


def stop(found: Found, *, at_once: bool) -> int:
    """Have a run finish its step, save and end, and wait for that; or end it at once."""
    if found.kind == JOB_RUN:
        stopped = job.stop(found.path, at_once=at_once)
    else:
        stopped = is_going_on(found)
        if stopped:
            request_stop(found.path, at_once=at_once)
            print("asked it to stop" + ("" if at_once else ": it finishes its step and saves"), flush=True)
            while is_going_on(found):
                time.sleep(WAIT_SECONDS)
    print(f"stopped; go on with: {record.RESUME} {found.path}" if stopped else f"{found.path} is not running")
    return SUCCEEDED


def resume(found: Found) -> int:
    """Go on with a run from its last checkpoint, with the settings that it was started with; return its exit code.

    Raises:
        ConfigError: it goes on already, or is part of a sweep.
    """
    if found.kind == TRIAL_OF_SWEEP:
        whole = f"{record.RESUME} {found.sweep.path}"
        raise ConfigError(f"{found.path} is part of a sweep", "RUN", f"go on with all of it: {whole}")
    if found.kind == JOB_RUN:
        return job.resume(found.path)
    if is_going_on(found):
        raise ConfigError(f"{found.path} is going on", "RUN", f"look at it: {record.RUNS} show {found.path}")
    before = read_record(found.path)
    if before is not None and before.status == record.SUCCEEDED:
        show(found, Console())
        return SUCCEEDED
    launch = replace(LaunchSpec.load(found.path), resume=before is not None)
    clear_stop_file(found.path)
    with warm_server() if launch.engine == "local" else nullcontext(), watching_stop_file(found.path):
        return run_experiment(launch, found.path)


def print_logs(run_dir: Path, lines: int) -> None:
    """Print the ends of the logs that tell what a run's own processes said."""
    for log in (worker.LOG, "run.log"):
        path = run_dir / LOGS / log
        if path.is_file():
            print(f"-- {path}")
            print("\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]))
