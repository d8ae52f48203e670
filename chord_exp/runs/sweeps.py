"""A sweep as a whole: its table, its end, its going on, its logs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from chord_exp.config.command_line import SWEEP_DIR, parse
from chord_exp.errors import SUCCEEDED, ConfigError
from chord_exp.launch.cluster.private_ray import find_head
from chord_exp.run_files.record import RESUME
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.progress import SweepProgress
from chord_exp.sweep.run import GRID, make_backend, resume
from chord_exp.sweep.run_loop import run_loop
from chord_exp.sweep.scheduling.scheduler import Scheduler
from chord_exp.sweep.scheduling.trial import ACTIVE, Trial
from chord_exp.sweep.settings import START, Settings
from chord_exp.sweep.show.live import Watch
from chord_exp.sweep.tune.best import Result
from chord_exp.utils.files import write_atomically


def show(folder: SweepFolder) -> None:
    """Print the table of a running or finished sweep."""
    info = folder.info()
    trials = folder.trials()
    watch = Watch(folder.path.name, SweepProgress(trials))
    watch.end()
    driver = folder.driver()
    active = [trial for trial in trials if trial.state in ACTIVE]
    if driver is not None:
        watch.say(f"run by process {driver}, since {info.created}")
    elif any(trial.state not in ("succeeded", "failed", "pruned") for trial in trials):
        still = " (their jobs may still run)" if active and info.settings.get("backend") == "ray" else ""
        watch.say(f"nobody runs it{still}; go on with: {RESUME} {folder.path}")


def go_on(folder: SweepFolder, *, failed_too: bool) -> int:
    """Go on with a sweep whose process is gone; return the exit code."""
    if folder.info().kind == GRID:
        return resume(folder, failed_too=failed_too).exit_code
    return _repeat(folder)


def _repeat(folder: SweepFolder) -> int:
    """Repeat the command of a tuned sweep in its folder, and so go on with it."""
    from chord_exp.actions import cluster_words
    from chord_exp.config.composer import composing
    from chord_exp.sweep.command import run_sweep

    cwd = Result.load(folder.path).cwd
    if Path(cwd).is_dir():
        os.chdir(cwd)
    words = [word for word in folder.info().command if not word.lstrip("+").startswith(f"{SWEEP_DIR}=")]
    with composing(parse([*words, f"{SWEEP_DIR}={folder.path}"]), cluster_words) as composer:
        return run_sweep(composer)


def is_going_on(folder: SweepFolder) -> bool:
    """Whether a process drives the sweep, or trials of it may run on a cluster without one."""
    if folder.driver() is not None:
        return True
    settings = Settings.read(folder.info().settings)
    active = any(trial.state in ACTIVE for trial in folder.trials())
    return active and settings.backend != "local" and (settings.address != START or find_head(folder.path) is not None)


def stop(folder: SweepFolder) -> int:
    """End a sweep: each trial finishes its step and saves."""
    info, driver = folder.info(), folder.driver()
    if not is_going_on(folder):
        print(f"{folder.path} is not running")
        return SUCCEEDED
    if driver is not None:
        write_atomically(folder.stop_path, "")
        print(f"asked process {driver} to stop the sweep: each trial finishes its step and saves")
        while folder.driver() is not None:
            time.sleep(0.2)
    else:
        settings = Settings.read(info.settings)
        active = [trial for trial in folder.trials() if trial.state in ACTIVE]
        with folder.hold_lock(), make_backend(settings, folder, info.id) as backend:
            scheduler = Scheduler(backend, settings.limits)
            scheduler.adopt(active)
            scheduler.stop_all()
            with Watch(folder.path.name, SweepProgress(active)) as watch:
                run_loop(scheduler, folder, watch)
    print(f"stopped; go on with: {RESUME} {folder.path}")
    return SUCCEEDED


def trials_to_read(folder: SweepFolder, word: str | None) -> Sequence[Trial]:
    """Return the trial that a word names, or those that failed, or else those that run.

    Raises:
        ConfigError: there is no such trial.
    """
    folder.info()
    trials = folder.trials()
    if word is None:
        return [trial for trial in trials if trial.error] or [trial for trial in trials if trial.state in ACTIVE]
    for trial in trials:
        if word in (trial.name, str(trial.number)):
            return [trial]
    raise ConfigError(
        f"{folder.path} has no trial {word!r}",
        "TRIAL",
        f"it has {', '.join(trial.name for trial in trials[:8])}{' ...' if len(trials) > 8 else ''}",
    )
