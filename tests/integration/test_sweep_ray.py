"""Sweeps as jobs of a real Ray with logical GPUs: no deadlock, and nothing lost when something is killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from fake_sweep import DEFAULTS
from sweeping import Sweep, worker_of

from chord_exp.errors import ConfigError
from chord_exp.launch.cluster import private_ray
from chord_exp.runs.__main__ import main as runs_main
from chord_exp.sweep.backends import ray_jobs
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.settings import Settings

# every trial takes half of its GPUs, and then the other half: see fake_trial.take_gpus
WHOLE = {"steps": 2, "seconds": 0.2, "gpus": 4}
ENDLESS = {"steps": 9, "seconds": 0.1, "gate": "/no/such/file"}


@pytest.fixture
def sweeps(head: private_ray.Head, tmp_path: Path) -> Iterator[list[Sweep]]:
    """Two sweeps of two users on the one cluster."""
    settings = {"backend": "ray", "address": head.address}
    made = [Sweep(tmp_path / name, settings) for name in ("one", "two")]
    yield made
    for sweep in made:
        sweep.end()
        if sweep.folder.exists():
            runs_main(["stop", str(sweep.folder.path)])


def overlap(sweeps: list[Sweep]) -> bool:
    """Whether any two trials ran at the same time."""
    spans = sorted((trial.started, trial.ended) for sweep in sweeps for trial in sweep.trials)
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))


def test_trials_that_would_deadlock_each_other_run_one_after_another(sweeps):
    code, output = sweeps[0].start(WHOLE, WHOLE, WHOLE).wait()
    assert code == 0, output
    assert sweeps[0].states == ["succeeded"] * 3 and not overlap(sweeps[:1])
    assert [trial.attempt for trial in sweeps[0].trials] == [1, 1, 1]


def test_two_sweeps_share_a_cluster_without_deadlock_and_both_get_their_turn(sweeps):
    small = {"steps": 2, "seconds": 0.2, "gpus": 2}
    sweeps[0].start(WHOLE)
    sweeps[1].start(small, WHOLE)
    for sweep in sweeps:
        code, output = sweep.wait()
        assert code == 0 and set(sweep.states) == {"succeeded"}, output


def test_jobs_outlive_a_killed_launcher_and_a_resume_finds_them_again(sweeps, tmp_path):
    sweep, gate = sweeps[0], tmp_path / "gate"
    long = {"steps": 12, "seconds": 0.1, "gate": str(gate)}
    sweep.start({"steps": 1, "seconds": 0.1}, long, {"steps": 2, "seconds": 0.1})
    sweep.until(lambda: len(sweep.steps(1)) > 2 and sweep.states[0] == "succeeded")
    sweep.kill()
    sweep.until(lambda: len(sweep.steps(1)) == 11)
    sweep.resume()
    sweep.until(lambda: sweep.folder.driver() == sweep.process.pid)
    gate.touch()
    code, output = sweep.wait()
    assert code == 0 and sweep.states == ["succeeded"] * 3, output
    assert sweep.starts(1) == [(1, 0)] and sweep.starts(0) == [(1, 0)], "the running job was waited for, not repeated"


def test_a_killed_job_and_a_killed_worker_are_tried_again_and_a_failure_is_not(sweeps, tmp_path):
    sweep, gate = sweeps[0], tmp_path / "gate"
    sweep.start(
        {"steps": 7, "seconds": 0.1, "save": 2, "gate": str(gate)},
        {"steps": 2, "seconds": 0.1, "lose_actor_at": 1},
        {"steps": 2, "seconds": 0.1, "fail_at": 1},
    )
    sweep.until(lambda: len(sweep.steps(0)) > 4)
    worker_of(sweep.trial(0).run_dir).kill()
    gate.touch()
    code, output = sweep.wait()
    assert code == 1 and sweep.states == ["succeeded", "succeeded", "failed"], output
    assert [len(sweep.starts(number)) for number in range(3)] == [2, 2, 1]
    assert sweep.starts(0)[1][1] >= 4, "from its checkpoint"
    assert sweep.trial(0).history[0]["error"].startswith("its process died")


def test_ctrl_c_saves_and_stops_the_jobs(sweeps):
    sweep = sweeps[0]
    sweep.start(ENDLESS, {**ENDLESS, "gpus": 4}, WHOLE)
    sweep.until(lambda: len(sweep.steps(0)) > 1 and len(sweep.steps(1)) > 1)
    sweep.interrupt()
    code, output = sweep.wait()
    assert code == 130 and sweep.states == ["stopped", "stopped", "queued"], output
    assert not sweep.is_alive(0) and not sweep.is_alive(1)


def test_a_sweep_without_a_launcher_can_be_stopped_too(sweeps):
    sweep = sweeps[0]
    sweep.start(ENDLESS)
    sweep.until(lambda: len(sweep.steps(0)) > 1)
    sweep.kill()
    assert runs_main(["stop", str(sweep.folder.path)]) == 0
    assert sweep.states == ["stopped"] and not sweep.is_alive(0)


@pytest.mark.slow
def test_a_lost_node_s_trials_are_tried_again_from_their_checkpoints(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    place = tempfile.mkdtemp(prefix="chord-ray-")
    monkeypatch.setenv("RAY_TMPDIR", place)  # where the address of the cluster is written
    os.mkdir(f"{place}/ray")
    # see private_ray.environment: without it Ray looks for a cluster on loopback at another address
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    dashboard, gcs = private_ray.free_ports("127.0.0.1", 2)
    here = {"node_ip_address": "127.0.0.1"}
    head = {
        **here,
        "num_cpus": 0,
        "include_dashboard": True,
        "dashboard_host": "127.0.0.1",
        "dashboard_port": dashboard,
        "gcs_server_port": gcs,
        "temp_dir": place,
    }
    # Ray gives a node 30 seconds to start, whatever else the machine does: here it gets ten minutes
    slow = SimpleNamespace(time=time.time, sleep=time.sleep, monotonic=lambda: time.monotonic() / 20)
    monkeypatch.setattr("ray._private.node.time", slow)
    cluster = Cluster(initialize_head=True, head_node_args=head)
    sweep = Sweep(tmp_path / "sweep", {"backend": "ray", "address": f"http://127.0.0.1:{dashboard}"})
    try:
        nodes = [cluster.add_node(num_cpus=1, **here) for _ in range(2)]
        cluster.wait_for_nodes()
        gate = tmp_path / "gate"
        trial = {"steps": 20, "seconds": 0.1, "cpus": 1.0, "gate": str(gate)}
        sweep.start(trial, trial)
        sweep.until(lambda: len(sweep.steps(0)) > 3 and len(sweep.steps(1)) > 3)
        above = {process.pid for process in worker_of(sweep.trial(0).run_dir).parents()}
        (lost,) = [node for node in nodes if node.all_processes["raylet"][0].process.pid in above]
        cluster.remove_node(lost, allow_graceful=False)
        gate.touch()
        code, output = sweep.wait()
        assert code == 0 and sweep.states == ["succeeded"] * 2, output
        (_, begun), (_, went_on) = sweep.starts(0)
        assert begun == 0 and went_on > 3, "from its checkpoint"
        assert sweep.trial(0).started >= sweep.trial(1).ended, "on the node that is left"
        assert sweep.starts(1) == [(1, 0)], "the other node's trial noticed nothing"
    finally:
        sweep.end()
        cluster.shutdown()
        shutil.rmtree(place, ignore_errors=True)


def test_a_head_of_the_sweep_s_own_ends_with_it_and_survives_a_killed_launcher(tmp_path):
    settings = {"backend": "ray", "address": "start", "num_gpus": 0, "num_cpus": 2}
    sweep = Sweep(tmp_path / "sweep", settings)
    try:
        gate = tmp_path / "gate"
        sweep.start({"steps": 4, "seconds": 0.1, "gate": str(gate)})
        sweep.until(lambda: sweep.folder.exists() and len(sweep.steps(0)) > 1)
        sweep.kill()
        head = private_ray.find_head(sweep.folder.path)
        assert head is not None and head.address.startswith("http://127.0.0.1:")
        open_to_others = set()
        for process in [head.process(), *head.process().children(recursive=True)]:
            # some of Ray's processes last for a moment only
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                listening = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
                open_to_others |= {one.laddr.ip for one in listening if not private_ray.is_loopback(one.laddr.ip)}
        assert not open_to_others, "nothing listens to a network"
        gate.touch()
        code, output = sweep.resume().wait()
        assert code == 0 and sweep.starts(0) == [(1, 0)], output
        assert head.process() is None and not Path(head.temp_dir).exists()
    finally:
        sweep.end()
        if (left := private_ray.find_head(sweep.folder.path)) is not None:
            left.stop()


def test_a_cluster_that_is_not_there_is_a_readable_refusal(tmp_path):
    port = private_ray.free_ports("127.0.0.1", 1)[0]
    sweep = Sweep(tmp_path / "sweep", {"backend": "ray", "address": f"http://127.0.0.1:{port}"})
    code, output = sweep.start({"steps": 1, "seconds": 0.1}).wait()
    assert code != 0 and f"no Ray cluster answers at http://127.0.0.1:{port}" in output
    assert not sweep.folder.exists()


def test_a_cluster_that_takes_questions_and_answers_none_is_given_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_jobs, "REQUEST_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        settings = Settings.read({**DEFAULTS, "backend": "ray", "address": address})
        with pytest.raises(ConfigError, match="no Ray cluster answers"):
            ray_jobs.RayJobs.connect(settings, SweepFolder(tmp_path), "one")
