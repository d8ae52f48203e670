"""What several tests look at: a finished run, a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import running
from fake_sweep import DEFAULTS
from running import FINISHED_STEPS, Run, finish

from chord_exp.launch.cluster.private_ray import Head
from chord_exp.launch.driver.warm_server import warm_server
from chord_exp.sweep.backends import ray_jobs
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.settings import Settings

# before Ray is imported: a token file in the home folder would turn tokens on
os.environ["RAY_AUTH_MODE"] = "disabled"


@pytest.fixture(scope="session", autouse=True)
def shared_by_all_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder of prepared data, and a process that has imported everything once and forks the runs."""
    running.prepare_once(tmp_path_factory.getbasetemp())
    with warm_server():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str]:
    """A whole run, and what it printed; its tests are in one file, so that one worker makes it once."""
    return finish(tmp_path_factory.mktemp("finished") / "run", f"total_steps={FINISHED_STEPS}")


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A Ray cluster of one machine with four logical GPUs and eight logical cores."""
    folder = SweepFolder(tmp_path_factory.mktemp("head"))
    settings = Settings.read({**DEFAULTS, "backend": "ray", "address": "start", "num_gpus": 4, "num_cpus": 8})
    started = ray_jobs.start_head(folder, settings)
    yield started
    started.stop()
    assert started.process() is None and not Path(started.temp_dir).exists()
