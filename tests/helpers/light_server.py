"""A fork server whose work is light, for test_fork_loop: `python light_server.py SOCKET`. Imports nothing heavy."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress

from chord_exp.launch import processes
from chord_exp.launch.forking import forkserver


def why_not(request: dict) -> str:
    """Decline what asks to be declined."""
    return "it says so" if "decline" in request["argv"] else ""


def work(request: dict, client: socket.socket) -> int:
    """Do what the request says."""
    forkserver.take_over(request)
    kind, *words = request["argv"]
    if kind == "exit":
        return int(words[0])
    if kind == "die":
        os.kill(os.getpid(), int(words[0]))
    if kind == "see":
        print(os.environ["SEEN"], os.getcwd(), sys.stdin.read(), flush=True)
        print("to the other stream", file=sys.stderr, flush=True)
    if kind == "stay":
        if processes.MARK in request["env"]:
            processes.mark_this_process(request["env"][processes.MARK])
        signal.signal(signal.SIGTERM, lambda *_: (print("asked to stop", flush=True), os._exit(0)))
        print(os.getpid(), flush=True)
        while not client_gone(client):
            time.sleep(0.05)
        print("left alone", flush=True)
    return 0


def client_gone(client: socket.socket) -> bool:
    """Return whether the other side has closed the connection."""
    with suppress(BlockingIOError):
        return not client.recv(1, socket.MSG_DONTWAIT)
    return False


if __name__ == "__main__":
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(sys.argv[1])
    listener.listen(8)
    loop = forkserver.ForkLoop(listener, why_not, work, kill_orphans="--kill-orphans" in sys.argv)
    print("ready", flush=True)
    while True:
        loop.turn()
