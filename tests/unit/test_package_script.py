"""run_chord_training.sh: its flags, its refusals, and what it says on a machine without a GPU."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess

import pytest
from package_script import SCRIPT, environment, fake_python, planned, run

from chord_exp.cli import main

DRY = ["--dry-run", "--", "data.eval_rows=8"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


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


def test_without_a_gpu_the_local_engine_is_a_flag_away(tmp_path):
    words = ["--expert_ratio=0.3", "--config-type", "simple", "--name", "mine"]
    done = run(tmp_path, "--local", *words, *DRY)
    assert done.returncode == 0, done.stderr
    assert "chord/mine" in done.stdout and "this machine" in done.stdout
    # the seed's schedule at a tenth of its length
    assert "total_steps" in done.stdout and "step 40: 0.050" in done.stdout
    assert planned(tmp_path, "--yes", *words) == planned(tmp_path, "--local", *words)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 0), ("n", 2)])
def test_on_a_terminal_it_asks(tmp_path, answer, code):
    driver, terminal = pty.openpty()
    process = subprocess.Popen(
        ["bash", str(SCRIPT), *DRY],
        cwd=tmp_path,
        env=environment(CHORD_PYTHON=fake_python(tmp_path)),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
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
    assert process.wait() == code
    said = shown.decode(errors="replace")
    assert "用本地引擎" in said and ("action=plan" in said) == (code == 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "8"], ["seed_full", "4 for 4 engines + 4", "192", "256"]),
        (["--gpus", "4", "--config-type", "simple"], ["seed_simple", "2 for 2 engines + 2", "24", "32"]),
        (["--gpus", "6", "--config-type=simple"], ["3 for 3 engines + 3"]),
        (["--gpus", "1", "--config-type", "simple"], ["engine and trainer share 1"]),
    ],
)
def test_with_gpus_the_sizes_are_derived_for_their_number(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(planned(tmp_path, *arguments)) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in words), shown


def test_one_gpu_is_left_to_the_ray_that_the_run_starts_itself(tmp_path):
    done = run(tmp_path, "--gpus", "1", "--config-type", "simple", CHORD_PYTHON=fake_python(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "cluster=gpu_1" in done.stdout and "cluster.ray_address" not in done.stdout


def test_visible_devices_are_counted(tmp_path):
    assert "cluster=gpu_2" in planned(tmp_path, "--config-type", "simple", CUDA_VISIBLE_DEVICES="0,3")


def test_a_configuration_that_does_not_fit_is_refused_before_ray_is_started(tmp_path):
    done = run(tmp_path, "--gpus", "2", "--", "mu_peak=2")
    assert done.returncode == 2 and "mu_peak=2" in done.stderr and "Ray" not in done.stdout


def test_shellcheck_finds_nothing():
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("needs shellcheck")
    done = subprocess.run([checker, str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
