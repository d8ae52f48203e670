"""A process that would give two of its forks the same random numbers is not used to fork Ray's workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKS_DIFFER = """
import sys
import ray
from ray._raylet import UniqueID
from chord_exp.launch.forking.forkserver import _forks_differ
if sys.argv[1] == "drawn":
    UniqueID.from_random()
print(_forks_differ())
"""


@pytest.mark.parametrize(("state", "differ"), [("fresh", "True"), ("drawn", "False")])
def test_forks_differ_unless_ray_has_drawn_a_number_before(state: str, differ: str) -> None:
    done = subprocess.run([sys.executable, "-c", FORKS_DIFFER, state], capture_output=True, text=True, timeout=600)
    assert done.stdout.split() == [differ], done.stderr
