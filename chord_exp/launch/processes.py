"""Find and end every process of a run, however it came to be: each inherits one environment variable."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import psutil

from chord_exp.launch.forking.fork_client import PR_SET_PDEATHSIG

MARK = "CHORD_EXP_RUN_ID"
# what a process has for the mark before it belongs to a run; as long as a run's id
NO_RUN = "-" * 12
GRACE_SECONDS = 5.0


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when the process that started it dies (Linux).

    A run whose watcher was killed then finishes its step, saves and ends, instead of training on unseen.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, number)


def mark_this_process(run_id: str) -> None:
    """Give a process that was started with the mark `NO_RUN`, or forked from one, the mark of a run.

    What the system shows as a process's environment is the memory it was started with, whatever Python changes later.
    """
    with open("/proc/self/stat", encoding="utf-8") as stream:
        fields = stream.read().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    place = ctypes.string_at(start, end - start).find(f"{MARK}={NO_RUN}\0".encode())
    if place < 0 or len(run_id) != len(NO_RUN):
        raise ValueError(f"no room for the mark {run_id!r}")
    ctypes.memmove(start + place + len(MARK) + 1, run_id.encode(), len(run_id))


def is_alive(process: psutil.Process | None) -> bool:
    """Return whether a process has not ended; one that nobody has waited for has."""
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def of_run(run_id: str) -> list[psutil.Process]:
    """Return the living processes that carry the run's mark, this one left out."""
    wanted = f"{MARK}={run_id}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as stream:
                environment = stream.read().split(b"\0")
            if process.pid != os.getpid() and wanted in environment and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):  # it ended meanwhile, or belongs to somebody else
            continue
    return found


def end_run(run_id: str, grace: float = GRACE_SECONDS) -> int:
    """End a run's processes, first asking, then by force; return how many had to be ended.

    Repeated until none is left, because a dying process may have just started another.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + grace
    while processes := of_run(run_id):
        for process in processes:
            ended.add(process.pid)
            try:
                if time.monotonic() < deadline:
                    process.terminate()
                else:
                    process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(processes, timeout=0.5)
    return len(ended)
