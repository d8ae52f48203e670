"""Tests of the real vLLM and verl on this machine's CPU: `make test-real`. A run costs a minute, so tests share them.

In an environment without the real stack there is nothing to collect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import running
from running import Run, finish
from xdist.scheduler import LoadFileScheduling

from chord_exp.engine import real_cpu
from chord_exp.launch.driver.warm_server import warm_server

collect_ignore_glob = ["test_*.py"] if real_cpu.missing() else []
# before Ray is imported: a token file in the home folder would turn tokens on
os.environ["RAY_AUTH_MODE"] = "disabled"

REAL = ["cluster=real_cpu", "mu_schedule=constant", "mu_peak=0.5"]
# rows as they are, with log-probabilities and advantages, in place of texts
ROWS = "trinity.buffer.trainer_input.experience_buffer.path=sqlite:///{}"
# so that the first moment of AdamW shows the gradient itself
UNCLIPPED = "trinity.algorithm.optimizer.clip_grad=1000000.0"
# each runner is a process that imports vLLM where it is not forked
ONE_RUNNER = "cluster.runner_per_model=1"
# their tests look at the same runs, so one worker has all of them
SHARING = ("test_modes.py", "test_weights.py", "test_checkpoints.py")


class SharedRunsTogether(LoadFileScheduling):
    """pytest-xdist's distribution by file, with the files that share runs as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "shared" if file.endswith(SHARING) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Have the tests that share runs in one worker."""
    return SharedRunsTogether(config, log)


def small_policy_change(run: Run) -> bool:
    """Whether the engine's log-probabilities were the trainer's own in every step, packed rows and new weights."""
    changes = run.series("actor/usual/ppo_kl").values()
    return bool(changes) and all(abs(value) < 2e-3 for value in changes)


@dataclass
class RecordedRun:
    """A finished run whose rollouts are kept whole."""

    run: Run
    output: str
    database: Path


def recorded(folder: Path, *overrides: str) -> RecordedRun:
    """Make a run that saves every step and keeps its rollouts."""
    database = folder / "rollouts.db"
    run, output = finish(folder / "run", *REAL, "cluster.save_interval=1", ROWS.format(database), UNCLIPPED, *overrides)
    return RecordedRun(run, output, database)


@pytest.fixture(scope="session", autouse=True)
def shared_by_all_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder of prepared data, and a process that has imported everything once and forks the runs."""
    running.prepare_once(tmp_path_factory.getbasetemp())
    with warm_server(engine="real_cpu"):
        yield


@pytest.fixture(scope="session")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """CHORD-μ, engine and one trainer rank on one logical GPU."""
    return recorded(tmp_path_factory.mktemp("one"), "total_steps=2", "cluster.gpu_per_node=1")


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """CHORD-μ, one engine and two trainer ranks."""
    return recorded(tmp_path_factory.mktemp("two"), "total_steps=2", "cluster.gpu_per_node=3")


@pytest.fixture(scope="session")
def four_ranks(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """CHORD-φ, one engine and four trainer ranks."""
    return recorded(tmp_path_factory.mktemp("four"), "total_steps=1", "cluster.gpu_per_node=5", "variant=phi")


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> RecordedRun:
    """Trinity's own loss with the arguments that make it exact, two trainer ranks."""
    return recorded(tmp_path_factory.mktemp("stock"), "total_steps=1", "cluster.gpu_per_node=3", "loss=stock")
