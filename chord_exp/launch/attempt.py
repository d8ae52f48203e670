"""One start of a process that runs Trinity: started, watched, and everything below it ended."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO

from chord_exp.engine import real_cpu
from chord_exp.errors import ConfigError
from chord_exp.launch import processes
from chord_exp.launch.run_request import RunRequest
from chord_exp.launch.start import start_run_process
from chord_exp.run_files.names import LOGS

POLL_SECONDS = 0.25
GPU_PACKAGES = ("vllm", "verl")


def require_packages(engine: str) -> None:
    """Refuse an engine whose packages are missing, before a folder is made or Ray is started.

    Raises:
        ConfigError: they are.
    """
    if engine == "real_cpu":
        real_cpu.require()
    # asked of the path: where vLLM is missing, a stub of it is loaded (engine.vllm_stub)
    missing = [name for name in GPU_PACKAGES if engine == "verl" and PathFinder.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not installed, which cluster.engine=verl needs",
            "cluster.engine",
            "run `make setup-gpu`, or rehearse with cluster=local, or with cluster=real_cpu after `make setup-real`",
        )


def run_to_end(
    run_dir: Path,
    run_id: str,
    request: RunRequest,
    lock: IO[bytes],
    received: list[int],
    look: Callable[[], None],
    on_stop: Callable[[], None] = lambda: None,
) -> int:
    """Start the process of a request and see it to its end; return its exit code, negative for a signal.

    Args:
        lock: see `start_run_process`.
        received: stop signals so far: the first is passed on, a second ends the process.
        look: called again and again while it runs.
        on_stop: called when a stop is passed on.
    """
    request.save(run_dir)
    process = start_run_process(run_dir, run_id, request.engine, request.ray_address, Path(request.ray_dir), lock)
    asked = False
    try:
        while process.poll() is None and len(received) < 2:
            look()
            if received and not asked:
                asked = True
                on_stop()
                process.send_signal(signal.SIGTERM)
            time.sleep(POLL_SECONDS)
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
