"""`python -m chord_exp.report DIR...`: what runs did, how they ended and how they compare, as a page to look at.

Exit codes: 0 written, 2 a folder holds no run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chord_exp.errors import SUCCEEDED, ConfigError
from chord_exp.run_files.names import METRICS, RECORD
from chord_exp.utils.files import write_atomically
from chord_exp.utils.program import run_program

PROGRAM = "chord_exp.report"
NAME = "report.html"
SUFFIXES = (".html", ".htm")
# how often --watch looks, seconds
EVERY = 5


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Write a report of runs: one HTML file that needs no network, with Markdown and CSV beside it.",
        epilog="Runs that differ in their seed alone are one group. Exit code 0: written; 2: no run there.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        metavar="DIR",
        help="folder of a run, a sweep, or of many of them (left out: the newest run or sweep)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help=f"the page; {NAME} in the folder, or here where there are several"
    )
    parser.add_argument("--target", type=float, help="count the cost to reach this score (default: what half reached)")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="write it again as the runs go on, until they have ended; the open page loads itself again",
    )
    parser.add_argument(
        "--serve",
        type=int,
        nargs="?",
        const=0,
        metavar="PORT",
        help="watch, and show the page to browsers of this machine until Ctrl-C",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write a report; returns the exit code."""
    given = build_parser().parse_args(argv)
    return run_program(PROGRAM, lambda: _report(given))


def _report(given: argparse.Namespace) -> int:
    folders = [folder.expanduser() for folder in given.folders]
    if not folders:
        from chord_exp.report.read.folders import newest

        folders = [newest(Path.cwd())]
    page = given.out or (folders[0] / NAME if len(folders) == 1 else Path(NAME))
    if page.suffix not in SUFFIXES:
        fix = f"end it in {SUFFIXES[0]}: .md and .csv are written beside it"
        raise ConfigError(f"{page} is not named as a page", "--out", fix)
    watching = given.watch or given.serve is not None
    going_on = write(folders, page, given.target, watching)
    print(f"report: {page}")
    with _shown(page, given.serve):
        if watching and going_on:
            watch(folders, page, given.target)
        if given.serve is not None:
            threading.Event().wait()
    return SUCCEEDED


@contextmanager
def _shown(page: Path, port: int | None) -> Iterator[None]:
    """Show the page to browsers, where a port is given."""
    if port is None:
        yield
        return
    from chord_exp.report.page.serve import serving

    with serving(page, port) as address:
        print(f"report: {address} (end with Ctrl-C)", flush=True)
        yield


def write(folders: Sequence[Path], page: Path, target: float | None, watching: bool = False) -> bool:
    """Write the page, and Markdown and CSV beside it.

    Returns:
        Whether a run is still going on.

    Raises:
        ConfigError: a folder holds no run, or the page cannot be written.
    """
    # numpy and the rest, only when there is something to read
    from chord_exp.report.figures.summary import look
    from chord_exp.report.page.html import render
    from chord_exp.report.page.texts import markdown, table
    from chord_exp.report.read.folders import find_runs
    from chord_exp.report.read.runs import read_runs

    report = look(read_runs(find_runs(folders)), target)
    html = render(report, refresh=EVERY if watching and report.going_on else None)
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(page.with_suffix(".md"), markdown(report))
        write_atomically(page.with_suffix(".csv"), table(report))
        write_atomically(page, html)
    except OSError as error:
        raise ConfigError(f"cannot write {page}: {error.strerror}", "--out", "give another file") from error
    return report.going_on


def watch(folders: Sequence[Path], page: Path, target: float | None) -> None:
    """Write the page again whenever a run has written something, until all have ended."""
    going_on, seen = True, None
    while going_on:
        time.sleep(EVERY)
        now = [(path, path.stat().st_mtime_ns) for folder in folders for path in sorted(_written(folder))]
        # a run that was killed writes no end: look again now and then
        if now != seen or int(time.time()) % 60 < EVERY:
            going_on, seen = write(folders, page, target, watching=True), now


def _written(folder: Path) -> set[Path]:
    return {path for name in (METRICS, RECORD) for path in folder.glob(f"**/{name}")}


if __name__ == "__main__":
    sys.exit(main())
