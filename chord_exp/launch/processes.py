"""Find and end every process of a run, however it came to be: each inherits one environment variable."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import psutil

MARK = "CHORD_EXP_RUN_ID"
GRACE_SECONDS = 5.0
# from <linux/prctl.h>
PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when the process that started it dies (Linux).

    A run whose watcher was killed then finishes its step, saves and ends, instead of training on unseen.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def of_run(run_id: str) -> list[psutil.Process]:
    """Living processes that carry the run's mark, this one left out."""
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
    """End a run's processes, first asking, then by force; returns how many had to be ended.

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
