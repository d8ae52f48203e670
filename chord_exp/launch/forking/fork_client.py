"""Ask a server that has imported everything to fork a process, and stand in for it: pass on signals and the exit code.

Usage: fork_client.py [--parent PID] SOCKET REAL_PYTHON ARG ...
With `--parent`, the death of that process, which started this one, asks the forked process to stop.
Where no server answers, or it declines, this process becomes `REAL_PYTHON ARG ...` itself, so that a server is never
more than a faster start. Standard library only, on purpose: this runs once for every Ray worker.

The talk: the client sends a line of JSON with its open files (the three standard streams; all, of a process that
multiprocessing spawns, whose command line names some of them by number); the server answers `no` and why, or forks and
answers the number of the new process, which waits for `go`. Only then does the client give up its way back. The last
line is the exit code, negative for a signal.
"""

from __future__ import annotations

import array
import ctypes
import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

# how long the first answer may take, seconds: a server that is still importing on a busy machine is worth waiting for
PATIENCE = 120.0
DECLINED, GO = "no", "go"
# on the command line of what multiprocessing spawns
SPAWNED = "--multiprocessing-fork"
# the kernel takes no more at once, and who has more starts afresh
MOST_FILES = 253
# from <linux/prctl.h>
PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Become the proxy of a forked process, or the real interpreter."""
    words = sys.argv[1:]
    if words[0] == "--parent":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(words[1]):  # it died before the kernel was asked
            sys.exit(1)
        words = words[2:]
    path, python, *arguments = words
    asked = _ask(path, arguments)
    if asked is None:
        os.execv(python, [python, *arguments])
    server, worker = asked
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: _pass_on(worker, received))
    server.settimeout(None)
    server.sendall(f"{GO}\n".encode())
    # a server that dies leaves its processes alive; the connection is then closed by the end of ours
    code = read_line(server)
    if code.startswith("-"):  # end as it ended
        by = int(code[1:])
        if by != signal.SIGKILL:
            signal.signal(by, signal.SIG_DFL)
        os.kill(os.getpid(), by)
    sys.exit(int(code) if code else 1)


def _ask(path: str, arguments: list[str]) -> tuple[socket.socket, int] | None:
    """The connection to the server and the process that it forked; None if it did not."""
    files = _open_files() if SPAWNED in arguments else [0, 1, 2]
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.settimeout(PATIENCE)
    request = {
        "argv": arguments,
        "env": dict(os.environ),
        "cwd": os.getcwd(),
        "state": process_state(),
        "files": files,
    }
    message = json.dumps(request).encode() + b"\n"
    streams = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files).tobytes())
    try:
        server.connect(path)
        sent = server.sendmsg([message], [streams])
        if sent < len(message):
            server.sendall(message[sent:])
        answer = read_line(server)
        if answer.isdigit():
            return server, int(answer)
        print(f"starting afresh: the server answered {answer!r}", file=sys.stderr)
    except OSError as error:
        print(f"starting afresh: the server does not answer ({error})", file=sys.stderr)
    server.close()
    return None


def _open_files() -> list[int]:
    """The numbers of this process's open files."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that listed them is closed again
            os.fstat(int(name))
            found.append(int(name))
    return found


def read_line(connection: socket.socket) -> str:
    """Return one line, read byte by byte; the empty string if the other side is gone."""
    line = b""
    while (byte := connection.recv(1)) and byte != b"\n":
        line += byte
    return line.decode() if byte else ""


def _pass_on(worker: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(worker, number)


def process_state() -> dict[str, Any]:
    """Return what a process inherits besides its environment and streams, in words of JSON."""
    mask = os.umask(0)
    os.umask(mask)
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) == signal.SIG_IGN]
    limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")}
    with open("/proc/self/cgroup") as groups:
        control_groups = groups.read()
    state = {
        "umask": mask,
        "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
        "limits": limits,
        "nice": os.nice(0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "ignored": sorted(ignored),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "control groups": control_groups,
    }
    return json.loads(json.dumps(state))


if __name__ == "__main__":
    main()
