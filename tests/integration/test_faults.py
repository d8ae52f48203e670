"""Runs that are hurt on purpose: each ends with the right status, exit code and message, and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import breaking_reward
import psutil
import pytest
from breaking_reward import NAN_AFTER_CALLS, RAISE_AFTER_CALLS
from running import FINISHED_STEPS as STEPS
from running import Run, check_resumes, ended_at_exit, finish, start
from safetensors.torch import load_file

from chord_exp.run_files.metrics import ACCURACY

HELPERS = str(Path(breaking_reward.__file__).parent)
BREAKING = "data.reward=breaking_reward.RewardThatBreaks"


def check_failed(run: Run, output: str, *signs: str) -> None:
    assert run.process.returncode == 1, output
    record = run.record
    assert record["status"] == "failed"
    assert record["completed_steps"] < record["planned_steps"]
    told = " ".join(str(part) for part in record["error"].values())
    for sign in signs:
        assert sign in told, told
    assert record["error"]["what"] in output.replace("\n", " ")
    assert "Traceback" not in output
    assert run.processes() == []


def test_a_killed_trainer_fails_the_run_and_a_resume_sets_the_damaged_checkpoint_aside(tmp_path: Path) -> None:
    run = start(tmp_path / "run", f"total_steps={STEPS}")
    with ended_at_exit(run):
        run.wait_for_step(7)
        run.kill("LocalTrainer")
        check_failed(run, run.wait(), "trainer")
    newest = max(run.folder.glob("checkpoints/*/*/global_step_*"), key=lambda path: int(path.name.rsplit("_")[-1]))
    file = newest / "actor" / "huggingface" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    check_resumes(run)
    assert newest.with_suffix(".corrupt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("title", "sign"), [("LocalExplorer", "explorer"), ("raylet", "Ray")])
def test_a_killed_process_fails_the_run(tmp_path: Path, title: str, sign: str) -> None:
    run = start(tmp_path / "run", f"total_steps={STEPS}")
    with ended_at_exit(run):
        run.wait_for_step(3)
        run.kill(title)
        check_failed(run, run.wait(), sign)


@pytest.mark.slow
def test_a_resumed_sft_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    overrides = [f"total_steps={STEPS}", "variant=sft"]
    run = start(tmp_path / "run", *overrides)
    with ended_at_exit(run):
        run.wait_for_step(5)
        run.kill("LocalTrainer")
        check_failed(run, run.wait(), "trainer")
    steps_before = sum(row["source"] == "trainer" for row in run.rows)
    again, output = finish(run.folder, *overrides, "resume=true")
    assert again.process.returncode == 0, output
    steps_made = sum(row["source"] == "trainer" for row in again.rows) - steps_before
    # from the checkpoint of step 4 at the earliest
    assert steps_made <= STEPS - 4


@pytest.mark.slow
def test_nan_fails_the_run_before_it_reaches_the_weights(tmp_path: Path) -> None:
    broken = {"PYTHONPATH": HELPERS, NAN_AFTER_CALLS: "40"}
    run, output = finish(tmp_path / "run", f"total_steps={STEPS}", BREAKING, env=broken)
    check_failed(run, output, "not finite", "mu_peak")
    last = max(run.folder.glob("checkpoints/*/*/global_step_*/actor/huggingface/model.safetensors"))
    assert all(tensor.isfinite().all() for tensor in load_file(last).values())


@pytest.mark.slow
def test_a_reward_that_raises_fails_the_run_instead_of_hanging_it(tmp_path: Path) -> None:
    broken = {"PYTHONPATH": HELPERS, RAISE_AFTER_CALLS: "24"}
    run, output = finish(tmp_path / "run", f"total_steps={STEPS}", BREAKING, env=broken)
    check_failed(run, output, "rollouts of step")
    assert "\n" not in run.record["error"]["what"]


@pytest.mark.slow
def test_a_run_whose_watcher_is_killed_saves_ends_and_can_be_resumed(tmp_path: Path) -> None:
    run = start(tmp_path / "run", f"total_steps={STEPS}")
    with ended_at_exit(run):
        run.wait_for_step(4)
        run.process.kill()
        run.process.wait()
        left = run.processes()
        _, alive = psutil.wait_procs(left, timeout=900)
        assert alive == []
    assert max(run.series("actor/mu")) < STEPS
    check_resumes(run)


@pytest.mark.slow
def test_a_run_stopped_in_its_last_evaluation_makes_it_when_resumed(tmp_path: Path) -> None:
    run = start(tmp_path / "run", f"total_steps={STEPS}", "data.eval_rows=60")
    with ended_at_exit(run):
        run.wait_for_phase("evaluating the trained model")
        run.process.send_signal(signal.SIGINT)
        output = run.wait()
    assert run.record["completed_steps"] == STEPS, output
    # a machine that is quick enough has evaluated before it was asked
    assert (STEPS in run.series(ACCURACY)) == (run.record["status"] == "succeeded")
    again, output = finish(run.folder, f"total_steps={STEPS}", "data.eval_rows=60", "resume=true")
    assert (again.process.returncode, again.record["status"]) == (0, "succeeded"), output
    assert STEPS in again.series(ACCURACY)


@pytest.mark.slow
def test_ctrl_c_during_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    run = start(tmp_path / "run", f"total_steps={STEPS}")
    with ended_at_exit(run):
        run.wait_for_file("logs/phase.txt")
        run.process.send_signal(signal.SIGINT)
        run.process.send_signal(signal.SIGINT)
        output = run.wait()
        assert run.process.returncode == 130, output
        assert run.processes() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_fails_the_run_and_is_named(small_disk: Path) -> None:
    run = start(small_disk / "run", f"total_steps={STEPS}")
    with ended_at_exit(run):
        run.wait_for_step(3)
        fill = small_disk / "fill"
        with open(fill, "wb") as stream:
            try:
                while True:
                    stream.write(os.urandom(1 << 16))
                    stream.flush()
            except OSError:
                pass
        check_failed(run, run.wait(), "disk", "free some space")
