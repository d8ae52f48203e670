"""Ray workers forked from one process that has imported everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from chord_exp.launch.cluster import private_ray
from chord_exp.launch.forking.forkserver import TESTED_RAY
from chord_exp.launch.processes import MARK, of_run


@pytest.fixture(scope="module")
def report() -> dict:
    script = Path(__file__).parents[1] / "helpers" / "forked_ray.py"
    environment = {**os.environ, **private_ray.environment(), MARK: "forkserver-test"}
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=900, env=environment)
    assert result.returncode == 7, result.stdout + result.stderr
    return json.loads(result.stdout.strip().splitlines()[-1])


def test_workers_are_children_of_the_server_and_not_of_the_raylet(report: dict) -> None:
    assert set(report["parents"]) == {report["server"]}


def test_what_a_worker_spawns_is_forked_with_its_pipes_and_ends_with_its_own_exit_code(report: dict) -> None:
    assert report["spawned"] == [report["server"], "seen", 5]


def test_ray_notices_a_forked_worker_that_dies(report: dict) -> None:
    assert report["died"] == "WorkerCrashedError"


def test_the_private_ray_listens_on_loopback_only(report: dict) -> None:
    assert report["address"].startswith("127.0.0.1:")


def test_nothing_is_left_when_the_driver_has_ended(report: dict) -> None:
    psutil.wait_procs(of_run("forkserver-test"), timeout=900)
    assert of_run("forkserver-test") == []


def test_the_installed_ray_is_one_that_forking_was_tested_with() -> None:
    assert metadata.version("ray").startswith(TESTED_RAY), "try the tests above with it, then add it to TESTED_RAY"
