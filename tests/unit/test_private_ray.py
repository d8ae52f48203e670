"""A Ray of our own: where its sockets lie, how it is reached, how it is ended. That it runs: test_sweep_ray."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import pytest
import requests

from chord_exp.errors import RunFailed
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.cluster.private_ray import Head


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "RAY_AUTH_MODE"):
        # set first, so that what the code under test sets is taken back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("length", [4, 24, 25, 27, 60, 200])
def test_a_socket_fits_below_the_folder_however_long_tmpdir_is(length, tmp_path, monkeypatch):
    parent = "/tmp"
    if length > 4:
        parent = tempfile.mkdtemp(dir="/tmp", prefix="x" * (length - len("/tmp/") - 8))
        assert len(parent) == length
    monkeypatch.setattr(tempfile, "tempdir", parent)
    folder = private_ray.make_temp_dir()
    try:
        assert (folder.parent == Path(parent)) == (length <= 24)
        path = f"{folder}{private_ray.LONGEST_SOCKET}"
        os.makedirs(os.path.dirname(path))
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path)
    finally:
        shutil.rmtree(folder)
        if length > 4:
            os.rmdir(parent)


def test_where_no_short_folder_can_be_written_to_the_remedy_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 100)))
    monkeypatch.setattr(private_ray, "SHORT_PARENTS", ("/proc",))
    with pytest.raises(RunFailed, match=r"set TMPDIR to a writable folder whose path has at most 24 characters"):
        private_ray.make_temp_dir()


@pytest.mark.parametrize("given", [None, "intranet.example", "localhost"])
def test_requests_to_loopback_do_not_go_through_a_proxy(given, monkeypatch):
    server = http.server.HTTPServer((private_ray.LOOPBACK, 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    nobody = f"http://127.0.0.1:{private_ray.free_ports(private_ray.LOOPBACK, 1)[0]}"
    monkeypatch.setenv("http_proxy", nobody)
    if given is not None:
        monkeypatch.setenv("NO_PROXY", given)
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        private_ray.set_up_client(address)
        assert requests.get(address, timeout=10).status_code == 501, "the server's own answer"
        with pytest.raises(requests.exceptions.ProxyError):
            requests.get("http://192.0.2.1/", timeout=10)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_the_user_said_of_proxies_stays(monkeypatch):
    monkeypatch.setenv("no_proxy", "a.example, 10.0.0.0/8")
    variables = private_ray.environment("127.0.0.7")
    assert variables["no_proxy"] == variables["NO_PROXY"] == "a.example,10.0.0.0/8,localhost,127.0.0.1,::1,127.0.0.7"
    monkeypatch.setenv("no_proxy", "*")
    assert "no_proxy" not in private_ray.environment()


@pytest.mark.parametrize(("address", "mode"), [("http://127.0.0.1:8265", "disabled"), ("10.0.0.1:6379", "token")])
def test_who_we_are_is_proved_to_what_others_can_reach_unless_the_user_decided(address, mode, monkeypatch):
    private_ray.set_up_client(address)
    assert os.environ["RAY_AUTH_MODE"] == mode
    monkeypatch.setenv("RAY_AUTH_MODE", "k8s")
    private_ray.set_up_client(address)
    assert os.environ["RAY_AUTH_MODE"] == "k8s"


def started(tmp_path: Path, program: str) -> tuple[Head, subprocess.Popen[bytes]]:
    """A head that is another process, and that process."""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    temp_dir = tmp_path / "ray"
    temp_dir.mkdir()
    head = Head("http://127.0.0.1:1", "127.0.0.1:2", process.pid, psutil.Process(process.pid).create_time(), "")
    head = Head(**{**head.__dict__, "temp_dir": str(temp_dir)})
    (tmp_path / private_ray.HEAD).write_text(json.dumps(head.__dict__))
    return head, process


def test_a_head_is_found_again_and_ended_with_all_below_it(tmp_path, monkeypatch):
    monkeypatch.setattr(private_ray, "STOP_SECONDS", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {deaf!r}])"
    head, process = started(tmp_path, program)
    assert private_ray.find_head(tmp_path) == head
    below = psutil.Process(process.pid).children()
    head.stop()
    (one,) = below
    # whoever inherited it may take a while to collect it
    assert not one.is_running() or one.status() == psutil.STATUS_ZOMBIE
    assert not Path(head.temp_dir).exists()
    process.wait()
    assert private_ray.find_head(tmp_path) is None


def test_a_cluster_that_is_gone_is_not_waited_for():
    """Ray itself tries for minutes, where a machine remembers a cluster that has ended."""
    (port,) = private_ray.free_ports(private_ray.LOOPBACK, 1)
    with pytest.raises(OSError, match="refused"):
        private_ray.reach(f"127.0.0.1:{port}")
    # Ray goes to the machine's address in the network where loopback is named
    with socket.create_server(("", 0)) as server:
        private_ray.reach(f"127.0.0.1:{server.getsockname()[1]}")


def test_a_head_that_ends_by_itself_while_it_is_being_ended_is_no_error(tmp_path, monkeypatch):
    head, process = started(tmp_path, "print(flush=True)")
    found = psutil.Process(process.pid)
    process.wait()
    # it was there a moment ago
    monkeypatch.setattr(Head, "process", lambda self: found)
    head.stop()
    assert not Path(head.temp_dir).exists()
