"""`python -m chord_exp.prepare`: the command line around ensure_prepared."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from chord_exp.errors import INTERRUPTED, SUCCEEDED, ChordExpError, DataError
from chord_exp.prepare.layout import default_out
from chord_exp.prepare.pipeline import Progress, ensure_prepared
from chord_exp.prepare.summary import summary_lines

PROGRAM = "chord_exp.prepare"
DEFAULT_EXPERT_RATIO = 0.25
DEFAULT_EVAL_RATIO = 0.05
# that of conf/data: the same folder and the same numbers give the same split by either command
DEFAULT_SEED = 42
_SECONDS_BETWEEN_LINES = 5.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DataError(message, fix="--help lists the options")


def build_parser() -> argparse.ArgumentParser:
    """The options; every one may be spelled with underscores too."""
    parser = _Parser(
        prog=f"python -m {PROGRAM}",
        description="Split a folder of SFT data (.json, .jsonl) into sft/, rl/ and eval/ for a CHORD run.",
        epilog="expert-ratio divides the data set; a run's expert_data_ratio divides each batch.",
        allow_abbrev=False,
    )
    parser.add_argument("--input-dir", type=Path, required=True, metavar="DIR", help="folder of raw data")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (outputs/prepared/<name of input>)")
    parser.add_argument(
        "--expert-ratio",
        type=float,
        default=DEFAULT_EXPERT_RATIO,
        metavar="R",
        help="share of verifiable rows for SFT (%(default)s)",
    )
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument("--eval-rows", type=int, metavar="N", help="held-out prompts, as a number")
    held_out.add_argument(
        "--eval-ratio", type=float, metavar="R", help=f"held-out prompts, as a share ({DEFAULT_EVAL_RATIO})"
    )
    parser.add_argument(
        "--system-prompt",
        default="",
        metavar="TEXT",
        help="the run's system prompt, put into SFT rows (none)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=DEFAULT_SEED,
        metavar="N",
        help="another seed, another split (%(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one preparation; returns the exit code: 0 done, 1 cannot write, 2 bad data or arguments, 130
    interrupted."""
    try:
        arguments = build_parser().parse_args([_dashed(word) for word in (sys.argv[1:] if argv is None else argv)])
        out = arguments.out or default_out(arguments.input_dir)
        eval_ratio = arguments.eval_ratio
        if eval_ratio is None and arguments.eval_rows is None:
            eval_ratio = DEFAULT_EVAL_RATIO
        with _shown_progress() as progress:
            manifest = ensure_prepared(
                arguments.input_dir,
                out,
                expert_ratio=arguments.expert_ratio,
                eval_rows=arguments.eval_rows,
                eval_ratio=eval_ratio,
                seed=arguments.seed,
                system_prompt=arguments.system_prompt,
                progress=progress,
                on_wait=lambda: print("waiting for another preparation in the same folder", file=sys.stderr),
            )
    except ChordExpError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted: the output is as it was", file=sys.stderr)
        return INTERRUPTED
    for line in summary_lines(manifest):
        print(line)
    for warning in manifest.warnings:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    if manifest.up_to_date:
        print(f"up to date, nothing written: {out}")
    else:
        print(f"written{f' again ({manifest.rebuilt_because})' if manifest.rebuilt_because else ''}: {out}")
    return SUCCEEDED


def _dashed(word: str) -> str:
    """--input_dir=a_b as --input-dir=a_b."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    """A bar on a terminal; else a line every few seconds, none for a short preparation."""
    if not sys.stderr.isatty():
        yield _plain_progress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("reading"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    began = time.monotonic()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, rate="")

        def show(done: int, total: int, rows: int) -> None:
            rate = rows / max(time.monotonic() - began, 1e-6)
            bar.update(task, completed=done, total=total, rate=f"{rows:,} rows, {rate:,.0f}/s")

        yield show


def _plain_progress() -> Progress:
    began = last = time.monotonic()

    def show(done: int, total: int, rows: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            print(
                f"read {done / max(total, 1):.0%}, {rows:,} rows, {rows / (now - began):,.0f}/s",
                file=sys.stderr,
                flush=True,
            )

    return show


if __name__ == "__main__":
    sys.exit(main())
