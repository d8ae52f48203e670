"""`python -m chord_exp.sweep status|resume|stop|logs SWEEP_DIR`: look at a sweep, go on with it, end it."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from chord_exp.config.command_line import SWEEP_DIR, parse
from chord_exp.errors import INTERRUPTED, SUCCEEDED, ChordExpError, ConfigError
from chord_exp.launch.private_ray import find_head
from chord_exp.run_files.names import LOGS
from chord_exp.sweep.backends import worker
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

PROGRAM = "python -m chord_exp.sweep"
LINES = 30


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit code: 0 done, 1 a trial failed, 2 refused, 130 stopped."""
    given = build_parser().parse_args(argv)
    try:
        return int(given.act(SweepFolder(given.sweep_dir.expanduser()), given))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `status ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCEEDED
    except ChordExpError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        print(f"chord_exp: {error}", file=sys.stderr)
        return error.exit_code


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Look at a sweep, go on with it, end it.")
    commands = parser.add_subparsers(required=True, metavar="status|resume|stop|logs")
    status = commands.add_parser("status", help="print the table of a running or finished sweep")
    status.set_defaults(act=_status)
    again = commands.add_parser("resume", help="go on with a sweep whose process is gone")
    again.add_argument("--failed", action="store_true", help="try failed trials again, too")
    again.set_defaults(act=_resume)
    stop = commands.add_parser("stop", help="end a sweep: each trial finishes its step and saves")
    stop.set_defaults(act=_stop)
    logs = commands.add_parser("logs", help="print the end of the logs of a trial, or of all that failed")
    logs.set_defaults(act=_logs)
    for command in (status, again, stop, logs):
        command.add_argument("sweep_dir", type=Path, metavar="SWEEP_DIR", help="the folder below multirun/")
    logs.add_argument("trial", nargs="?", help="number or folder name of a trial")
    logs.add_argument("--lines", type=int, default=LINES, help="lines of each log (default %(default)s)")
    return parser


def _status(folder: SweepFolder, given: argparse.Namespace) -> int:
    info = folder.info()
    trials = folder.trials()
    watch = Watch(folder.path.name, SweepProgress(trials))
    watch.end()
    console = watch.console
    driver = folder.driver()
    active = [trial for trial in trials if trial.state in ACTIVE]
    if driver is not None:
        console.print(f"run by process {driver}, since {info.created}", highlight=False)
    elif any(trial.state not in ("succeeded", "failed", "pruned") for trial in trials):
        still = " (their jobs may still run)" if active and info.settings.get("backend") == "ray" else ""
        text = f"nobody runs it{still}; go on with: {PROGRAM} resume {folder.path}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    return SUCCEEDED


def _resume(folder: SweepFolder, given: argparse.Namespace) -> int:
    if folder.info().kind != GRID:
        return _go_on(folder)
    return resume(folder, failed_too=given.failed).exit_code


def _go_on(folder: SweepFolder) -> int:
    """Repeat the command of a tuned sweep in its folder, and so go on with it; return the exit code."""
    from chord_exp.config.composer import composing
    from chord_exp.sweep.command import run_sweep

    cwd = Result.load(folder.path).cwd
    if Path(cwd).is_dir():
        os.chdir(cwd)
    words = [word for word in folder.info().command if not word.lstrip("+").startswith(f"{SWEEP_DIR}=")]
    with composing(parse([*words, f"{SWEEP_DIR}={folder.path}"])) as composer:
        return run_sweep(composer)


def _stop(folder: SweepFolder, given: argparse.Namespace) -> int:
    info = folder.info()
    driver = folder.driver()
    if driver is not None:
        write_atomically(folder.stop_path, "")
        print(f"asked process {driver} to stop the sweep: each trial finishes its step and saves")
        while folder.driver() is not None:
            time.sleep(0.2)
        print(f"stopped; go on with: {PROGRAM} resume {folder.path}")
        return SUCCEEDED
    settings = Settings.read(info.settings)
    active = [trial for trial in folder.trials() if trial.state in ACTIVE]
    if not active or settings.backend == "local" or (settings.address == START and find_head(folder.path) is None):
        print(f"{folder.path} is not running")
        return SUCCEEDED
    with folder.hold_lock(), make_backend(settings, folder, info.id) as backend:
        scheduler = Scheduler(backend, settings.limits)
        scheduler.adopt(active)
        scheduler.stop_all()
        with Watch(folder.path.name, SweepProgress(active)) as watch:
            run_loop(scheduler, folder, watch)
    print(f"stopped; go on with: {PROGRAM} resume {folder.path}")
    return SUCCEEDED


def _logs(folder: SweepFolder, given: argparse.Namespace) -> int:
    folder.info()
    trials = folder.trials()
    if given.trial is None:
        chosen = [trial for trial in trials if trial.error] or [trial for trial in trials if trial.state in ACTIVE]
        if not chosen:
            print("no trial failed and none runs; name one to see its logs")
    else:
        chosen = [_named(trials, given.trial, folder)]
    for trial in chosen:
        print(f"== {trial.name}: {trial.state}{f', {trial.error}' if trial.error else ''}")
        for log in (worker.LOG, "run.log"):
            path = trial.run_dir / LOGS / log
            if path.is_file():
                print(f"-- {path}")
                print("\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-given.lines :]))
    return SUCCEEDED


def _named(trials: Sequence[Trial], word: str, folder: SweepFolder) -> Trial:
    for trial in trials:
        if word in (trial.name, str(trial.number)):
            return trial
    raise ConfigError(
        f"{folder.path} has no trial {word!r}",
        "TRIAL",
        f"it has {', '.join(trial.name for trial in trials[:8])}{' ...' if len(trials) > 8 else ''}",
    )


if __name__ == "__main__":
    sys.exit(main())
