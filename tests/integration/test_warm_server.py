"""Real runs forked from one server: each is what a fresh process makes of it, and hurt only by what hits itself."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
from running import Run, ended_at_exit, finish, start
from safetensors.torch import load_file

from chord_exp.launch.driver.warm_server import warm_server
from chord_exp.launch.start import WARM_ENV
from chord_exp.run_files.record import RunRecord

STEPS = 8


def was_forked(run: Run) -> bool:
    return "starting afresh" not in (run.folder / "logs" / "run.log").read_text()


def test_runs_of_one_server_equal_a_fresh_one_whatever_else_dies(tmp_path: Path) -> None:
    fresh, output = finish(tmp_path / "fresh", f"total_steps={STEPS}", env={WARM_ENV: str(tmp_path / "no server")})
    assert fresh.process.returncode == 0, output
    assert not was_forked(fresh)
    with warm_server() as server:
        whole = start(tmp_path / "whole", f"total_steps={STEPS}")
        # it must not come to its end before it is killed, however long the other one takes
        hurt = start(tmp_path / "hurt", "total_steps=1000")
        with ended_at_exit(whole), ended_at_exit(hurt):
            whole.wait_for_step(2)
            hurt.wait_for_step(2)
            hurt.kill("LocalTrainer")
            hurt_output = hurt.wait()
            psutil.Process(server).kill()
            output = whole.wait()
    assert was_forked(whole) and was_forked(hurt)
    assert hurt.process.returncode == 1, hurt_output
    assert whole.process.returncode == 0, output
    left, right = load_file(fresh.weights(STEPS)), load_file(whole.weights(STEPS))
    assert left.keys() == right.keys()
    assert all(left[name].equal(right[name]) for name in left)
    assert fresh.series("rollout/accuracy/mean") == whole.series("rollout/accuracy/mean")
    assert whole.processes() == hurt.processes() == []


def test_a_forked_run_whose_watcher_is_killed_saves_ends_and_tidies_up(tmp_path: Path) -> None:
    with warm_server():
        run = start(tmp_path / "run", "total_steps=1000")
        with ended_at_exit(run):
            run.wait_for_step(2)
            ray_dir = Path(json.loads((run.folder / "logs" / "request.json").read_text())["ray_dir"])
            assert ray_dir.is_dir()
            run.process.kill()
            run.process.wait()
            _, alive = psutil.wait_procs(run.processes(), timeout=120)
            assert alive == []
        assert was_forked(run)
    assert not ray_dir.exists()
    assert run.weights(max(run.series("actor/mu"))).exists()
    assert RunRecord.load(run.folder / "run.json").status == "failed"
