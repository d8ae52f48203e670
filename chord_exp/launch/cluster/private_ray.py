"""A Ray of our own: on loopback unless told otherwise, on ports that are free, gone with whoever started it.

`start` runs one below this process, for a single run. `start_head` runs one beside it, which other processes join by
its address: a sweep's trials, which outlive the process that started them.
"""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from chord_exp.errors import RunFailed
from chord_exp.utils.files import write_atomically

LOOPBACK = "127.0.0.1"
# Ray's own processes, without either of which nothing works
ESSENTIAL = ("raylet", "gcs_server")
# files of a head, in the folder that it was started for
HEAD, HEAD_LOG = "ray_head.json", "ray_head.log"
# a socket's path may have so many bytes, and Ray appends at most so much to its folder
SOCKET_PATH_MAX = 107
LONGEST_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
TEMP_PREFIX = "chord-ray-"
# what is left for the path of the folder that this folder lies in, bytes
ROOM_FOR_PARENT = SOCKET_PATH_MAX - len(LONGEST_SOCKET) - len(TEMP_PREFIX) - 8 - 1
# where the folder goes if TMPDIR is too long
SHORT_PARENTS = ("/tmp", "/var/tmp", "/dev/shm")
MAX_NODES = 1000
START_SECONDS = 120.0
STOP_SECONDS = 15.0
REACH_SECONDS = 30.0
# what a run's placement groups hold of Ray's CPU cores: verl's {"CPU": 3, "GPU": 1} for each GPU of the trainer,
# Trinity's one for an engine; and one must be free wherever an actor is placed, even if it then takes none
CPUS_PER_TRAINER_GPU, CPUS_PER_ENGINE, CPUS_TO_PLACE = 3, 1, 1
# Ray then believes in two GPUs, and whichever it gives to a process is GPU 0
SHARING_COMMAND = "CUDA_VISIBLE_DEVICES=0,0 ray start --head --num-gpus=2"


def make_temp_dir() -> Path:
    """Make a folder for the sockets and logs of a Ray: below TMPDIR, or elsewhere if that is too long for a socket.

    Raises:
        RunFailed: no short folder can be written to.
    """
    for parent in (tempfile.gettempdir(), *SHORT_PARENTS):
        if len(os.fsencode(parent)) <= ROOM_FOR_PARENT:
            with suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=parent))
    raise RunFailed(
        "there is no folder that Ray's sockets could lie in",
        "TMPDIR",
        f"set TMPDIR to a writable folder whose path has at most {ROOM_FOR_PARENT} characters",
    )


def environment(host: str = LOOPBACK) -> dict[str, str]:
    """Return the variables for a process that starts a Ray on `host`; they must be set before it imports Ray."""
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": _auth_mode(host), **_proxy_bypass(host)}
    if is_loopback(host):
        # makes Ray take 127.0.0.1 for the node's address, so that nothing listens to a network
        variables["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return variables


def set_up_client(address: str) -> None:
    """Set what this process needs to talk to a cluster, before it imports Ray. What the user set of it stays.

    How to prove who we are is never left to chance: a token file in the home folder would turn tokens on for one side
    only.
    """
    host = host_of(address)
    os.environ.setdefault("RAY_AUTH_MODE", _auth_mode(host))
    os.environ.update(_proxy_bypass(host))


def host_of(address: str) -> str:
    """Return the host of `HOST:PORT` or `http://HOST:PORT`."""
    return urlsplit(address if "://" in address else f"//{address}").hostname or ""


def is_loopback(host: str) -> bool:
    """Return whether nothing but this machine reaches an address."""
    try:
        address = ipaddress.ip_address(host)
        # a server on both protocols shows IPv4 as ::ffff:127.0.0.1
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def sharing_gpus(wanted: bool) -> Iterator[None]:
    """Have a Ray that starts meanwhile see its first GPU twice: engine and trainer on one GPU each ask for a whole one.

    Only Ray may see it so; CUDA takes a list with a double entry for an empty one.
    """
    if not wanted:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = before.split(",")[0].strip() if before else "0"
    os.environ["CUDA_VISIBLE_DEVICES"] = f"{first},{first}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def start(folder: Path, **options: Any) -> None:
    """Start a Ray below this process, which has `environment()`, and connect to it.

    Args:
        folder: for Ray's sockets and logs; see `make_temp_dir`.
        options: further arguments of `ray.init`.
    """
    import ray

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=str(folder),
        **options,
    )


def lost() -> list[str]:
    """Return the names of Ray's own processes that this process started and that have died."""
    alive = set()
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                alive.add(child.name())
    return [name for name in ESSENTIAL if name not in alive]


def reach(address: str) -> None:
    """See that something listens where Ray would go, which tries a cluster that is gone again and again.

    Args:
        address: HOST:PORT, or auto for what Ray knows of this machine.

    Raises:
        OSError: nothing does, or Ray knows of none.
    """
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address)
    if found and "://" not in found:
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()


@dataclass(frozen=True)
class Head:
    """A head that runs: what it takes to join it, to find it again and to end it."""

    # http://HOST:PORT of its dashboard, which answers the Jobs API
    address: str
    # HOST:PORT for RAY_ADDRESS and `ray.init`
    ray_address: str
    pid: int
    # of the process, seconds since the epoch: process numbers come back
    created: float
    temp_dir: str

    def process(self) -> psutil.Process | None:
        """Return its process, if that still lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def stop(self) -> None:
        """End it with everything below it."""
        process = self.process()
        if process is not None:
            below = []
            # it may end by itself at any moment
            with suppress(psutil.NoSuchProcess):
                below = process.children(recursive=True)
                process.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs([process, *below], timeout=STOP_SECONDS)
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(left, timeout=STOP_SECONDS)
        shutil.rmtree(self.temp_dir, ignore_errors=True)


def find_head(folder: Path) -> Head | None:
    """Return the head that an earlier process started for a folder, if it still runs."""
    try:
        head = Head(**json.loads((folder / HEAD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return head if head.process() is not None else None


def start_head(
    folder: Path,
    host: str = LOOPBACK,
    *,
    num_gpus: int,
    num_cpus: int | None = None,
    resources: Mapping[str, float] | None = None,
) -> Head:
    """Start a head and wait until it answers; it runs until `Head.stop`, even if this process is killed.

    Args:
        folder: gets the files that the head is found by and its log.
        host: address that it listens on.
        num_gpus: GPUs that it says it has; they need not exist.
        num_cpus: CPU cores that it says it has; those of this machine by default.
        resources: further resources by name.

    Raises:
        OSError: it cannot listen on `host`.
        RunFailed: it does not come up.
    """
    set_up_client(host)
    ports = free_ports(host, 7)
    temp_dir = str(make_temp_dir())
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    words += [f"--node-ip-address={host}", f"--port={ports[0]}", f"--temp-dir={temp_dir}", f"--num-gpus={num_gpus}"]
    words += ["--include-dashboard=true", f"--dashboard-host={host}", f"--dashboard-port={ports[1]}"]
    words += [f"--dashboard-agent-listen-port={ports[2]}", f"--dashboard-agent-grpc-port={ports[3]}"]
    words += [f"--metrics-export-port={ports[4]}", f"--runtime-env-agent-port={ports[5]}"]
    words += [f"--ray-client-server-port={ports[6]}", f"--resources={json.dumps(dict(resources or {}))}"]
    words += [f"--num-cpus={num_cpus}"] if num_cpus is not None else []
    inherited = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    with open(folder / HEAD_LOG, "ab") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**inherited, **environment(host)},
            start_new_session=True,
        )
    created = psutil.Process(process.pid).create_time()
    head = Head(f"http://{host}:{ports[1]}", f"{host}:{ports[0]}", process.pid, created, temp_dir)
    write_atomically(folder / HEAD, json.dumps(asdict(head)))
    try:
        _wait_until_it_answers(head, process, folder)
    except BaseException:
        head.stop()
        raise
    return head


def machines(address: str) -> dict[str, dict[str, float]]:
    """Return the resources of a cluster's living machines, by the http address of its dashboard."""
    from ray.util.state import list_nodes

    # Ray takes machines that the filter leaves out for missing output: with one lost it would refuse to answer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list_nodes(
            address=address, limit=MAX_NODES, filters=[("state", "=", "ALIVE")], raise_on_missing_output=False
        )
    return {node.node_id: node.resources_total or {} for node in found if node.resources_total}


def free_ports(host: str, count: int) -> list[int]:
    """Return ports of an address that nobody listens on.

    Raises:
        OSError: the address is not of this machine.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait_until_it_answers(head: Head, process: subprocess.Popen[bytes], folder: Path) -> None:
    host, _, port = head.address.removeprefix("http://").rpartition(":")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(Exception), socket.socket() as probe:  # Ray raises many kinds before it is up
            if probe.connect_ex((host, int(port))) == 0 and machines(head.address):
                return
        time.sleep(0.2)
    raise RunFailed(
        "the Ray head does not come up",
        str(folder / HEAD_LOG),
        "look there; a head beyond loopback needs a token: see `ray get-auth-token --generate`",
    )


def _auth_mode(host: str) -> str:
    """Nothing else can reach a Ray on loopback, and a token left in the home folder would lock us out."""
    return "disabled" if is_loopback(host) else "token"


def _proxy_bypass(host: str) -> dict[str, str]:
    """What keeps requests to this machine from a proxy: a proxy cannot reach our loopback."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if given.strip() == "*":
        return {}
    names = [name.strip() for name in given.split(",") if name.strip()]
    names += ["localhost", LOOPBACK, "::1", *([host] if is_loopback(host) else [])]
    # libraries differ in which of the two they read
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(dict.fromkeys(names)))
