"""Processes that a server forks on request: for who asked they are as good as children, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from chord_exp.launch.forking import fork_client
from chord_exp.launch.processes import MARK, NO_RUN, of_run

SERVER = Path(__file__).parents[1] / "helpers" / "light_server.py"
Ask = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, SERVER, tmp_path / "sock", *getattr(request, "param", [])]
    environment = {**os.environ, MARK: NO_RUN}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Start a client; the real interpreter, where it comes to that, says that it is."""
    clients: list[subprocess.Popen[str]] = []

    def start(*words: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-I", "-S", fork_client.__file__, tmp_path / "sock", "/bin/echo", *words]
        pipe = subprocess.PIPE
        given = {"stdin": subprocess.PIPE, "stdout": pipe, "stderr": pipe, "cwd": "/", "text": True}
        clients.append(subprocess.Popen(list(map(str, command)), env={**os.environ, **environment}, **given))
        return clients[-1]

    yield start
    for client in clients:
        client.kill()
        client.communicate()


def test_a_forked_process_has_the_streams_environment_and_folder_of_who_asked(server, ask: Ask) -> None:
    output, errors = ask("see", SEEN="seen").communicate("given", timeout=60)
    assert (output, errors) == ("seen / given\n", "to the other stream\n")


@pytest.mark.parametrize(
    ("words", "code"), [(("exit", 0), 0), (("exit", 7), 7), (("die", 9), -9), (("die", 15), -15), (("exit", 137), 137)]
)
def test_the_client_ends_as_the_process_did(server, ask: Ask, words: tuple, code: int) -> None:
    client = ask(*words)
    client.communicate(timeout=60)
    assert client.returncode == code


def test_a_server_that_declines_or_is_gone_costs_only_its_speed(server, ask: Ask) -> None:
    output, errors = ask("decline", "x").communicate(timeout=60)
    assert output == "decline x\n" and "it says so" in errors
    server.kill()
    server.wait()
    output, errors = ask("exit", 3).communicate(timeout=60)
    assert output == "exit 3\n" and "does not answer" in errors


def test_a_stopped_server_does_not_start_what_its_client_gave_up_on(server, ask: Ask) -> None:
    server.send_signal(signal.SIGSTOP)
    client = ask("stay")
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(0.5)
    client.terminate()
    client.wait(60)
    server.send_signal(signal.SIGCONT)
    # the next one is served; what was forked for the first ends by itself
    pid = int(ask("stay").stdout.readline())
    others = [child for child in psutil.Process(server.pid).children() if child.pid != pid]
    assert psutil.wait_procs(others, 60)[1] == []


def test_signals_reach_the_process(server, ask: Ask) -> None:
    client = ask("stay")
    client.stdout.readline()
    client.terminate()
    output, _ = client.communicate(timeout=60)
    assert output == "asked to stop\n" and client.returncode == 0


def test_the_process_outlives_its_server_and_the_client_the_process(server, ask: Ask) -> None:
    client = ask("stay")
    process = psutil.Process(int(client.stdout.readline()))
    server.kill()
    server.wait()
    with pytest.raises(subprocess.TimeoutExpired):
        client.wait(0.5)
    client.terminate()
    output, _ = client.communicate(timeout=60)
    assert output == "asked to stop\n"
    # nobody saw how
    assert client.returncode == 1
    with suppress(psutil.NoSuchProcess):
        process.wait(60)


def test_a_process_that_dies_leaves_the_others_and_the_server_alone(server, ask: Ask) -> None:
    other = ask("stay")
    other.stdout.readline()
    client = ask("stay")
    os.kill(int(client.stdout.readline()), signal.SIGKILL)
    client.communicate(timeout=60)
    assert client.returncode == -9
    assert other.poll() is None and server.poll() is None
    again = ask("exit", 5)
    again.communicate(timeout=60)
    assert again.returncode == 5


PARENT = """
import os, subprocess, sys
sys.exit(subprocess.call([*sys.argv[1:3], "--parent", str(os.getpid()), *sys.argv[3:]]))
"""


def test_the_process_is_asked_to_stop_when_the_parent_of_its_client_is_killed(server, tmp_path: Path) -> None:
    words = [sys.executable, "-c", PARENT, sys.executable, fork_client.__file__, tmp_path / "sock", "/bin/echo", "stay"]
    parent = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)
    parent.stdout.readline()
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == "asked to stop\n"
    parent.stdout.close()


@pytest.mark.parametrize("server", [["--kill-orphans"]], indirect=True)
def test_a_worker_does_not_outlive_its_proxy(server, ask: Ask) -> None:
    client = ask("stay")
    process = psutil.Process(int(client.stdout.readline()))
    client.kill()
    with suppress(psutil.NoSuchProcess):
        process.wait(60)


def test_a_forked_run_is_found_by_its_mark(server, ask: Ask) -> None:
    run_id = "0123456789ab"
    client = ask("stay", **{MARK: run_id})
    pid = int(client.stdout.readline())
    assert {process.pid for process in of_run(run_id)} == {pid, client.pid}


def test_a_client_that_speaks_nonsense_or_nothing_is_passed_over(server, ask: Ask, tmp_path: Path) -> None:
    import socket

    for message in (b"", b"{", b"not json\n"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(tmp_path / "sock"))
            connection.sendall(message)
    client = ask("exit", 5)
    client.communicate(timeout=60)
    assert client.returncode == 5
