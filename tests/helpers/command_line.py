"""What the tests of the command line share: data, a small experiment, and how a refusal looks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from chord_exp.cli import main

ROWS = [{"prompt": f"What is {a} + {b}?", "response": f"\\boxed{{{a + b}}}"} for a in range(12) for b in range(12)]
SMALL = ["data.eval_rows=8", "total_steps=4", "mu_schedule=constant"]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"sft_data"}


def refused(capsys, arguments: list[str]) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1 and "Traceback" not in captured.err, captured.err
    return lines[0]


def run_module(place: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=900)
