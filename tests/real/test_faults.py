"""Real runs that are hurt on purpose: one readable cause, the right exit code, nothing left running, and they go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import breaking_reward
import pytest
from breaking_reward import RAISE_AFTER_CALLS
from conftest import REAL
from running import Run, ended_at_exit, finish, start

STEPS = 4
BREAKING = "data.reward=breaking_reward.RewardThatBreaks"
HELPERS = str(Path(breaking_reward.__file__).parent)


def check_failed(run: Run, output: str, sign: str) -> None:
    assert run.process.returncode == 1, output
    record = run.record
    assert record["status"] == "failed" and record["completed_steps"] < STEPS
    assert sign in " ".join(str(part) for part in record["error"].values())
    assert "Traceback" not in output
    # vLLM's own processes and Ray's among them
    assert run.processes() == []


def check_resumes(run: Run, *overrides: str) -> None:
    again, output = finish(run.folder, *REAL, f"total_steps={STEPS}", "resume=true", *overrides)
    assert again.process.returncode == 0, output
    assert again.record["attempt"] > 1
    # no step twice, none lost
    assert sorted(again.series("actor/mu")) == list(range(1, STEPS + 1))


def test_a_killed_trainer_rank_fails_the_run_and_a_resume_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    run = start(tmp_path / "run", *REAL, f"total_steps={STEPS}", "cluster.save_interval=2", "cluster.gpu_per_node=3")
    with ended_at_exit(run):
        run.wait_for_step(3)
        run.kill("WorkerDict")
        check_failed(run, run.wait(), "trainer")
    check_resumes(run, "cluster.save_interval=2", "cluster.gpu_per_node=3")


@pytest.mark.parametrize(("title", "sign"), [("vLLMRolloutModel", "explorer"), ("raylet", "Ray")])
def test_a_killed_process_fails_the_run(tmp_path: Path, title: str, sign: str) -> None:
    run = start(tmp_path / "run", *REAL, f"total_steps={STEPS}")
    with ended_at_exit(run):
        run.wait_for_step(1)
        run.kill(title)
        check_failed(run, run.wait(), sign)


def test_a_reward_that_raises_is_named(tmp_path: Path) -> None:
    run, output = finish(
        tmp_path / "run",
        *REAL,
        f"total_steps={STEPS}",
        # each runner counts for itself
        "cluster.runner_per_model=1",
        BREAKING,
        env={"PYTHONPATH": HELPERS, RAISE_AFTER_CALLS: "12"},
    )
    check_failed(run, output, "rollouts")


def test_an_interrupted_run_stops_after_its_step_and_goes_on(tmp_path: Path) -> None:
    run = start(tmp_path / "run", *REAL, f"total_steps={STEPS}")
    with ended_at_exit(run):
        run.wait_for_step(1)
        os.kill(run.process.pid, signal.SIGINT)
        run.wait()
        assert run.process.returncode == 130
        assert run.record["status"] == "stopped"
        assert run.processes() == []
    check_resumes(run)
