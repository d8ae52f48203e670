"""`make setup` and `make setup-gpu` in one folder never mix their packages. Nothing is installed here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# makes a folder that looks like a virtual environment
PYTHON = """#!/bin/sh
if [ "$2" = venv ]; then mkdir -p "$3/bin" && echo "#!/bin/sh" > "$3/bin/python" && chmod +x "$3/bin/python"; fi
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def setup(tmp_path):
    """Runs a target on an environment in `tmp_path`, with a pip that does nothing; returns what it printed."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(target: str) -> str:
        variables = [f"VENV={tmp_path / 'venv'}", f"PYTHON={python}", "PIP=true"]
        done = subprocess.run(["make", "-C", str(ROOT), target, *variables], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize(("first", "then"), [("cpu", "gpu"), ("gpu", "cpu")])
def test_the_other_set_of_packages_is_removed_first_and_said_so(setup, tmp_path, first, then):
    targets = {"cpu": "setup", "gpu": "setup-gpu"}
    assert "removing" not in setup(targets[first])
    (tmp_path / "venv" / "old-package").touch()
    assert f"holds the {first} packages" in setup(targets[then])
    assert not (tmp_path / "venv" / "old-package").exists()
    assert (tmp_path / "venv" / f".{then}").exists() and not (tmp_path / "venv" / f".{first}").exists()


@pytest.mark.parametrize("target", ["setup", "setup-gpu"])
def test_the_same_set_again_keeps_the_environment(setup, tmp_path, target):
    setup(target)
    (tmp_path / "venv" / "package").touch()
    assert "removing" not in setup(target)
    assert (tmp_path / "venv" / "package").exists()
