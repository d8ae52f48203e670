"""Split a folder of SFT data into the rows that qwen3_chord_config.yaml and qwen3_chord_simple.yaml read.

    python prepare_chord_data.py --input_dir sft_data --expert_ratio 0.25

This is `python -m chord_exp.prepare` with the package's own settings where none are given: it writes to ./prepared, and
with the system prompt of the two YAML files. All options of that command work here, with dashes or underscores.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

try:
    import yaml

    import chord_exp
    from chord_exp.prepare.__main__ import main as prepare
except ImportError as error:
    sys.exit(f"{error}: activate the environment first: source ../.venv/bin/activate (or pip install chord_exp)")

SAMPLE = "sft_data"
PREPARED = "prepared"


def with_defaults(arguments: Sequence[str]) -> list[str]:
    """The arguments with the package's settings for what they leave out."""
    given = {word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")}
    settings = yaml.safe_load(resources.files("chord_exp.conf").joinpath("data", "folder.yaml").read_text("utf-8"))
    completed = list(arguments)
    if "--help" in given or "-h" in arguments:
        return completed
    if "--input-dir" not in given:
        completed.append(f"--input-dir={SAMPLE}")
    for option, value in (("--out", PREPARED), ("--system-prompt", settings["system_prompt"])):
        if option not in given:
            completed.append(f"{option}={value}")
    return _sample_at_hand(completed)


def _sample_at_hand(arguments: list[str]) -> list[str]:
    """`sft_data` is the sample that comes with chord_exp where there is no such folder here."""
    if Path(SAMPLE).exists():
        return arguments
    package = Path(chord_exp.__file__).parent
    sample = next(str(place) for place in (package / SAMPLE, package.parent / SAMPLE) if place.is_dir())
    names = (f"--input-dir={SAMPLE}", f"--input_dir={SAMPLE}")
    return [
        f"--input-dir={sample}"
        if word in names
        else sample
        if word == SAMPLE and index and arguments[index - 1].replace("_", "-") == "--input-dir"
        else word
        for index, word in enumerate(arguments)
    ]


if __name__ == "__main__":
    sys.exit(prepare(with_defaults(sys.argv[1:])))
