"""Trials of a sweep hold all the logical GPUs they need, or wait."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from conftest import REAL
from running import SMALL, TIMEOUT

# the local launcher counts no GPU that is only believed in, the other one those that its head says it has
LAUNCHERS = {
    "local": ["hydra.launcher.max_concurrent=2"],
    # the workers of a joined Ray are not forked: each imports for itself, and takes a gigabyte
    "ray": [
        "cluster.ray_address=auto",
        "cluster.runner_per_model=1",
        "hydra.launcher.address=start",
        "hydra.launcher.num_gpus=4",
        # verl asks for three with each GPU; Ray only counts them
        "hydra.launcher.num_cpus=32",
    ],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_trials_of_two_gpus_run_at_once_on_four_and_the_third_waits(tmp_path: Path, launcher: str) -> None:
    words = [*REAL[:1], *SMALL, "total_steps=1", "mu_schedule=constant", "mu_peak=0.2,0.4,0.6"]
    words += [f"hydra/launcher={launcher}", *LAUNCHERS[launcher], f"hydra.sweep.dir={tmp_path}/sweep"]
    words += ["hydra.launcher.cpus_per_trial=0.5"]
    done = subprocess.run(
        [sys.executable, "-m", "chord_exp", "-m", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("sweep/*/run.json"))]
    assert [record["status"] for record in records] == ["succeeded"] * 3
    began, ended = ([datetime.fromisoformat(record[key]) for record in records] for key in ("started", "ended"))
    assert began[1] < ended[0] and began[0] < ended[1]
    assert began[2] >= min(ended[:2])
