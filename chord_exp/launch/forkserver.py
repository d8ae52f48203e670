"""Start Ray's workers by forking one process that has imported everything, instead of importing it in each.

A run has about ten Ray workers, and each would spend seconds of CPU importing torch, transformers and Trinity. Here one
process imports them once and then forks: first the driver, then every worker that Ray's raylet asks for. Ray starts its
workers with `sys.executable`; for the length of `ray.init` that points to a small script (`fork_client`) which passes
the command line, environment and standard streams to the server over a Unix socket and stays as the worker's proxy.

Only the scripts named in `fork_client` are started this way. Anything else the script is asked to run, it runs with the
real interpreter.

This leans on two details of Ray (which interpreter it records, and two variables its C++ part reads once, when it is
imported), so it is used with the versions of Ray it was tested on; with any other, workers start the slow way.
"""

from __future__ import annotations

import array
import importlib.metadata
import json
import os
import random
import runpy
import selectors
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

SOCKET_ENV = "CHORD_EXP_FORK_SOCKET"
REQUEST_LIMIT = 1 << 20
TESTED_RAY = ("2.60.",)


def set_up_environment() -> None:
    """Call before Ray is imported in the process that will serve.

    Ray's C++ part reads its settings once per process, so forked workers see the server's: they must find a job (the
    nil one, any job may then be assigned) and, in place of the raylet, a process whose death should end them.
    """
    if importlib.metadata.version("ray").startswith(TESTED_RAY):
        os.environ["RAY_JOB_ID"] = "ffffffff"
        os.environ["RAY_RAYLET_PID"] = str(os.getpid())


def can_serve() -> bool:
    """Whether this process was set up and has one thread only: with more, a fork may inherit a held lock."""
    return "RAY_JOB_ID" in os.environ and len(os.listdir("/proc/self/task")) == 1


def serve(folder: Path, run_driver: Callable[[], int]) -> int:
    """Fork the driver, then a worker for each request, until the driver ends.

    Args:
        folder: a short path for the socket and the client script.
        run_driver: called in the forked driver; its result is the exit code.

    Returns:
        The driver's exit code (128 + N if signal N ended it).
    """
    path = folder / "fork.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    os.environ[SOCKET_ENV] = str(path)
    _write_client_script(folder)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    driver = os.fork()
    if driver == 0:
        for descriptor in (wake_read, wake_write):
            os.close(descriptor)
        listener.close()
        _finish(run_driver)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(driver, received))
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    proxies: dict[int, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                pid, proxy = _answer(listener, proxies, (wake_read, wake_write))
                if proxy is not None:
                    proxies[pid] = proxy
                    selector.register(proxy, selectors.EVENT_READ, data=pid)
            elif key.fileobj == wake_read:
                os.read(wake_read, 4096)
            else:  # a proxy never speaks again: it has died, and so must its worker
                selector.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)
        for pid, code in _ended_children():
            if pid == driver:
                for worker in proxies:
                    os.kill(worker, signal.SIGKILL)
                return code
            with proxies.pop(pid) as proxy:
                if proxy in selector.get_map():
                    selector.unregister(proxy)
                _tell(proxy, code)


def _ended_children() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _tell(proxy: socket.socket, number: int) -> None:
    # a proxy that was killed first has nobody left to tell
    with suppress(OSError):
        proxy.sendall(f"{number}\n".encode())


def _answer(
    listener: socket.socket, proxies: dict[int, socket.socket], own: tuple[int, int]
) -> tuple[int, socket.socket | None]:
    """Read one request and fork its worker; returns the worker's pid and the connection to its proxy."""
    proxy, _ = listener.accept()
    room = socket.CMSG_SPACE(3 * array.array("i").itemsize)
    message, ancillary, _, _ = proxy.recvmsg(REQUEST_LIMIT, room)
    streams = array.array("i")
    for _, _, data in ancillary:
        streams.frombytes(data)
    while not message.endswith(b"\n"):
        more = proxy.recv(REQUEST_LIMIT)
        if not more:
            break
        message += more
    try:
        request = json.loads(message)
    except ValueError:  # cut short: the proxy died while it was asking
        proxy.close()
        return 0, None
    pid = os.fork()
    if pid == 0:
        listener.close()
        for descriptor in own:
            os.close(descriptor)
        for other in (proxy, *proxies.values()):
            other.close()
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
            os.close(stream)
        _finish(lambda: _run_script(request))
    for stream in streams:
        os.close(stream)
    _tell(proxy, pid)
    return pid, proxy


def _run_script(request: dict) -> int:
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    random.seed()
    runpy.run_path(sys.argv[0], run_name="__main__")
    return 0


def _finish(work: Callable[[], int]) -> NoReturn:
    """Do a forked process's work and leave without running the server's own clean-up."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
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


def _write_client_script(folder: Path) -> Path:
    script = folder / "python"
    client = Path(__file__).with_name("fork_client.py")
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{client}' '{sys.executable}' \"$@\"\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@contextmanager
def workers_forked() -> Iterator[None]:
    """While this holds, Ray records the fork client as the interpreter of its workers; nothing without a server."""
    socket_path = os.environ.get(SOCKET_ENV)
    real = sys.executable
    if socket_path:
        sys.executable = str(Path(socket_path).with_name("python"))
    try:
        yield
    finally:
        sys.executable = real
