"""run_chord_training.sh: its flags, its refusals, and what it says on a machine without a GPU."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "package" / "run_chord_training.sh"
DRY = ["--dry-run", "--", "data.eval_rows=8"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def environment(**more: str) -> dict[str, str]:
    """No GPU is visible, whatever the machine has."""
    return {**os.environ, "CHORD_PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **more}


def run(place: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        cwd=place,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_lists_every_option_and_fits_a_screen(tmp_path):
    done = run(tmp_path, "--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) <= 24
    for option in (
        "input-dir",
        "expert-ratio",
        "config-type",
        "model",
        "gpus",
        "local",
        "name",
        "out",
        "resume",
        "yes",
    ):
        assert f"--{option}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--foo"], "不认识的选项 --foo"),
        (["--gpus"], "--gpus 后面缺少值"),
        (["--gpus", "two"], "--gpus two 不是个数"),
        (["--config-type", "tiny"], "full 或 simple"),
        (["--name="], "--name 的值是空的"),
        (["--input-dir", "nowhere"], "没有数据文件夹 nowhere"),
        (["--resume"], "--out"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line_and_nothing_is_left(tmp_path, arguments, words):
    done = run(tmp_path, *arguments)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_and_a_terminal_it_says_what_to_do_and_runs_nothing(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 2 and "没有发现 GPU" in done.stdout and "--local" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--local", "--yes"])
def test_without_a_gpu_the_local_engine_is_a_flag_away(tmp_path, flag):
    done = run(tmp_path, flag, "--expert_ratio=0.3", "--config-type", "simple", "--name", "mine", *DRY)
    assert done.returncode == 0, done.stderr
    assert "chord/mine" in done.stdout and "this machine" in done.stdout
    # the seed's schedule at a tenth of its length
    assert "total_steps" in done.stdout and "step 40: 0.050" in done.stdout


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 0), ("n", 2)])
def test_on_a_terminal_it_asks(tmp_path, answer, code):
    driver, terminal = pty.openpty()
    process = subprocess.Popen(
        ["bash", str(SCRIPT), *DRY], cwd=tmp_path, env=environment(), stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    os.write(driver, f"{answer}\n".encode())
    shown = b""
    while True:
        try:
            part = os.read(driver, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(driver)
    assert process.wait(timeout=120) == code
    assert "用本地引擎" in shown.decode(errors="replace")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "8"], ["seed_full", "4 for 4 engines + 4", "192", "256"]),
        (["--gpus", "4", "--config-type", "simple"], ["seed_simple", "2 for 2 engines + 2", "24", "32"]),
        (["--gpus", "6", "--config-type=simple"], ["3 for 3 engines + 3"]),
        (["--gpus", "1", "--config-type", "simple"], ["engine and trainer share 1"]),
    ],
)
def test_with_gpus_the_sizes_are_derived_for_their_number(tmp_path, arguments, words):
    done = run(tmp_path, *arguments, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words), done.stdout


def test_visible_devices_are_counted(tmp_path):
    done = run(tmp_path, "--config-type", "simple", "--dry-run", CUDA_VISIBLE_DEVICES="0,3")
    assert done.returncode == 0 and "1 for 1 engine + 1" in done.stdout


def test_a_configuration_that_does_not_fit_is_refused_before_ray_is_started(tmp_path):
    done = run(tmp_path, "--gpus", "2", "--", "mu_peak=2")
    assert done.returncode == 2 and "mu_peak=2" in done.stderr and "Ray" not in done.stdout


def test_shellcheck_finds_nothing():
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run([checker, str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
