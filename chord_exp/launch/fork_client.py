"""The proxy that Ray's raylet starts in place of a Python worker (see `forkserver`). Standard library only, on purpose.

Usage: fork_client.py REAL_PYTHON [SCRIPT ARG ...]
"""

import array
import json
import os
import signal
import socket
import sys

# of Ray's Python processes, those that need no file descriptor beyond the standard three
FORKED = ("default_worker.py", "monitor.py", "log_monitor.py", "dashboard.py")


def main() -> None:
    """Ask the server for a worker and live as long as it does."""
    python, arguments = sys.argv[1], sys.argv[2:]
    path = os.environ.get("CHORD_EXP_FORK_SOCKET")
    # Ray passes interpreter flags such as -u before the script
    script = next((index for index, word in enumerate(arguments) if not word.startswith("-")), None)
    if path is None or script is None or os.path.basename(arguments[script]) not in FORKED:
        os.execv(python, [python, *arguments])
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.connect(path)
    request = {"argv": arguments[script:], "env": dict(os.environ), "cwd": os.getcwd()}
    message = json.dumps(request).encode() + b"\n"
    streams = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]).tobytes())
    sent = server.sendmsg([message], [streams])
    server.sendall(message[sent:])
    answers = server.makefile()
    worker = int(answers.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: os.kill(worker, received))
    # the server answers with the exit code; a closed connection means that it died, and the worker with it
    code = answers.readline().strip()
    sys.exit(int(code) if code else 1)


if __name__ == "__main__":
    main()
