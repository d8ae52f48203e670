"""Fork processes that have imported everything already, instead of importing it in each.

A run has about ten Ray workers, and each would spend seconds of CPU importing torch, transformers and Trinity. Here the
run's process imports them once and then forks: first the driver, then every worker that Ray's raylet asks for. Ray
starts its workers with `sys.executable`; for the length of `ray.init` that points to a small script, which has
`fork_client` ask the run's process over a Unix socket and stay as the worker's proxy.

Only the scripts named in `FORKED` are started this way, and what such a worker has multiprocessing spawn, as vLLM does
for its engine. Anything else the script is asked to run, it runs with the real interpreter. `warm_server` forks whole
runs by the same means.

This leans on two details of Ray (which interpreter it records, and two variables its C++ part reads once, when it is
imported), so it is used with the versions of Ray it was tested on; with any other, workers start the slow way.
"""

from __future__ import annotations

import array
import fcntl
import importlib.metadata
import json
import multiprocessing
import os
import random
import runpy
import select
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from chord_exp.launch.forking.fork_client import DECLINED, GO, MOST_FILES, SPAWNED, read_line
from chord_exp.launch.processes import end_with_parent

SOCKET_ENV = "CHORD_EXP_FORK_SOCKET"
TESTED_RAY = ("2.60.",)
# of Ray's Python processes, those that need no file descriptor beyond the standard three
FORKED = (
    "/workers/default_worker.py",
    "/monitor.py",
    "/log_monitor.py",
    "/dashboard/dashboard.py",
    "/dashboard/agent.py",
    "/runtime_env/agent/main.py",
)
REQUEST_LIMIT = 1 << 20
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# how long a client may take to say what it wants, seconds; it has everything at hand
REQUEST_SECONDS = 5.0
RAY_ENVIRONMENT = {
    # Ray's C++ part reads these two once per process, when it is imported, so that forked workers see them: a job (the
    # nil one, any job may then be assigned), and a process whose death should end them (their own group, which lives as
    # long as they do: the kernel ends them when their server dies)
    "RAY_JOB_ID": "ffffffff",
    "RAY_RAYLET_PID": "0",
    # Ray's agents then notice the raylet's death by their standard input, not by the process that is their parent
    "RAY_enable_pipe_based_agent_to_parent_health_check": "1",
}


def set_up_environment() -> None:
    """Prepare this process to serve; to be called before Ray is imported in it."""
    if importlib.metadata.version("ray").startswith(TESTED_RAY):
        os.environ.update(RAY_ENVIRONMENT)


def can_serve() -> bool:
    """Return whether this process was set up and may be forked.

    It must have one thread only: with more, a fork may inherit a held lock. And Ray's C++ part must not have drawn a
    random number yet: forks would go on from the same state, give two tasks one id, and crash the actor that gets both.
    """
    return "RAY_JOB_ID" in os.environ and len(os.listdir("/proc/self/task")) == 1 and _forks_differ()


def _forks_differ() -> bool:
    drawn = set()
    for _ in range(2):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            from ray._raylet import UniqueID

            os.write(writing, UniqueID.from_random().binary())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        drawn.add(os.read(reading, 1024))
        os.close(reading)
    return len(drawn) == 2


class ForkLoop:
    """Fork a process for each request that comes to a socket, and tell each client how its process ended.

    Args:
        listener: a listening Unix socket.
        why_not: the reason to decline a request, empty to serve it.
        work: done in the forked process, given the request and the connection to its client; its result is the exit
            code.
        kill_orphans: a process whose client dies is killed.
    """

    def __init__(
        self,
        listener: socket.socket,
        why_not: Callable[[dict[str, Any]], str],
        work: Callable[[dict[str, Any], socket.socket], int],
        *,
        kill_orphans: bool,
    ) -> None:
        self._listener, self._why_not, self._work, self._kill_orphans = listener, why_not, work, kill_orphans
        self._clients: dict[int, socket.socket] = {}
        self._wake = os.pipe()
        for descriptor in self._wake:
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll = select.poll()
        self._actions: dict[int, Callable[[], object]] = {}
        self._when(listener.fileno(), select.POLLIN, self._answer)
        self._when(self._wake[0], select.POLLIN, lambda: os.read(self._wake[0], 4096))

    def fork(self, work: Callable[[], int]) -> int:
        """Fork a process, which does its work and ends; return its number."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        pid = os.fork()
        if pid == 0:
            _finish(work, self._let_go)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return pid

    def watch(self, connection: socket.socket, on_close: Callable[[], None]) -> None:
        """Call a function when the other side of a connection is gone."""

        def closed() -> None:
            self._forget(connection)
            on_close()

        self._when(connection.fileno(), select.POLLRDHUP, closed)

    def turn(self) -> list[tuple[int, int]]:
        """Wait for something to do and do it; return processes that ended, with exit codes (negative: by a signal)."""
        for descriptor, _ in self._poll.poll():
            self._actions[descriptor]()
        ended = list(_ended_children())
        for pid, code in ended:
            # not there: nobody asked for the process, which may also be one that an import left behind
            if (client := self._clients.pop(pid, None)) is not None:
                self._forget(client)
                _tell(client, code)
                client.close()
        return ended

    def kill_all(self) -> None:
        """Kill the processes that clients asked for."""
        for pid in self._clients:
            os.kill(pid, signal.SIGKILL)

    def _when(self, descriptor: int, event: int, action: Callable[[], object]) -> None:
        self._poll.register(descriptor, event)
        self._actions[descriptor] = action

    def _forget(self, connection: socket.socket) -> None:
        if self._actions.pop(connection.fileno(), None) is not None:
            self._poll.unregister(connection.fileno())

    def _answer(self) -> None:
        client, _ = self._listener.accept()
        client.settimeout(REQUEST_SECONDS)
        streams = array.array("i")
        try:
            request = _read_request(client, streams)
        except (OSError, ValueError):  # it died while it was asking
            request = None
        if request is None or (reason := self._why_not(request)):
            if request is not None:
                _tell(client, f"{DECLINED} {reason}")
            client.close()
        else:
            self._fork_for(client, request, streams)
        for stream in streams:
            os.close(stream)

    def _fork_for(self, client: socket.socket, request: dict[str, Any], streams: array.array[int]) -> None:
        def work() -> int:
            client.settimeout(None)
            if read_line(client) != GO:  # it has given up, and does the work itself
                return 0
            return self._work(request, _place(streams, request["files"], client))

        pid = self.fork(work)
        _tell(client, pid)
        self._clients[pid] = client
        if self._kill_orphans:
            self.watch(client, lambda: os.kill(pid, signal.SIGKILL))

    def _let_go(self) -> None:
        """In a forked process: close what is the server's and other clients', whose ends are told by closing."""
        for descriptor in self._wake:
            os.close(descriptor)
        for connection in (self._listener, *self._clients.values()):
            connection.close()


def serve(folder: Path, run_driver: Callable[[], int], client: socket.socket | None = None) -> int:
    """Fork the driver, then a worker for each request, until the driver ends.

    Args:
        folder: a short path for the socket and the client script.
        run_driver: called in the forked driver; its result is the exit code.
        client: the connection to the process that asked for this run; when it closes, the driver is asked to stop.

    Returns:
        The driver's exit code (128 + N if signal N ended it).
    """
    path = folder / "fork.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    os.environ[SOCKET_ENV] = str(path)
    _write_client_script(folder, path)
    loop = ForkLoop(listener, _not_a_worker, _run_worker, kill_orphans=True)

    def drive() -> int:
        if client is not None:
            client.close()
        return run_driver()

    driver = loop.fork(drive)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(driver, received))
    if client is not None:
        loop.watch(client, lambda: os.kill(driver, signal.SIGTERM))
    while True:
        for pid, code in loop.turn():
            if pid == driver:
                loop.kill_all()
                return code if code >= 0 else 128 - code


def _ended_children() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def _tell(client: socket.socket, answer: object) -> None:
    # a client that was killed first has nobody left to tell
    with suppress(OSError):
        client.sendall(f"{answer}\n".encode())


def _read_request(client: socket.socket, streams: array.array[int]) -> dict[str, Any]:
    """Read a client's line of JSON, and the file descriptors that came with it into `streams`."""
    room = socket.CMSG_SPACE(MOST_FILES * streams.itemsize)
    message, ancillary, _, _ = client.recvmsg(REQUEST_LIMIT, room)
    for _, _, data in ancillary:
        streams.frombytes(data)
    while not message.endswith(b"\n"):
        more = client.recv(REQUEST_LIMIT)
        if not more:
            break
        message += more
    return json.loads(message)


def _script(arguments: list[str]) -> list[str]:
    """A command line without the interpreter's own flags, such as -u; the code of what multiprocessing spawns."""
    if SPAWNED in arguments:
        return arguments[arguments.index("-c") + 1 :]
    first = next((index for index, word in enumerate(arguments) if not word.startswith("-")), len(arguments))
    return arguments[first:]


def _not_a_worker(request: dict[str, Any]) -> str:
    script = _script(request["argv"])
    known = script and (script[0].endswith(FORKED) or SPAWNED in script)
    return "" if known else "not one of Ray's workers"


def _run_worker(request: dict[str, Any], client: socket.socket) -> int:
    client.close()
    end_with_parent(signal.SIGKILL)
    # what it spawns is forked, too
    multiprocessing.set_executable(str(Path(os.environ[SOCKET_ENV]).with_name("python")))
    take_over(request)
    script = _script(request["argv"])
    if SPAWNED in script:
        sys.argv = ["-c", *script[1:]]
        exec(script[0], {"__name__": "__main__"})  # multiprocessing's own line, which imports and calls `spawn_main`
        return 0
    sys.argv = script
    runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


def _place(received: Sequence[int], wanted: Sequence[int], client: socket.socket) -> socket.socket:
    """Give a forked process the open files of its client, under the numbers that they have there; return the connection
    to it, moved out of their way."""
    free = max((*received, *wanted)) + 1
    moved = [fcntl.fcntl(one, fcntl.F_DUPFD, free) for one in received]
    for one in received:
        os.close(one)
    away = fcntl.fcntl(client.fileno(), fcntl.F_DUPFD_CLOEXEC, free)
    os.close(client.detach())
    for one, number in zip(moved, wanted, strict=True):
        os.dup2(one, number)
        os.close(one)
    return socket.socket(fileno=away)


def take_over(request: dict[str, Any]) -> None:
    """Give this process the environment, the folder and the randomness that a fresh one would have."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    random.seed()


def _finish(work: Callable[[], int], let_go: Callable[[], None]) -> NoReturn:
    """Do a forked process's work and leave without running the server's own clean-up."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *STOP_SIGNALS):
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
        let_go()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        code = work()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _write_client_script(folder: Path, socket_path: Path) -> None:
    script = folder / "python"
    client = Path(__file__).with_name("fork_client.py")
    command = f"'{sys.executable}' -I -S '{client}' '{socket_path}' '{sys.executable}'"
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


@contextmanager
def workers_forked() -> Iterator[str | None]:
    """While this holds, Ray records the client script as the interpreter of its workers; nothing without a server.

    Yields:
        That interpreter, for a runtime environment to name: it would else be the real one. None without a server.
    """
    socket_path = os.environ.get(SOCKET_ENV)
    real, client = sys.executable, str(Path(socket_path).with_name("python")) if socket_path else None
    if client:
        sys.executable = client
    try:
        yield client
    finally:
        sys.executable = real
