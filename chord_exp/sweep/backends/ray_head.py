"""A Ray head of a sweep's own: on loopback unless told otherwise, on ports that are free, ended by its process."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass

import psutil

from chord_exp.errors import ConfigError, RunFailed
from chord_exp.sweep.backends.local import visible_gpus
from chord_exp.sweep.folder import HEAD, HEAD_LOG, SweepFolder
from chord_exp.sweep.settings import Settings
from chord_exp.utils.files import write_atomically

# a resource of the head that stands for the cluster's GPUs: the job of a trial takes all that it will need, so that
# two sweeps never let in two trials that would each hold half
WHOLE_TRIALS = "chord_gpu"
MOST_NODES = 1000
START_SECONDS = 120.0
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Head:
    """A head that runs: what it takes to find it again and to end it."""

    # http://HOST:PORT of its dashboard, which answers the Jobs API
    address: str
    pid: int
    # of the process, seconds since the epoch: process numbers come back
    created: float
    temp_dir: str

    def process(self) -> psutil.Process | None:
        """Its process, if that still lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def stop(self) -> None:
        """End it with everything below it."""
        process = self.process()
        below = process.children(recursive=True) if process is not None else []
        if process is not None:
            process.send_signal(signal.SIGTERM)
            psutil.wait_procs([process, *below], timeout=STOP_SECONDS)
        for left in [process, *below]:
            if left is not None and left.is_running():
                left.kill()
        if process is not None:
            psutil.wait_procs([process, *below], timeout=STOP_SECONDS)
        shutil.rmtree(self.temp_dir, ignore_errors=True)


def machines(address: str) -> dict[str, dict[str, float]]:
    """The resources of a cluster's living machines, by the http address of its dashboard."""
    from ray.util.state import list_nodes

    # Ray takes machines that the filter leaves out for missing output: with one lost it would refuse to answer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list_nodes(
            address=address, limit=MOST_NODES, filters=[("state", "=", "ALIVE")], raise_on_missing_output=False
        )
    return {node.node_id: node.resources_total or {} for node in found if node.resources_total}


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches an address."""
    try:
        address = ipaddress.ip_address(host)
        # a server on both protocols shows IPv4 as ::ffff:127.0.0.1
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback
    except ValueError:
        return host == "localhost"


def find(folder: SweepFolder) -> Head | None:
    """The head that an earlier process of the sweep started, if it still runs."""
    try:
        head = Head(**json.loads((folder.path / HEAD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return head if head.process() is not None else None


def start(folder: SweepFolder, settings: Settings) -> Head:
    """Start a head for a sweep and wait until it answers.

    Raises:
        ConfigError: it cannot listen where it should.
        RunFailed: it does not come up.
    """
    host = settings.bind
    gpus = len(visible_gpus()) if settings.num_gpus is None else settings.num_gpus
    ports = _free_ports(host, 7)
    temp_dir = tempfile.mkdtemp(prefix="chord-head-")
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    words += [f"--node-ip-address={host}", f"--port={ports[0]}", f"--temp-dir={temp_dir}", f"--num-gpus={gpus}"]
    words += ["--include-dashboard=true", f"--dashboard-host={host}", f"--dashboard-port={ports[1]}"]
    words += [f"--dashboard-agent-listen-port={ports[2]}", f"--dashboard-agent-grpc-port={ports[3]}"]
    words += [f"--metrics-export-port={ports[4]}", f"--runtime-env-agent-port={ports[5]}"]
    words += [f"--ray-client-server-port={ports[6]}", f"--resources={json.dumps({WHOLE_TRIALS: gpus})}"]
    words += [f"--num-cpus={settings.num_cpus}"] if settings.num_cpus is not None else []
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "disabled" if is_loopback(host) else "token"}
    if is_loopback(host):
        # makes Ray take 127.0.0.1 for the node's address, so that nothing listens to a network
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    with open(folder.path / HEAD_LOG, "ab") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    head = Head(f"http://{host}:{ports[1]}", process.pid, psutil.Process(process.pid).create_time(), temp_dir)
    write_atomically(folder.path / HEAD, json.dumps(asdict(head)))
    try:
        _wait_until_it_answers(head, process, folder)
    except BaseException:
        head.stop()
        raise
    return head


def _wait_until_it_answers(head: Head, process: subprocess.Popen[bytes], folder: SweepFolder) -> None:
    host, _, port = head.address.removeprefix("http://").rpartition(":")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(Exception), socket.socket() as probe:  # Ray raises many kinds before it is up
            if probe.connect_ex((host, int(port))) == 0 and machines(head.address):
                return
        time.sleep(0.2)
    raise RunFailed(
        "the Ray head does not come up",
        str(folder.path / HEAD_LOG),
        "look there; a head beyond loopback (hydra.launcher.bind) needs a token: see `ray get-auth-token --generate`",
    )


def _free_ports(host: str, count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}: {error.strerror}", "hydra.launcher.bind", "give an address of this machine"
        ) from error
    finally:
        for one in sockets:
            one.close()
