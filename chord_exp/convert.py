"""`python -m chord_exp.convert RUN|CHECKPOINT`: Hugging Face weights of checkpoints that verl saved as shards, or with
adapters beside a frozen model.

`trinity convert` logs its failures and goes on: here what it wrote is looked at. Exit codes: 0 there, 1 a
checkpoint could not be converted, 2 nothing to convert.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from chord_exp.errors import SUCCEEDED, ConfigError, RunFailed
from chord_exp.launch.kept import add_choice, chosen, hf_of, run_around
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.launch.verdict import damaged_weights
from chord_exp.run_files.checkpoints import ADAPTER_FOLDER
from chord_exp.run_files.model_card import try_write_card
from chord_exp.utils.program import run_program
from chord_exp.utils.text import warn

PROGRAM = "chord_exp.convert"


def main(argv: Sequence[str] | None = None) -> int:
    """Convert what the command line names; returns the exit code."""
    given = build_parser().parse_args(argv)
    return run_program(PROGRAM, lambda: _convert_all(given))


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}",
        description="Write the Hugging Face weights of a run's checkpoints, with a model card. The last step of a run "
        "has both already.",
        allow_abbrev=False,
    )
    parser.add_argument("target", type=Path, metavar="RUN|CHECKPOINT", help="folder of a run, or of its checkpoint")
    add_choice(parser)
    return parser


def _convert_all(given: argparse.Namespace) -> int:
    folder = given.target.expanduser().absolute()
    run_dir = run_around(folder)
    if run_dir is None:
        raise ConfigError(
            f"{given.target} is no run, and lies in none: no run.json",
            "RUN|CHECKPOINT",
            "give a folder below outputs/; what trinity run has left, convert by trinity convert",
        )
    base_model = LaunchSpec.load(run_dir).base_model
    for checkpoint in chosen(given, folder, run_dir).values():
        weights = hf_of(checkpoint)
        if damaged_weights(weights) is not None:
            _convert(checkpoint, base_model)
        warn(try_write_card(weights, run_dir))
        print(weights)
    return SUCCEEDED


def _convert(checkpoint: Path, base_model: str) -> None:
    """
    Raises:
        RunFailed: there are no whole weights afterwards.
    """
    # slow to import; this makes what Trinity imports of vLLM, where that is not installed
    from chord_exp.engine import lora

    actor = checkpoint / "actor"
    if (actor / ADAPTER_FOLDER).is_dir():
        lora.merge_checkpoint(_frozen_model(actor / ADAPTER_FOLDER, base_model), actor)
    else:
        from trinity.manager.checkpoint_converter import Converter

        Converter(base_model).convert(str(checkpoint))
    if (problem := damaged_weights(hf_of(checkpoint))) is not None:
        raise RunFailed(
            f"{checkpoint} could not be converted: {problem.what}",
            str(checkpoint),
            "what Trinity says is above",
        )


def _frozen_model(adapter: Path, base_model: str) -> str:
    """The model that adapters were trained beside: of a second stage, what the first one made of the base model."""
    named = str(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"])
    return named if Path(named).is_dir() else base_model


if __name__ == "__main__":
    sys.exit(main())
