"""`python -m chord_exp.check my_config.yaml`: what a hand-written mix_chord configuration would do.

Exit codes: 0 nothing wrong (warnings at most), 2 errors.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from chord_exp.check.document import Document, look_at_data, read
from chord_exp.check.rules import findings, summary
from chord_exp.check.subject import ERROR, WARNING, Finding
from chord_exp.errors import BAD_INPUT, SUCCEEDED, ConfigError
from chord_exp.trinity_config.installed import verl_is_legacy
from chord_exp.utils.program import run_program

PROGRAM = "chord_exp.check"


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Explain, with numbers, what does not fit in a mix_chord configuration for `trinity run`.",
        epilog="Exit code 0: no errors; 2: errors, each with its line, its numbers and what to write instead.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, nargs="+", metavar="FILE", help="YAML file for trinity run --config")
    parser.add_argument(
        "--verl",
        choices=("installed", "old", "new"),
        default="installed",
        help="check for verl before 0.8 (old), or 0.8 and later (new)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check files; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    legacy = verl_is_legacy() if arguments.verl == "installed" else arguments.verl == "old"
    return run_program(PROGRAM, lambda: max([check(path, legacy) for path in arguments.config]))


def check(path: Path, verl_legacy: bool) -> int:
    """Check one file and print what was found; returns the exit code.

    Raises:
        ConfigError: the file cannot be read.
    """
    # slow to import, and reading a file that is none needs nothing of it
    document = read(path)
    from chord_exp.trinity_config.schema import trinity_keys

    known = frozenset(trinity_keys())
    rows = look_at_data(document.values)
    found = findings(document.values, verl_legacy=verl_legacy, rows=rows, known=known)
    if all(one.severity != ERROR for one in found):
        found = [*_against_schema(document), *found]
    for one in found:
        print(_line(path, document, one))
    for key, data in rows.items():
        if data.files:
            counted = "rows not counted" if data.count is None else _counted(data.count, "row")
            print(f"{path}: {key}: looked at {', '.join(data.files)} ({counted})")
    errors = sum(one.severity == ERROR for one in found)
    state = f"{_counted(errors, 'error')}, {_counted(len(found) - errors, 'warning')}" if found else "no mismatch"
    print(f"{path}: {state} ({summary(document.values)})")
    return BAD_INPUT if errors else SUCCEEDED


def _against_schema(document: Document) -> list[Finding]:
    from chord_exp.trinity_config.schema import merge_into_schema, passed_over

    try:
        merge_into_schema(document.values)
    except ConfigError as error:
        return [Finding(ERROR, error.where.removeprefix("trinity."), error.what, error.fix)]
    return [
        Finding(WARNING, path, "Trinity writes this key itself, or does not hand it to verl", "leave it out")
        for path in passed_over(document.values)
    ]


def _line(path: Path, document: Document, finding: Finding) -> str:
    number = document.line_of(finding.key)
    place = f"{path}:{number}" if number else str(path)
    return f"{place}: {finding.severity}: {finding.key}: {finding.what} -> {finding.fix}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
