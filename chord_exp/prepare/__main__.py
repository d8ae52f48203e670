"""`python -m chord_exp.prepare`: the command line around ensure_prepared."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from chord_exp.errors import BAD_INPUT, SUCCEEDED, DataError
from chord_exp.prepare.manifest import Manifest
from chord_exp.prepare.options import add_arguments, settings_from
from chord_exp.prepare.pipeline import ensure_prepared
from chord_exp.prepare.read.files import resolve_input
from chord_exp.prepare.report.progress import shown_progress
from chord_exp.prepare.report.summary import summary_lines
from chord_exp.prepare.report.token_lengths import Chat, RowLimit, check_rows
from chord_exp.trinity_config.rows import PREPARED_ROOT
from chord_exp.utils.program import run_program

PROGRAM = "chord_exp.prepare"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DataError(message, fix="--help lists the options")


def build_parser() -> argparse.ArgumentParser:
    """The options; every one may be spelled with underscores too."""
    parser = _Parser(
        prog=f"python -m {PROGRAM}",
        usage=f"python -m {PROGRAM} --input-dir DIR [options]",
        description="Split a folder of SFT data into sft/, rl/ and eval/ for a CHORD run.",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=26),
    )
    add = parser.add_argument
    add("--input-dir", required=True, metavar="DIR", help="folder of raw data, or the hub id of a data set")
    add("--out", type=Path, metavar="DIR", help=f"folder to write ({PREPARED_ROOT}/NAME-DIGEST)")
    add_arguments(parser)
    add("--tokenizer", metavar="DIR", help="model folder: render and count every row")
    add("--max-tokens", type=int, metavar="N", help="longest row that a run can take")
    add("--workers", type=int, metavar="N", help="processes (one a core)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one preparation; returns the exit code: 0 done, 1 cannot write, 2 bad data or arguments, 130
    interrupted."""
    words = [_dashed(word) for word in (sys.argv[1:] if argv is None else argv)]
    return run_program(PROGRAM, lambda: _prepare(words), interrupted="interrupted: the output is as it was")


def _prepare(words: list[str]) -> int:
    arguments = build_parser().parse_args(words)
    if arguments.max_tokens and not arguments.tokenizer:
        raise DataError("--max-tokens needs the model's tokenizer", fix="add --tokenizer FOLDER_OF_THE_MODEL")
    if arguments.workers is not None and arguments.workers < 1:
        raise DataError(f"--workers {arguments.workers} cannot read anything", fix="give 1 or more")
    settings = settings_from(arguments)
    chat = Chat(arguments.tokenizer, settings.system_prompt) if arguments.tokenizer else None
    with shown_progress() as progress:
        manifest = ensure_prepared(
            resolve_input(arguments.input_dir),
            settings,
            out=arguments.out,
            row_limit=RowLimit(chat, arguments.max_tokens) if chat and arguments.max_tokens else None,
            workers=arguments.workers,
            progress=progress,
            on_wait=lambda: print("waiting for another process that prepares the same data", file=sys.stderr),
        )
    for line in summary_lines(manifest):
        print(line)
    for warning in manifest.warnings:
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    out = arguments.out or os.path.relpath(manifest.folder)
    if manifest.up_to_date:
        print(f"up to date, nothing written: {out}")
    else:
        print(f"written{f' in place of other {manifest.replaced}' if manifest.replaced else ''}: {out}")
    return _check(manifest, chat, arguments.max_tokens or sys.maxsize) if chat else SUCCEEDED


def _check(manifest: Manifest, chat: Chat, limit: int) -> int:
    found = check_rows(
        manifest.folder,
        chat,
        prompt_limit=limit,
        row_limit=limit,
        multi_turn=manifest.multi_turn,
    )
    for line in found.lines():
        print(line)
    return BAD_INPUT if found.problems else SUCCEEDED


def _dashed(word: str) -> str:
    """--input_dir=a_b as --input-dir=a_b."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


if __name__ == "__main__":
    sys.exit(main())
