"""Trials as jobs of a Ray cluster: what is asked again, what is given up on. The client is a fake; a real one:
test_sweep_ray."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from test_sweep_settings import values

from chord_exp.errors import ConfigError, RunFailed
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.cluster.private_ray import Head
from chord_exp.sweep.backends import ray_jobs
from chord_exp.sweep.backends.ray_jobs import FOOTPRINT_KEY, SWEEP_KEY, RayJobs
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.scheduling.backend import ClusterLost
from chord_exp.sweep.scheduling.resources import Footprint
from chord_exp.sweep.scheduling.trial import Trial
from chord_exp.sweep.settings import Settings


@dataclass
class FakeClient:
    """Answers as it is told: with a value, or by raising."""

    answers: list[Any] = field(default_factory=list)
    asked: int = 0

    def _answer(self, *_: Any) -> Any:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    list_jobs = get_job_info = stop_job = _answer


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    monkeypatch.setattr(private_ray, "machines", lambda address: {"n": {"CPU": 4.0}})
    monkeypatch.setattr(ray_jobs.time, "sleep", lambda seconds: None)
    return FakeClient()


@pytest.fixture
def jobs(client: FakeClient) -> RayJobs:
    return RayJobs(client, "http://127.0.0.1:1", "mine")


def job(metadata: dict[str, str] | None) -> Any:
    return SimpleNamespace(metadata=metadata, status=SimpleNamespace(is_terminal=lambda: False))


def a_trial(tmp_path) -> Trial:
    return Trial(0, "", tmp_path, [], Footprint(), {"": 1}, attempt=1)


def test_what_does_not_answer_is_asked_again(jobs, client):
    client.answers = [ConnectionError("refused"), RuntimeError("Request failed with status code 503: x"), []]
    assert jobs.external() == [] and client.asked == 3


@pytest.mark.parametrize("code", [400, 401, 403])
def test_a_question_that_is_refused_is_not_asked_again(jobs, client, code):
    client.answers = [RuntimeError(f"Request failed with status code {code}: no such field.")]
    with pytest.raises(ClusterLost, match=r"http://127\.0\.0\.1:1 refuses: .*no such field"):
        jobs.external()
    assert client.asked == 1


def test_a_fault_of_ours_is_not_called_a_silent_cluster(jobs, client):
    client.answers = [TypeError("list_jobs() got an unexpected keyword argument")]
    with pytest.raises(TypeError):
        jobs.external()
    assert client.asked == 1


def test_a_cluster_that_stays_silent_is_given_up_on(jobs, client, monkeypatch):
    monkeypatch.setattr(ray_jobs, "PATIENCE", -1.0)
    client.answers = [ConnectionError("refused")]
    with pytest.raises(ClusterLost, match="does not answer: refused"):
        jobs.external()


def test_a_cluster_that_says_that_it_is_starting_is_given_more_time(jobs, client, monkeypatch):
    monkeypatch.setattr(ray_jobs, "PATIENCE", -1.0)
    later = RuntimeError(
        "Request failed with status code 500: No available agent to submit job, please try again later."
    )
    client.answers = [later, later, []]
    assert jobs.external() == [] and client.asked == 3


def test_jobs_of_another_version_are_read_as_far_as_they_go(jobs, client):
    theirs = {SWEEP_KEY: "theirs"}
    whole = Footprint(2, 3.0, 4.0)
    client.answers = [
        [
            job({**theirs, FOOTPRINT_KEY: json.dumps({**asdict(whole), "tpus": 4})}),
            job({**theirs, FOOTPRINT_KEY: json.dumps({"gpus": 1})}),
            job({**theirs, FOOTPRINT_KEY: "[]"}),
            job({**theirs, FOOTPRINT_KEY: "{"}),
            job(theirs),
            job({SWEEP_KEY: "mine", FOOTPRINT_KEY: json.dumps(asdict(whole))}),
            job(None),
        ]
    ]
    assert jobs.external() == [whole, Footprint(1)]


def test_a_job_that_is_gone_need_not_be_ended(jobs, client, tmp_path):
    gone = RuntimeError("Request failed with status code 404: Job chord-mine-0-a1 does not exist.")
    client.answers = [gone, gone]
    jobs._kill(a_trial(tmp_path))
    assert not jobs.attach(a_trial(tmp_path)) and client.asked == 2


@pytest.mark.parametrize("there_before", [True, False])
def test_only_a_head_that_was_started_now_ends_when_it_does_not_answer(there_before, tmp_path, monkeypatch):
    stopped = []
    monkeypatch.setattr(Head, "stop", lambda self: stopped.append(self))
    head = Head("http://127.0.0.1:1", "127.0.0.1:2", 1, 0.0, str(tmp_path))
    monkeypatch.setattr(private_ray, "find_head", lambda folder: head if there_before else None)
    monkeypatch.setattr(private_ray, "start_head", lambda *given, **more: head)
    monkeypatch.setattr(ray_jobs, "make_client", lambda address: (_ for _ in ()).throw(ConnectionError("slow today")))
    settings = Settings.read({**values("ray"), "address": "start"})
    with pytest.raises(RunFailed if there_before else ConfigError, match="slow today"):
        RayJobs.connect(settings, SweepFolder(tmp_path), "mine")
    assert stopped == ([] if there_before else [head])


@pytest.mark.parametrize("lives", [True, False])
def test_a_head_that_falls_silent_is_left_to_its_trials(lives, client, tmp_path, monkeypatch):
    stopped = []
    monkeypatch.setattr(Head, "stop", lambda self: stopped.append(self))
    monkeypatch.setattr(Head, "process", lambda self: self if lives else None)
    monkeypatch.setattr(ray_jobs, "PATIENCE", -1.0 if lives else 60.0)
    head = Head("http://127.0.0.1:1", "127.0.0.1:2", 1, 0.0, str(tmp_path))
    jobs = RayJobs(client, head.address, "mine", head)
    client.answers = [ConnectionError("refused")]
    with pytest.raises(ClusterLost):
        jobs.external()
    jobs.close()
    assert stopped == ([] if lives else [head])


def test_a_head_ends_with_its_sweep(client, tmp_path, monkeypatch):
    stopped = []
    monkeypatch.setattr(Head, "stop", lambda self: stopped.append(self))
    head = Head("http://127.0.0.1:1", "127.0.0.1:2", 1, 0.0, str(tmp_path))
    RayJobs(client, head.address, "mine", head).close()
    assert stopped == [head]


def test_an_address_of_another_machine_cannot_be_listened_on(tmp_path):
    settings = Settings.read({**values("ray"), "address": "start", "bind": "192.0.2.1"})
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1.*hydra\.launcher\.bind"):
        ray_jobs.start_head(SweepFolder(tmp_path), settings)
