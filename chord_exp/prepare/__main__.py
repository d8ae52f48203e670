"""`python -m chord_exp.prepare`: the command line around ensure_prepared."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from chord_exp.errors import BAD_INPUT, INTERRUPTED, SUCCEEDED, ChordExpError, DataError
from chord_exp.prepare.answers.scoring import FREE_TEXT_CHOICES
from chord_exp.prepare.manifest import Manifest
from chord_exp.prepare.options import PrepareOptions, parse_map
from chord_exp.prepare.pipeline import ensure_prepared
from chord_exp.prepare.read.files import resolve_input
from chord_exp.prepare.report.progress import shown_progress
from chord_exp.prepare.report.summary import summary_lines
from chord_exp.trinity_config.rows import PREPARED_ROOT

PROGRAM = "chord_exp.prepare"
DEFAULT_EXPERT_RATIO = 0.25
DEFAULT_EVAL_RATIO = 0.05
# that of conf/data: the same folder and the same numbers give the same split by either command
DEFAULT_SEED = 42
DEFAULT_SIMILARITY = 0.8


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise DataError(message, fix="--help lists the options")


def build_parser() -> argparse.ArgumentParser:
    """The options; every one may be spelled with underscores too."""
    parser = _Parser(
        prog=f"python -m {PROGRAM}",
        usage=f"python -m {PROGRAM} --input-dir DIR [options]",
        description="Split a folder of SFT data into sft/, rl/ and eval/ for a CHORD run.",
        epilog="expert-ratio divides the data set, a run's expert_data_ratio each batch.",
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=26),
    )
    add = parser.add_argument
    add("--input-dir", required=True, metavar="DIR", help="folder of raw data, or the hub id of a data set")
    add("--out", type=Path, metavar="DIR", help=f"folder to write ({PREPARED_ROOT}/NAME-DIGEST)")
    add("--expert-ratio", type=float, metavar="R", default=DEFAULT_EXPERT_RATIO, help="share that goes to SFT (0.25)")
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument("--eval-rows", type=int, metavar="N", help="held-out prompts, as a number")
    held_out.add_argument("--eval-ratio", type=float, metavar="R", help="held-out prompts, as a share (0.05)")
    add("--eval-dir", type=Path, metavar="DIR", help="evaluation data that must not be trained on")
    add("--system-prompt", default="", metavar="TEXT", help="the run's system prompt, put into SFT rows")
    add("--map", default="", metavar="FIELDS", help="prompt=my_field,response=my_other_field")
    add("--seed", type=int, default=DEFAULT_SEED, metavar="N", help="another seed, another split (42)")
    add("--free-text", choices=FREE_TEXT_CHOICES, default="none", metavar="HOW", help="|".join(FREE_TEXT_CHOICES))
    add(
        "--near-dedup",
        type=float,
        nargs="?",
        const=DEFAULT_SIMILARITY,
        metavar="S",
        help=f"drop rows alike from similarity S ({DEFAULT_SIMILARITY})",
    )
    add("--answer-check", action="store_true", help="score the experts' answers by the reward")
    add("--tokenizer", metavar="DIR", help="model folder: lengths in tokens")
    add("--check", action="store_true", help="read all rows as Trinity will (needs --tokenizer)")
    add("--max-tokens", type=int, metavar="N", help="with --check: longest row a run can take")
    add("--workers", type=int, metavar="N", help="processes (one a core)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one preparation; returns the exit code: 0 done, 1 cannot write, 2 bad data or arguments, 130
    interrupted."""
    try:
        arguments = build_parser().parse_args([_dashed(word) for word in (sys.argv[1:] if argv is None else argv)])
        return _prepare(arguments)
    except ChordExpError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted: the output is as it was", file=sys.stderr)
        return INTERRUPTED


def _prepare(arguments: argparse.Namespace) -> int:
    if arguments.check and not arguments.tokenizer:
        raise DataError("--check needs the model's tokenizer", fix="add --tokenizer FOLDER_OF_THE_MODEL")
    if arguments.workers is not None and arguments.workers < 1:
        raise DataError(f"--workers {arguments.workers} cannot read anything", fix="give 1 or more")
    eval_ratio = arguments.eval_ratio
    if eval_ratio is None and arguments.eval_rows is None:
        eval_ratio = DEFAULT_EVAL_RATIO
    options = PrepareOptions(
        expert_ratio=arguments.expert_ratio,
        eval_rows=arguments.eval_rows,
        eval_ratio=eval_ratio,
        seed=arguments.seed,
        system_prompt=arguments.system_prompt,
        map=parse_map(arguments.map),
        near_dedup=arguments.near_dedup,
        answer_check=arguments.answer_check,
        free_text=arguments.free_text,
        tokenizer=arguments.tokenizer,
    )
    with shown_progress() as progress:
        manifest = ensure_prepared(
            resolve_input(arguments.input_dir),
            options,
            out=arguments.out,
            eval_dir=arguments.eval_dir,
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
    return _check(manifest, arguments) if arguments.check else SUCCEEDED


def _check(manifest: Manifest, arguments: argparse.Namespace) -> int:
    from chord_exp.prepare.trinity_readers import check_prepared

    limit = arguments.max_tokens or sys.maxsize
    report = check_prepared(
        manifest.folder,
        arguments.tokenizer,
        system_prompt=arguments.system_prompt,
        max_prompt_tokens=limit,
        max_tokens=limit,
        multi_turn=manifest.multi_turn,
    )
    for line in report.lines():
        print(line)
    return SUCCEEDED if report.ok else BAD_INPUT


def _dashed(word: str) -> str:
    """--input_dir=a_b as --input-dir=a_b."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


if __name__ == "__main__":
    sys.exit(main())
