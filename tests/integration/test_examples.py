"""The examples run from beginning to end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(place: Path, name: str, *arguments: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(EXAMPLES / name), *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_own_data_ends_in_a_record(tmp_path):
    shown = example(tmp_path, "own_data.sh", str(EXAMPLES.parent / "sft_data"), "2")
    assert shown.rstrip().endswith("succeeded: 2 of 2 steps")


@pytest.mark.slow
def test_compared_variants_end_in_a_table(tmp_path):
    shown = example(tmp_path, "compare_variants.sh", "1", "mu,sft")
    assert shown.count("held-out accuracy") >= 2
    assert len([line for line in shown.splitlines() if "held-out accuracy" in line and "->" in line]) == 2
