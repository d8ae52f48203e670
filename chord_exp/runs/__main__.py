"""`python -m chord_exp.runs list|show|logs|stop|resume|rm`: runs and sweeps alike.

Exit codes: 0 done, 1 a run failed, 2 there is no such run, or it cannot be done with it, 130 interrupted.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from chord_exp.errors import SUCCEEDED, ConfigError
from chord_exp.run_files.names import CHECKPOINTS
from chord_exp.run_files.record import RUNS
from chord_exp.runs import single, sweeps
from chord_exp.runs.find import ROOTS, SWEEP_OF_RUNS, TRIAL_OF_SWEEP, Found, below, named
from chord_exp.runs.listing import line_of, table
from chord_exp.sweep.show.live import plain_console
from chord_exp.utils.program import run_program

LINES = 30


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit code."""
    given = build_parser().parse_args(argv)
    return run_program("chord_exp.runs", lambda: int(given.act(given)))


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog=RUNS, description="Look at runs and sweeps, go on with them, end them.")
    commands = parser.add_subparsers(required=True, metavar="list|show|logs|stop|resume|rm")

    def command(name: str, act: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help_, description=help_)
        added.set_defaults(act=act)
        return added

    where = f"folder of a run or a sweep, or the end of its path below {' or '.join(ROOTS)}"
    word: dict[str, Any] = {"metavar": "RUN", "help": where}
    newest: dict[str, Any] = {"nargs": "?", **word, "help": f"{where} (left out: the newest)"}
    listed = command("list", _list, "name the runs and sweeps below folders, with how they stand")
    listed.add_argument("folders", nargs="*", type=Path, metavar="DIR", help=f"default: {' and '.join(ROOTS)}")
    command("show", _show, "say how a run stands or ended, or print the table of a sweep").add_argument("run", **newest)
    logs = command("logs", _logs, "print the end of the logs of a run, of a trial, or of the trials that failed")
    logs.add_argument("run", **newest)
    logs.add_argument("trial", nargs="?", help="of a sweep: number or folder name of a trial")
    logs.add_argument("--lines", type=int, default=LINES, help="lines of each log (default %(default)s)")
    stop = command("stop", _stop, "end runs: each finishes its step and saves")
    stop.add_argument("run", **word)
    stop.add_argument("--now", action="store_true", help="of a single run: do not wait for the step")
    resume = command("resume", _resume, "go on with a run or a sweep from where it was")
    resume.add_argument("run", **word)
    resume.add_argument("--failed", action="store_true", help="of a sweep: try failed trials again, too")
    remove = command("rm", _remove, "remove runs and sweeps, or only their checkpoints")
    remove.add_argument("runs", nargs="+", **word)
    remove.add_argument("--checkpoints", action="store_true", help="keep records, metrics and logs")
    return parser


def _list(given: argparse.Namespace) -> int:
    here = Path.cwd()
    folders = [folder.expanduser() for folder in given.folders] or [here / root for root in ROOTS]
    found = [one for folder in folders for one in below(folder)]
    if not found:
        print(f"no run in {', '.join(map(str, folders))}")
        return SUCCEEDED
    console = plain_console()
    lines = [line_of(one) for one in found]
    console.print(table(lines, here))
    for line in lines:
        if line.error:
            text = f"{line.found.path.name}: {line.error}"
            console.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
    return SUCCEEDED


def _show(given: argparse.Namespace) -> int:
    found = named(given.run, Path.cwd())
    if found.kind == SWEEP_OF_RUNS:
        sweeps.show(found.sweep)
    else:
        single.show(found, plain_console())
    return SUCCEEDED


def _logs(given: argparse.Namespace) -> int:
    found = named(given.run, Path.cwd())
    if found.kind != SWEEP_OF_RUNS:
        single.print_logs(found.path, given.lines)
        return SUCCEEDED
    chosen = sweeps.trials_to_read(found.sweep, given.trial)
    if not chosen:
        print("no trial failed and none runs; name one to see its logs")
    for trial in chosen:
        print(f"== {trial.name}: {trial.state}{f', {trial.error}' if trial.error else ''}")
        single.print_logs(trial.run_dir, given.lines)
    return SUCCEEDED


def _stop(given: argparse.Namespace) -> int:
    found = named(given.run, Path.cwd())
    return sweeps.stop(found.sweep) if found.kind == SWEEP_OF_RUNS else single.stop(found, at_once=given.now)


def _resume(given: argparse.Namespace) -> int:
    found = named(given.run, Path.cwd())
    if found.kind == SWEEP_OF_RUNS:
        return sweeps.go_on(found.sweep, failed_too=given.failed)
    return single.resume(found)


def _remove(given: argparse.Namespace) -> int:
    chosen = [named(word, Path.cwd()) for word in given.runs]
    for found in chosen:
        _refuse_to_remove(found, whole=not given.checkpoints)
    for found in chosen:
        folders = [found.path] if not given.checkpoints else list(found.path.glob(f"**/{CHECKPOINTS}"))
        size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if not file.is_dir())
        for folder in folders:
            shutil.rmtree(folder)
        what = f"the checkpoints of {found.path}" if given.checkpoints else str(found.path)
        print(f"removed {what}, {size / 2**20:,.1f} MiB")
    return SUCCEEDED


def _refuse_to_remove(found: Found, *, whole: bool) -> None:
    """
    Raises:
        ConfigError: it goes on, or is a part of something.
    """
    if sweeps.is_going_on(found.sweep) if found.kind == SWEEP_OF_RUNS else single.is_going_on(found):
        raise ConfigError(f"{found.path} is going on", "RUN", f"stop it first: {RUNS} stop {found.path}")
    if whole and found.kind == TRIAL_OF_SWEEP:
        raise ConfigError(
            f"{found.path} is part of a sweep, which would miss it",
            "RUN",
            f"remove the sweep ({found.sweep.path}), or with --checkpoints only what takes the space",
        )


if __name__ == "__main__":
    sys.exit(main())
