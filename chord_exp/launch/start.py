"""Start the process of a run: forked from a warm server where one is named, afresh otherwise."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from chord_exp.engine import real_cpu
from chord_exp.launch import processes
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.forking import fork_client
from chord_exp.run_files.names import LOGS

# names the socket of a warm server; see `warm_server`
WARM_ENV = "CHORD_EXP_WARM"
MODULE = "chord_exp.launch.driver.run_process"


def start_run_process(
    run_dir: Path, run_id: str, engine: str, ray_address: str, ray_dir: Path, lock: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start the process of a run, which prints to `logs/run.log`.

    Args:
        ray_dir: for what is temporary; removed when the run has ended.
        lock: of the run's folder; the process and all below it hold it as their standard input.
    """
    environment = {**os.environ, **run_environment(engine, ray_address), processes.MARK: run_id}
    # WandB, which Trinity imports, leaves folders wherever temporary files go when its process is killed
    environment["TMPDIR"] = str(ray_dir / "tmp")
    Path(environment["TMPDIR"]).mkdir()
    # what torch compiled is of use to the next run
    compiled = os.path.join(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")
    environment.setdefault("TORCHINDUCTOR_CACHE_DIR", compiled)
    command = [sys.executable, "-m", MODULE, str(run_dir)]
    warm = environment.pop(WARM_ENV, None)
    if warm and engine != "verl":
        client = [sys.executable, "-I", "-S", fork_client.__file__, "--parent", str(os.getpid())]
        command = [*client, warm, *command]
    with open(run_dir / LOGS / "run.log", "ab") as log:
        return subprocess.Popen(
            command, stdin=lock, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )


def run_environment(engine: str, ray_address: str) -> dict[str, str]:
    """Return what the environment of a run's process has beyond that of the process that starts it."""
    environment = {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    if ray_address == "local":
        environment |= {**private_ray.environment(), "OMP_NUM_THREADS": "1"}
    if engine == "real_cpu":
        environment |= real_cpu.ENVIRONMENT
    if engine != "verl":
        # Arrow's allocator would start a thread on import, and a process with threads cannot be forked
        environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
        # Ray hides every GPU from processes that ask for none; the local engine shares one without asking
        environment["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    return environment
