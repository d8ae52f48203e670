"""A run as a job of a real Ray: it goes on without its launcher, is stopped and gone on with from elsewhere."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from command_line import run_module
from running import ended_at_exit, start

from chord_exp.launch.cluster.private_ray import Head
from chord_exp.runs.find import look_at

# enough to be looked at and stopped in the middle, on a busy machine too
STEPS = 60


@pytest.fixture
def on_cluster(head: Head) -> list[str]:
    """The words that send a small run to the cluster."""
    return ["hydra/launcher=ray", f"hydra.launcher.address={head.address}", f"total_steps={STEPS}"]


def test_a_job_outlives_its_launcher_is_stopped_and_gone_on_with(tmp_path: Path, on_cluster: list[str]):
    run = start(tmp_path / "run", *on_cluster)
    with ended_at_exit(run):
        run.wait_for_step(2)
        os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()
        assert look_at(run.folder).kind == "job" and run.processes(), "it went on"
        shown = run_module(tmp_path, "-m", "chord_exp.runs", "show", "run")
        assert "step" in shown.stdout and f"/{STEPS}" in shown.stdout, shown.stderr
        stopped = run_module(tmp_path, "-m", "chord_exp.runs", "stop", "run")
        assert "stopped; go on with" in stopped.stdout, stopped.stderr
        assert run.record["status"] == "stopped" and not run.processes()
        made = run.record["completed_steps"]
        assert 2 <= made < STEPS
        again = run_module(tmp_path, "-m", "chord_exp.runs", "resume", "run")
        assert again.returncode == 0, again.stdout + again.stderr
        assert run.record["status"] == "succeeded" and run.record["attempt"] == 2
        assert sorted(run.series("actor/mu")) == list(range(1, STEPS + 1))


def test_cluster_auto_reads_the_ray_that_is_named(tmp_path: Path, head: Head, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", head.ray_address)
    words = [
        "action=plan",
        "cluster=auto",
        "model=qwen3_0_6b",
        "model.path=builtin:tiny",
        "data=prepared",
        "data.out=no",
    ]
    planned = run_module(tmp_path, "-m", "chord_exp", *words)
    assert planned.returncode == 0, planned.stderr
    assert "the Ray cluster has 4 GPUs: cluster=gpu_2 cluster.gpu_per_node=4" in planned.stderr
    assert "2 for 2 engines + 2 for the trainer" in planned.stdout
