"""One start of a process that runs Trinity: started, watched, and everything below it ended."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

from chord_exp.launch import processes
from chord_exp.launch.run_request import RunRequest
from chord_exp.launch.start import start_run_process
from chord_exp.run_files.names import LOGS


def run_to_end(
    run_dir: Path,
    run_id: str,
    request: RunRequest,
    lock: IO[bytes],
    received: list[int],
    watch: Callable[[subprocess.Popen[bytes]], None],
) -> int:
    """Start the process of a request and see it to its end; return its exit code, negative for a signal.

    Args:
        lock: see `start_run_process`.
        received: stop signals so far.
        watch: returns when the process has ended, or shall be ended.
    """
    request.save(run_dir)
    process = start_run_process(run_dir, run_id, request.engine, request.ray_address, Path(request.ray_dir), lock)
    try:
        watch(process)
    finally:
        # whoever asked twice does not want to wait
        processes.end_run(run_id, grace=0.0 if len(received) > 1 else processes.GRACE_SECONDS)
        code = process.wait()
    return code


def keep_ray_logs(ray_dir: Path, run_dir: Path) -> None:
    """Keep what Ray itself wrote, its sessions' logs, with the run."""
    target = run_dir / LOGS / "ray"
    for session in ray_dir.glob("session_2*/logs"):
        try:
            shutil.copytree(session, target / session.parent.name, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        except (OSError, shutil.Error):
            return  # a full disk; the verdict says so
