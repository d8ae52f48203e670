"""Sweeps as processes of this machine, with fake trials: killed, interrupted, stopped and resumed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweeping import Sweep

from chord_exp.runs.__main__ import main as runs_main


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    made = Sweep(tmp_path / "sweep", {"max_concurrent": 2})
    yield made
    made.end()


def test_a_killed_launcher_leaves_nothing_running_and_a_resume_finishes_the_rest(sweep, tmp_path):
    gate = tmp_path / "gate"
    quick, slow = {"steps": 1, "seconds": 0.01}, {"steps": 8, "seconds": 0.1, "gate": str(gate)}
    sweep.start(quick, slow, slow, quick)
    sweep.until(lambda: len(sweep.trials) == 4 and sweep.states[0] == "succeeded" and len(sweep.steps(1)) > 3)
    sweep.kill()
    sweep.until(lambda: not any(sweep.is_alive(number) for number in range(4)))
    made = len(sweep.steps(1))
    assert made < 8, "it went on without its launcher"
    gate.touch()
    code, output = sweep.resume().wait()
    assert code == 0 and sweep.states == ["succeeded"] * 4, output
    assert sweep.steps(1) == list(range(1, 9)), "every step once: saved before it ended, gone on from there"
    assert sweep.starts(0) == [(1, 0)], "a finished trial is not run again"


def test_a_sweep_survives_its_launcher_being_killed_at_any_moment(sweep):
    moments = random.Random(1)
    sweep.start(*[{"steps": 4, "seconds": 0.1, "value": number} for number in range(5)])
    sweep.until(lambda: sweep.folder.exists())
    for _ in range(5):
        time.sleep(moments.uniform(0.0, 1.2))
        sweep.kill()
        sweep.resume()
    code, output = sweep.wait()
    assert code == 0 and sweep.states == ["succeeded"] * 5, output
    assert [sweep.steps(number) for number in range(5)] == [[1, 2, 3, 4]] * 5
    assert "best: 4_n=4" in output


def test_a_killed_trial_is_tried_again_from_its_checkpoint_and_not_for_ever(sweep):
    code, output = sweep.start(
        {"steps": 4, "seconds": 0.01, "die_at": 3, "save": 2},
        {"steps": 4, "seconds": 0.01, "die_at": 1, "dies": 9, "save": 9},
        {"steps": 2, "seconds": 0.01},
    ).wait()
    assert code == 1, output
    assert sweep.states == ["succeeded", "failed", "succeeded"]
    assert sweep.starts(0) == [(1, 0), (2, 2)] and sweep.steps(0) == [1, 2, 3, 3, 4]
    assert len(sweep.starts(1)) == 3 and sweep.trial(1).error == "its process died (signal 9)"


def test_what_is_the_experiment_s_own_fault_is_not_tried_again(sweep):
    code, output = sweep.start(
        {"steps": 2, "seconds": 0.01, "refused": "yes"}, {"steps": 2, "seconds": 0.01, "fail_at": 1}
    ).wait()
    assert code == 1
    assert [sweep.trial(number).attempt for number in (0, 1)] == [1, 1]
    assert "0_n=0: refused is not known" in output and "1_n=1: actor/loss is not finite" in output


def test_ctrl_c_stops_all_records_all_and_a_resume_goes_on(sweep, tmp_path):
    gate = tmp_path / "gate"
    slow = {"steps": 6, "seconds": 0.1, "gate": str(gate)}
    sweep.start(slow, slow, slow)
    sweep.until(lambda: len(sweep.steps(0)) > 2 and len(sweep.steps(1)) > 2)
    sweep.interrupt()
    code, output = sweep.wait()
    assert code == 130 and "runs resume" in output
    assert sweep.states == ["stopped", "stopped", "queued"]
    assert not any(sweep.is_alive(number) for number in range(3))
    gate.touch()
    code, output = sweep.resume().wait()
    assert code == 0 and sweep.states == ["succeeded"] * 3, output
    assert sweep.steps(0) == list(range(1, 7))


def test_a_second_ctrl_c_does_not_wait_for_the_step(sweep):
    sweep.start({"steps": 2, "seconds": 600})
    sweep.until(lambda: bool(sweep.starts(0)))
    sweep.interrupt()
    sweep.until(lambda: sweep.states == ["stopping"])
    sweep.interrupt()
    code, _ = sweep.wait()
    assert code == 130 and sweep.states == ["stopped"] and not sweep.is_alive(0)


def test_a_sweep_is_watched_and_stopped_from_another_shell_and_driven_by_one_process_only(sweep, capsys):
    endless = {"steps": 9, "seconds": 0.1, "gate": "/no/such/file"}
    sweep.start(endless, endless)
    sweep.until(lambda: len(sweep.trials) == 2 and len(sweep.steps(1)) > 1)
    path = str(sweep.folder.path)
    assert runs_main(["show", path]) == 0
    assert f"run by process {sweep.process.pid}" in capsys.readouterr().out
    assert runs_main(["resume", path]) == 2
    assert f"is being run by process {sweep.process.pid}" in capsys.readouterr().err
    assert runs_main(["stop", path]) == 0
    assert sweep.wait()[0] == 130 and sweep.states == ["stopped"] * 2
    capsys.readouterr()
    assert runs_main(["show", path]) == 0
    assert "nobody runs it; go on with" in capsys.readouterr().out


def test_a_terminated_launcher_s_orphans_are_waited_for_not_doubled(sweep, tmp_path):
    # the orphan is deaf to the kernel's SIGTERM inside its step: a resume meets it alive
    step_ends = tmp_path / "step_ends"
    sweep.start({"steps": 2, "seconds": 0.01, "deaf": str(step_ends)})
    sweep.until(lambda: bool(sweep.starts(0)))
    sweep.kill()
    sweep.resume()
    sweep.until(lambda: sweep.folder.driver() == sweep.process.pid)
    assert sweep.is_alive(0) and sweep.starts(0) == [(1, 0)]
    step_ends.touch()
    code, output = sweep.wait()
    assert code == 0, output
    assert sweep.steps(0) == [1, 2]


def test_the_worker_of_a_dead_launcher_does_nothing(sweep):
    sweep.start({"steps": 1, "seconds": 0.01}).wait()
    run_dir = sweep.trial(0).run_dir
    before = (run_dir / "run.json").read_bytes()
    dead = subprocess.Popen(["true"])
    dead.wait()
    words = [
        sys.executable,
        "-m",
        "chord_exp.sweep.backends.worker",
        str(run_dir),
        "--attempt",
        "2",
        "--parent",
        str(dead.pid),
    ]
    assert subprocess.run(words, timeout=900).returncode == 130
    assert (run_dir / "run.json").read_bytes() == before
