"""Trials as processes of this machine: whose the GPUs are, and what a later launcher does with what still runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chord_exp.errors import ConfigError, RunFailed
from chord_exp.launch.stop_file import IMMEDIATE, stop_path
from chord_exp.sweep.backends import stop_file
from chord_exp.sweep.backends.local import LocalProcesses
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.scheduler import GRACE
from chord_exp.sweep.scheduling.trial import Trial

# holds the folder as a worker does, says which GPUs it may use, and stays
FAKE_WORKER = """
import os, pathlib, sys, time
from chord_exp.utils.files import try_lock
lock = try_lock(pathlib.Path(sys.argv[1], "worker.lock"))
with open(sys.argv[1] + "/gpus.part", "w") as stream:
    stream.write(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
os.rename(sys.argv[1] + "/gpus.part", sys.argv[1] + "/gpus")
time.sleep(600)
"""


def fake_command(trial: Trial) -> list[str]:
    return [sys.executable, "-c", FAKE_WORKER, str(trial.run_dir)]


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LocalProcesses]]:
    """Those that a test makes; their processes end with it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    made: list[LocalProcesses] = []
    yield made
    for backend in made:
        for child in backend._children.values():
            child.kill()
            child.wait()


def backend(backends: list[LocalProcesses], command=fake_command) -> LocalProcesses:
    backends.append(LocalProcesses(command, Node("here", 4, 8)))
    return backends[-1]


def a_trial(tmp_path: Path, number: int, gpus: int = 0) -> Trial:
    run_dir = tmp_path / str(number)
    run_dir.mkdir()
    return Trial(number, "", run_dir, [], Footprint(gpus), {"": 1}, attempt=1)


def until(condition) -> None:
    deadline = time.monotonic() + 900
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gpus_of(trial: Trial) -> str:
    until((trial.run_dir / "gpus").exists)
    return (trial.run_dir / "gpus").read_text()


def test_the_gpus_of_a_trial_that_still_saves_are_not_given_to_the_next(tmp_path, backends):
    first, second = a_trial(tmp_path, 0, gpus=2), a_trial(tmp_path, 1, gpus=2)
    before = backend(backends)
    first.handle = before.start(first)
    assert gpus_of(first) == "0,1"
    # its launcher is gone; another takes over
    after = backend(backends)
    assert after.attach(first)
    after.start(second)
    assert gpus_of(second) == "2,3"
    os.kill(before._children[0].pid, signal.SIGKILL)
    until(lambda: [trial.number for trial, _ in after.ended([first, second])] == [0])
    third = a_trial(tmp_path, 2, gpus=2)
    after.start(third)
    assert gpus_of(third) == "0,1"


def test_a_start_that_fails_holds_no_gpus(tmp_path, backends):
    made = backend(backends, lambda trial: ["/nowhere/python"] if trial.number == 0 else fake_command(trial))
    with pytest.raises(RunFailed, match="cannot start a process"):
        made.start(a_trial(tmp_path, 0, gpus=4))
    other = a_trial(tmp_path, 1, gpus=4)
    made.start(other)
    assert gpus_of(other) == "0,1,2,3"


def test_a_trial_s_folder_that_cannot_be_written_to_is_a_failed_start(tmp_path, backends):
    trial = a_trial(tmp_path, 0)
    (trial.run_dir / "logs").write_text("no folder")
    with pytest.raises(RunFailed, match="cannot write to the run's folder"):
        backend(backends).start(trial)


def test_a_trial_of_a_killed_launcher_that_hangs_is_ended_by_force(tmp_path, backends, monkeypatch):
    trial = a_trial(tmp_path, 0)
    before = backend(backends)
    trial.handle = before.start(trial)
    gpus_of(trial)
    after = backend(backends)
    now = time.time()
    monkeypatch.setattr(after, "now", lambda: now)
    monkeypatch.setattr(after._stop_requests, "_now", lambda: now)
    assert after.attach(trial)
    # its launcher's death has asked it already: to be asked again would mean at once
    after.stop(trial, GRACE)
    assert not after.ended([trial]) and not stop_path(trial.run_dir).exists()
    now += GRACE
    assert not after.ended([trial]) and stop_path(trial.run_dir).read_text() == IMMEDIATE
    assert before._children[0].poll() is None
    now += stop_file.FORCE_AFTER
    after.ended([trial])
    assert before._children[0].wait(60) == -signal.SIGKILL
    assert [ended.number for ended, _ in after.ended([trial])] == [0]


def test_a_process_that_has_got_an_old_number_is_left_alone(tmp_path, backends):
    trial = a_trial(tmp_path, 0)
    before = backend(backends)
    trial.handle = before.start(trial)
    gpus_of(trial)
    after = backend(backends)
    trial.handle = trial.handle.replace('"created": ', '"created": 1')
    after.attach(trial)
    after._kill(trial)
    assert before._children[0].poll() is None


def test_a_sweep_that_another_process_drives_is_refused_with_its_number(tmp_path):
    program = (
        "import sys; from pathlib import Path; from chord_exp.sweep.folder import SweepFolder\n"
        "with SweepFolder(Path(sys.argv[1])).hold_lock():\n    print(flush=True)\n    sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    other.stdout.readline()
    with pytest.raises(ConfigError, match=f"run by process {other.pid}"), SweepFolder(tmp_path).hold_lock():
        pass
    other.communicate()
