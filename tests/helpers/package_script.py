"""run_chord_training.sh, and what it hands to `python -m chord_exp`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "package" / "run_chord_training.sh"
# in place of Python: prints the words of `-m MODULE WORD...`, one a line
FAKE_PYTHON = '#!/bin/bash\n[[ $1 != -m ]] || printf "%s\\n" "${@:3}"\n'


def environment(**more: str) -> dict[str, str]:
    """No GPU is visible, whatever the machine has."""
    return {**os.environ, "CHORD_PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **more}


def run(place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder, on no terminal."""
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        cwd=place,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )


def fake_python(folder: Path) -> str:
    """The path of a FAKE_PYTHON."""
    path = folder / "fake_python"
    path.write_text(FAKE_PYTHON)
    path.chmod(0o755)
    return str(path)


def planned(folder: Path, *arguments: str, **more: str) -> list[str]:
    """The command line of chord_exp that `--dry-run` would show the plan of."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    words = [*arguments[:at], *([] if "--dry-run" in arguments else ["--dry-run"]), *arguments[at:]]
    done = run(folder, *words, CHORD_PYTHON=fake_python(folder), **more)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if "=" in line]
