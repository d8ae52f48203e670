"""A real sweep of the tiny model by the command line: killed in the middle, resumed, and told the truth about."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import refused
from running import SMALL, TIMEOUT
from sweeping import worker_of

from chord_exp.launch.cluster.private_ray import Head
from chord_exp.run_files import metrics
from chord_exp.run_files.record import RunRecord
from chord_exp.sweep.backends import worker
from chord_exp.sweep.folder import SweepFolder

STEPS = 3


def best_in_files(folder: Path) -> str:
    """The trial with the highest held-out accuracy after any step of training; the first of equals."""
    accuracy = {
        path.parent.name: max(
            value for step, value in metrics.series(metrics.read(path), metrics.ACCURACY).items() if step > 0
        )
        for path in sorted(folder.glob("*/metrics.jsonl"))
    }
    return max(accuracy, key=lambda name: accuracy[name])


def living_actors(head: Head) -> list[str]:
    """What runs left on a cluster."""
    from ray.util.state import list_actors

    found = list_actors(address=head.address, filters=[("state", "!=", "DEAD")])
    return [actor.class_name for actor in found if actor.ray_namespace.startswith("chord")]


@pytest.mark.parametrize(
    "words",
    [
        [],
        # a Ray is started and stopped
        pytest.param(
            ["hydra/launcher=ray", "hydra.launcher.address=start", "hydra.launcher.num_gpus=2"], marks=pytest.mark.slow
        ),
    ],
)
def test_a_sweep_that_never_fits_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, ["-m", "mu_peak=0.2,0.4", "hydra.launcher.memory_per_trial=9999", *words])
    assert "0_mu_peak=0.2 can never start: it takes 1 CPU, 9999.0 GiB" in line
    assert not (tmp_path / "multirun").exists()


def test_trials_killed_and_resumed_end_in_a_table_with_the_best_of_them(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweep")
    words = ["mu_peak=0.2,0.4", *SMALL, f"total_steps={STEPS}", "mu_schedule=constant", "cluster.save_interval=1"]
    command = [sys.executable, "-m", "chord_exp", "-m", *words, f"hydra.sweep.dir={folder.path}"]
    started = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + TIMEOUT
    while not any(
        row["source"] == "trainer" for path in folder.path.glob("*/metrics.jsonl") for row in metrics.read(path)
    ):
        assert started.poll() is None and time.monotonic() < deadline, started.communicate()[0]
        time.sleep(0.05)
    started.send_signal(signal.SIGKILL)
    started.communicate(timeout=TIMEOUT)
    resumed = subprocess.run(
        [sys.executable, "-m", "chord_exp.runs", "resume", str(folder.path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, "COLUMNS": "200"},
    )
    output = resumed.stdout
    assert resumed.returncode == 0, output + resumed.stderr
    trials = folder.trials()
    assert [trial.name for trial in trials] == ["0_mu_peak=0.2", "1_mu_peak=0.4"]
    assert [trial.state for trial in trials] == ["succeeded"] * 2
    assert not any(worker.is_alive(trial.run_dir) for trial in trials)
    assert max(trial.attempt for trial in trials) == 2, "the one that was cut off"
    for trial in trials:
        run = RunRecord.load(trial.run_dir / "run.json")
        assert (run.status, run.completed_steps) == ("succeeded", STEPS)
        mu = metrics.series(metrics.read(trial.run_dir / "metrics.jsonl"), metrics.MU)
        peak = float(trial.name.rpartition("=")[2])
        assert set(mu) == set(range(1, STEPS + 1)) and set(mu.values()) == {peak}
    told = re.search(r"^best: (\S+), held-out accuracy", output, re.MULTILINE)
    assert told is not None and told[1] == best_in_files(folder.path), output


@pytest.mark.slow
def test_trials_as_ray_jobs_with_a_ray_of_their_own_or_on_the_cluster_survive_being_killed(
    tmp_path: Path, head: Head
) -> None:
    folder, steps = SweepFolder(tmp_path / "sweep"), 12
    words = ["cluster.ray_address=auto,local", *SMALL, f"total_steps={steps}", "hydra/launcher=ray", "cluster=local"]
    words += [f"hydra.launcher.address={head.address}", f"hydra.sweep.dir={folder.path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "chord_exp", "-m", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    joined = folder.path / "0_ray_address=auto"
    deadline = time.monotonic() + TIMEOUT
    # two checkpoints have been begun, so that one is whole
    while max(metrics.series(metrics.read(joined / "metrics.jsonl"), metrics.MU), default=0) < 5:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    worker_of(joined).kill()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    trials = folder.trials()
    assert [(trial.state, trial.attempt) for trial in trials] == [("succeeded", 2), ("succeeded", 1)], output
    for trial in trials:
        run = RunRecord.load(trial.run_dir / "run.json")
        assert (run.status, run.completed_steps, run.attempt) == ("succeeded", steps, trial.attempt)
    made = [row["step"] for row in metrics.read(joined / "metrics.jsonl") if row["source"] == "trainer"]
    assert made.count(1) == 1 and sorted(set(made)) == list(range(1, steps + 1)), "on from a checkpoint, not from 0"
    assert living_actors(head) == [], "nothing of theirs holds the cluster"
