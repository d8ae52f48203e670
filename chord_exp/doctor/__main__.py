"""`python -m chord_exp.doctor [RUN_DIR ...]`: checks of this machine, or what is wrong with runs.

Exit code 1 if a check fails, a run failed, or its result cannot be trusted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from chord_exp.utils.program import run_program

PROGRAM = "chord_exp.doctor"


def build_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}", description="Check this machine, or say what is wrong with runs."
    )
    parser.add_argument("run_dir", nargs="*", type=Path, metavar="RUN_DIR", help="folder of a run; none: this machine")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was found; return the exit code."""
    folders = build_parser().parse_args(argv).run_dir
    return run_program(PROGRAM, lambda: max(map(_examine, folders)) if folders else _check_machine())


def _check_machine() -> int:
    from chord_exp.doctor import machine
    from chord_exp.launch.cluster import private_ray

    os.environ |= private_ray.environment()
    styles = {machine.OK: "green", machine.NOTE: "yellow", machine.BAD: "bold red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    failed = False
    for finding in machine.findings():
        table.add_row(f"[{styles[finding.state]}]{finding.state}[/]", finding.what, finding.detail)
        failed |= finding.state == machine.BAD
    Console().print(table)
    return int(failed)


def _examine(run_dir: Path) -> int:
    from chord_exp.doctor.run import examine

    console = Console(highlight=False, soft_wrap=True, markup=False)
    found = examine(run_dir)
    console.print(f"{run_dir}: {found.state}", style="bold red" if found.failed else "bold")
    for trouble in found.troubles:
        console.print(f"{trouble.name}: {trouble.what}", style="red" if trouble.grave else "yellow")
        console.print(f"  seen  {trouble.seen}{f'  {trouble.text}' if trouble.text else ''}")
        console.print(f"  try   {trouble.remedy}")
    if not found.troubles:
        console.print("nothing is wrong, as far as its logs and metrics tell")
    return int(found.failed or any(trouble.grave for trouble in found.troubles))


if __name__ == "__main__":
    sys.exit(main())
