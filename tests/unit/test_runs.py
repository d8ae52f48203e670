"""One command line for runs and sweeps: which folder a word means, what is shown, ended, gone on with and removed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import SMALL, refused
from launching import fake_launch

from chord_exp.cli import main as cli_main
from chord_exp.config.auto_cluster import words_for
from chord_exp.launch.cluster import machines, private_ray
from chord_exp.launch.stop_file import stop_path
from chord_exp.run_files import record
from chord_exp.run_files.names import LOCK, RECORD
from chord_exp.run_files.record import RunRecord
from chord_exp.runs.__main__ import main
from chord_exp.runs.find import look_at, named
from chord_exp.sweep import job
from chord_exp.sweep.backends import ray_jobs
from chord_exp.sweep.folder import SWEEP
from chord_exp.sweep.scheduling.backend import Exit
from chord_exp.sweep.scheduling.resources import Node
from chord_exp.sweep.scheduling.trial import Trial
from chord_exp.utils.files import try_lock

SCORE = "eval/eval/accuracy/mean@1"


def run_in(folder: Path, status: str = record.SUCCEEDED, started: str = "2026-01-01T10:00:00+00:00", **more) -> Path:
    """What a run leaves, as far as this command line looks at it."""
    (folder / "logs").mkdir(parents=True)
    fake_launch(steps=4).save(folder)
    RunRecord("fake", "p", "mu", status, 4, 3, 0, "hash", [], "id", started, **more).save(folder / RECORD)
    (folder / "logs" / "run.log").write_text("first\nlast\n")
    (folder / "checkpoints" / "p").mkdir(parents=True)
    (folder / "checkpoints" / "p" / "weights").write_bytes(b"w" * 2**20)
    return folder


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A working folder with two runs of one name and one of another."""
    monkeypatch.chdir(tmp_path)
    run_in(tmp_path / "outputs" / "a" / "t1", final_metrics={SCORE: 0.25})
    run_in(tmp_path / "outputs" / "a" / "t2", record.FAILED, "2026-01-02T10:00:00+00:00", error=record.RunError("no"))
    run_in(tmp_path / "outputs" / "b" / "t3", started="2026-01-03T10:00:00+00:00")
    return tmp_path


def test_all_runs_are_listed_oldest_first_with_how_they_stand(runs, capsys):
    (runs / "outputs" / "b" / "t4").mkdir()
    fake_launch().save(runs / "outputs" / "b" / "t4")
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split() for line in lines if "outputs/" in line]
    assert [words[-1] for words in shown] == [f"outputs/{name}" for name in ("b/t4", "a/t1", "a/t2", "b/t3")]
    assert "waiting" in shown[0] and "25.0%" in shown[1] and "failed" in shown[2] and "3/4" in shown[3]
    assert any(line.startswith("t2: no") for line in lines)
    assert main(["list", "elsewhere"]) == 0 and "no run in elsewhere" in capsys.readouterr().out


def test_a_run_is_named_by_its_folder_or_by_the_end_of_its_path(runs):
    t1, t3 = runs / "outputs" / "a" / "t1", runs / "outputs" / "b" / "t3"
    assert named(str(t1), runs).path == named("a/t1", runs).path == named("t1", runs).path == t1
    assert named("b", runs).path == t3, "the only run of that name"
    assert named(None, runs).path == max(runs.glob("outputs/*/*"), key=lambda path: (path / RECORD).stat().st_mtime)


@pytest.mark.parametrize(("word", "said"), [("nope", "neither a run nor a sweep"), ("a", "outputs/a/t1, outputs/a/t2")])
def test_a_word_that_names_none_or_several_is_refused(runs, capsys, word, said):
    assert main(["show", word]) == 2
    assert said in capsys.readouterr().err


def test_an_ended_run_is_shown_as_it_was_when_it_ended_and_its_logs_from_their_end(runs, capsys):
    assert main(["show", "t2"]) == 0
    assert "failed after 3 of 4 steps" in capsys.readouterr().out
    assert main(["logs", "t2", "--lines", "1"]) == 0
    out = capsys.readouterr().out
    assert "last" in out and "first" not in out


def test_a_run_that_goes_on_is_shown_by_its_last_step_and_cannot_be_removed(runs, capsys):
    folder = run_in(runs / "outputs" / "c" / "t5", record.RUNNING)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 2, "source": "trainer", "actor/mu": 0.5}) + "\n")
    lock = try_lock(folder / LOCK, "process 7 on here")
    with lock:
        assert main(["show", "t5"]) == 0
        assert "step 2/4" in (out := capsys.readouterr().out) and "process 7 on here" in out
        for words in (["rm", "t5"], ["rm", "t5", "--checkpoints"], ["resume", "t5"]):
            assert main(words) == 2
            assert "going on" in capsys.readouterr().err


def test_a_stop_waits_until_the_run_has_let_go_of_its_folder(runs, capsys):
    folder = run_in(runs / "outputs" / "c" / "t5", record.RUNNING)
    lock = try_lock(folder / LOCK)

    def obey() -> None:
        while not stop_path(folder).exists():
            threading.Event().wait(0.01)
        lock.close()

    thread = threading.Thread(target=obey)
    thread.start()
    assert main(["stop", "t5"]) == 0
    thread.join()
    assert stop_path(folder).read_text() == "stop" and "runs resume" in capsys.readouterr().out
    assert main(["stop", "t1"]) == 0 and "is not running" in capsys.readouterr().out


def test_a_run_is_resumed_by_its_own_settings_and_a_finished_one_is_left_alone(runs, monkeypatch):
    started = []
    monkeypatch.setattr("chord_exp.runs.single.run_experiment", lambda launch, run_dir: started.append(launch) or 0)
    monkeypatch.setattr("chord_exp.runs.single.warm_server", lambda: threading.Lock())
    stop_path(runs / "outputs" / "a" / "t2").write_text("stop")
    assert main(["resume", "t2"]) == 0 and main(["resume", "t1"]) == 0
    assert [launch.resume for launch in started] == [True]
    assert not stop_path(runs / "outputs" / "a" / "t2").exists(), "a request of before is not meant for it"


def test_checkpoints_go_alone_or_with_the_run(runs, capsys):
    assert main(["rm", "--checkpoints", "t1"]) == 0
    assert "1.0 MiB" in capsys.readouterr().out
    assert (runs / "outputs" / "a" / "t1" / RECORD).exists() and not (runs / "outputs/a/t1/checkpoints").exists()
    assert main(["rm", "t1", "t3"]) == 0
    assert not (runs / "outputs" / "a" / "t1").exists() and (runs / "outputs" / "a" / "t2").exists()
    assert main(["rm", "t2", "t1"]) == 2 and (runs / "outputs" / "a" / "t2").exists(), "all or none"


def test_a_trial_is_part_of_its_sweep(place, machine, capsys):
    assert cli_main(["-m", "mu_peak=0.1,0.2", *SMALL, "hydra.sweep.dir=multirun/s/t"]) == 0
    trial = next((place / "multirun" / "s" / "t").glob("0_*"))
    assert look_at(trial).kind == "trial" and named("s/t", place).kind == "sweep"
    capsys.readouterr()
    for verb in ("rm", "resume"):
        assert main([verb, str(trial)]) == 2
        assert "part of a sweep" in capsys.readouterr().err
    assert main(["list"]) == 0 and "2 succeeded" in capsys.readouterr().out
    assert main(["rm", "s/t"]) == 0 and not trial.parent.exists()
    assert (place / "multirun" / "s" / SWEEP).exists() is False


class FakeCluster:
    """A `RayJobs` whose jobs end as they are told, after so many looks; what they do is written by the test."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.looks, self.at_start = 1, lambda trial: None
        self.kept_head: bool | None = None
        self.interrupt = False

    def nodes(self):
        return [Node("n", gpus=4, cpus=64, memory=64)]

    def external(self):
        return []

    def start(self, trial: Trial) -> str:
        self.started.append(f"{trial.run_dir.name}-a{trial.attempt}")
        self.at_start(trial)
        return self.started[-1]

    def ended(self, trials):
        if self.interrupt:
            raise KeyboardInterrupt
        self.looks -= 1
        return [] if self.looks > 0 else [(trial, Exit(0)) for trial in trials]

    def wait(self, seconds: float) -> None:
        pass

    def now(self) -> float:
        return 1.0

    def close(self, *, keep_head: bool = False) -> None:
        self.kept_head = keep_head


@pytest.fixture
def cluster(monkeypatch):
    found = FakeCluster()
    connect = SimpleNamespace(connect=lambda settings, folder, job_id: found)
    monkeypatch.setattr(job, "RayJobs", connect)
    return found


def end_as(status: str):
    def write(trial: Trial) -> None:
        (trial.run_dir / "logs").mkdir(exist_ok=True)
        RunRecord("fake", "p", "mu", status, 4, 4, 0, "h", [], "id", record.utc_now()).save(trial.run_dir / RECORD)

    return write


JOB = [*SMALL, "hydra/launcher=ray", "hydra.run.dir=outputs/j/t"]


def test_a_run_becomes_a_job_and_its_exit_code_is_the_run_s(place, cluster):
    cluster.at_start = end_as(record.FAILED)
    assert cli_main(JOB) == 1
    assert cluster.started == ["t-a1"] and cluster.kept_head is False
    info, trial = job.read(place / "outputs" / "j" / "t")
    assert info.settings["backend"] == "ray" and trial.state == "failed"
    assert look_at(place / "outputs" / "j" / "t").kind == "job"


def test_ctrl_c_leaves_the_job_running_and_resume_shows_it_again(place, cluster, capsys):
    cluster.interrupt = True
    assert cli_main(JOB) == 130
    assert cluster.kept_head is True and "it goes on" in capsys.readouterr().out
    assert main(["rm", "j/t"]) == 2 and "going on" in capsys.readouterr().err
    cluster.interrupt = False
    end_as(record.SUCCEEDED)(job.read(place / "outputs" / "j" / "t")[1])
    cluster.looks = 3
    assert main(["resume", "j/t"]) == 0
    assert cluster.started == ["t-a1"], "not submitted a second time"


def test_a_job_that_was_stopped_is_submitted_again(place, cluster):
    cluster.at_start = end_as(record.STOPPED)
    assert cli_main(JOB) == 130
    cluster.at_start, cluster.looks = end_as(record.SUCCEEDED), 1
    assert main(["resume", "j/t"]) == 0
    assert cluster.started == ["t-a1", "t-a2"]


def test_a_job_that_is_refused_leaves_nothing(place, cluster, capsys):
    assert "can never start" in refused(capsys, [*JOB, "cluster=gpu_8", "model.path=builtin:tiny"])
    assert not (place / "outputs" / "j").exists() or not any((place / "outputs" / "j").iterdir())
    assert "runs resume" in refused(capsys, [*JOB, "resume=true"])
    assert cluster.started == []


@pytest.mark.parametrize(
    ("gpus", "ray_runs", "words"),
    [
        ([], True, "cluster=local"),
        ([0], False, "cluster=local"),
        ([1], False, "cluster=gpu_1"),
        ([4], False, "cluster=gpu_2 cluster.gpu_per_node=4 cluster.name=gpu_4 cluster.ray_address=local"),
        ([6, 0], True, "cluster=gpu_2 cluster.gpu_per_node=6 cluster.name=gpu_6"),
        ([8, 8], True, "cluster=multi_node cluster.node_num=2 cluster.gpu_per_node=8 cluster.name=gpu_2x8"),
        ([8, 4, 4], True, "cluster=multi_node cluster.node_num=3 cluster.gpu_per_node=4 cluster.name=gpu_3x4"),
        ([8, 2], True, "cluster=gpu_2 cluster.gpu_per_node=8 cluster.name=gpu_8"),
    ],
)
def test_the_most_gpus_that_machines_have_alike_are_taken(gpus, ray_runs, words):
    assert " ".join(words_for(gpus, ray_runs=ray_runs)) == words


def test_cluster_auto_becomes_what_is_there_and_typed_words_come_last(place, monkeypatch, capsys):
    found = machines.Machines((4,), of_ray=True)
    monkeypatch.setattr("chord_exp.launch.cluster.machines.look", lambda: found)
    plan = [
        "action=plan",
        "cluster=auto",
        "model=qwen3_0_6b",
        "model.path=builtin:tiny",
        "data=prepared",
        "data.out=no",
    ]
    assert cli_main([*plan, "data.out=no", "cluster.engine_num=1"]) == 0
    out = capsys.readouterr()
    assert "the Ray cluster has 4 GPUs: cluster=gpu_2 cluster.gpu_per_node=4" in out.err
    assert "1 for 1 engine + 3 for the trainer" in out.out


def test_a_ray_cluster_that_is_named_and_does_not_answer_is_no_machine_without_gpus(monkeypatch):
    monkeypatch.setattr(private_ray, "machines", lambda address: (_ for _ in ()).throw(ConnectionError("refused")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert machines.look() == machines.Machines((2,), of_ray=False)
    monkeypatch.setenv("RAY_ADDRESS", "1.2.3.4:6379")
    with pytest.raises(Exception, match=r"1\.2\.3\.4"):
        machines.look()
    assert ray_jobs.visible_gpus() == ["0", "1"]
