"""When a warm server leaves a run to a fresh process."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from copy import deepcopy
from pathlib import Path

import pytest

from chord_exp.launch.driver.warm_server import reason_to_decline, warm_server
from chord_exp.launch.forking.fork_client import process_state
from chord_exp.launch.processes import MARK
from chord_exp.launch.start import MODULE, WARM_ENV

SERVER = {"PATH": "/bin", "OMP_NUM_THREADS": "1", MARK: "-" * 12}


@pytest.fixture
def request_of_a_run(tmp_path: Path) -> dict:
    environment = {**SERVER, MARK: "0123456789ab", "TMPDIR": "/tmp/of-the-run"}
    return {"argv": ["-m", MODULE, "/run"], "env": environment, "cwd": str(tmp_path), "state": process_state()}


def reason(request: dict, folder: Path = Path("/")) -> str:
    return reason_to_decline(SERVER, process_state(), folder, request)


def test_what_is_a_runs_own_may_differ(request_of_a_run: dict) -> None:
    assert reason(request_of_a_run) == ""


@pytest.mark.parametrize(
    "change", [{"OMP_NUM_THREADS": "2"}, {"PYTHONPATH": "/rewards"}, {"HF_HUB_OFFLINE": "1"}, {"PATH": None}]
)
def test_another_environment_is_declined(request_of_a_run: dict, change: dict) -> None:
    request = deepcopy(request_of_a_run)
    request["env"].update(change)
    request["env"] = {name: value for name, value in request["env"].items() if value is not None}
    assert next(iter(change)) in reason(request)


def test_another_command_is_declined(request_of_a_run: dict) -> None:
    assert reason({**request_of_a_run, "argv": ["-c", "print()"]}) == "not a run"


def test_limits_signals_and_cpus_of_who_asks_must_be_the_servers(request_of_a_run: dict) -> None:
    ours = process_state()
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    cases = {
        "limits": {**ours["limits"], "RLIMIT_CORE": [soft + 1, hard]},
        "ignored": [*ours["ignored"], int(signal.SIGHUP)],
        "cpus": [*ours["cpus"], 4096],
        "umask": ours["umask"] ^ 0o22,
        "nice": ours["nice"] + 1,
    }
    for name, value in cases.items():
        assert name in reason({**request_of_a_run, "state": {**ours, name: value}})


def test_a_folder_that_hides_what_is_imported_is_declined(request_of_a_run: dict, tmp_path: Path) -> None:
    (tmp_path / "rewards_of_mine.py").touch()
    assert reason(request_of_a_run) == ""
    (tmp_path / "json.py").touch()
    assert "json" in reason(request_of_a_run)
    # the server itself would have imported it from there
    assert reason(request_of_a_run, tmp_path) == ""


def test_the_state_of_a_process_follows_what_it_was_given() -> None:
    before = os.umask(0o027)
    try:
        assert process_state()["umask"] == 0o027
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_server_that_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError(11, "try again")))
    before = os.environ.get(WARM_ENV)
    with warm_server() as server:
        assert server is None and os.environ.get(WARM_ENV) == before
