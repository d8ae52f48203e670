"""Real runs that are hurt on purpose: one readable cause, the right exit code, nothing left running, and they go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import breaking_reward
import pytest
from breaking_reward import NAN_AFTER_CALLS, RAISE_AFTER_CALLS
from conftest import REAL
from running import Run, ended_at_exit, finish, start
from safetensors.torch import load_file

STEPS = 6
BREAKING = "data.reward=breaking_reward.RewardThatBreaks"
HELPERS = str(Path(breaking_reward.__file__).parent)
# each runner counts for itself
ONE_RUNNER = "cluster.runner_per_model=1"
# bytes of a disk that holds a run and two checkpoints
SMALL_DISK = 96 * 2**20


def check_failed(run: Run, output: str, *signs: str, planned: int = STEPS) -> None:
    assert run.process.returncode == 1, output
    record = run.record
    assert record["status"] == "failed" and record["completed_steps"] < planned
    told = " ".join(str(part) for part in record["error"].values())
    for sign in signs:
        assert sign in told, told
    assert "\n" not in record["error"]["what"] and "Traceback" not in output
    # vLLM's own processes and Ray's among them
    assert run.processes() == []


def trained(run: Run) -> list[int]:
    """The steps that the trainer logged, in order, those made twice twice."""
    return [row["step"] for row in run.rows if row["source"] == "trainer"]


def asked(run: Run) -> set[str]:
    """The prompts of all rollouts."""
    (file,) = run.folder.glob("checkpoints/*/*/buffer/*.jsonl")
    return {json.loads(line)["prompt_text"] for line in file.read_text().splitlines()}


def test_a_run_goes_on_after_each_of_its_processes_was_killed_and_after_ctrl_c(tmp_path: Path) -> None:
    words = [*REAL, f"total_steps={STEPS}", "cluster.save_interval=1", "cluster.gpu_per_node=3"]
    run = start(tmp_path / "run", *words)
    with ended_at_exit(run):
        run.wait_for_step(1)
        # one of two ranks
        run.find("WorkerDict")[0].kill()
        check_failed(run, run.wait(), "trainer")
    run = start(tmp_path / "run", *words, "resume=true")
    with ended_at_exit(run):
        run.wait_for_step(2)
        run.kill("raylet")
        check_failed(run, run.wait(), "Ray")
    run = start(tmp_path / "run", *words, "resume=true")
    with ended_at_exit(run):
        run.wait_for_step(3)
        os.kill(run.process.pid, signal.SIGINT)
        run.wait()
        assert run.process.returncode == 130
        assert run.record["status"] == "stopped"
        assert run.processes() == []
    before = trained(run)
    run, output = finish(tmp_path / "run", *words, "resume=true")
    assert run.process.returncode == 0, output
    assert run.record["attempt"] == 4
    # after Ctrl-C no step twice, none lost; after a kill none lost
    assert trained(run)[len(before) :] == list(range(before[-1] + 1, STEPS + 1))
    assert sorted(set(trained(run))) == list(range(1, STEPS + 1))
    # the data goes on too: each step has two prompts of its own, and those of a step made again are the same
    assert len(asked(run)) == 2 * STEPS


def test_a_reward_that_raises_is_named(tmp_path: Path) -> None:
    env = {"PYTHONPATH": HELPERS, RAISE_AFTER_CALLS: "12"}
    run, output = finish(tmp_path / "run", *REAL, f"total_steps={STEPS}", ONE_RUNNER, BREAKING, env=env)
    check_failed(run, output, "rollouts of step")


def test_nan_fails_the_run_at_once_and_does_not_reach_the_weights(tmp_path: Path) -> None:
    env = {"PYTHONPATH": HELPERS, NAN_AFTER_CALLS: "20"}
    words = [*REAL, f"total_steps={STEPS}", "cluster.save_interval=1", ONE_RUNNER, BREAKING]
    run, output = finish(tmp_path / "run", *words, "trinity.trainer.save_hf_checkpoint=always", env=env)
    check_failed(run, output, "not finite", "mu_peak")
    assert trained(run) == list(range(1, run.record["completed_steps"] + 1))
    for file in run.folder.glob("checkpoints/*/*/global_step_*/actor/huggingface/model.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(file).values())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_named(small_disk: Path) -> None:
    run = start(small_disk / "run", *REAL, f"total_steps={STEPS}", "cluster.save_interval=1")
    with ended_at_exit(run):
        run.wait_for_step(1)
        with open(small_disk / "fill", "wb") as stream:
            try:
                while True:
                    stream.write(os.urandom(1 << 16))
                    stream.flush()
            except OSError:
                pass
        check_failed(run, run.wait(), "disk", "free some space")
