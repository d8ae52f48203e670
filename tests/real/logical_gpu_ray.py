"""A Ray with logical GPUs whose workers are forked from a process that has imported the real stack.

    python logical_gpu_ray.py NUM_GPUS

Prints a line of JSON, `{"address": HOST:PORT, "python": interpreter of its workers}`, and ends with its standard input.
It needs the environment of `run_environment`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from chord_exp.launch.cluster import private_ray
from chord_exp.launch.driver import run_process
from chord_exp.launch.forking import forkserver
from chord_exp.launch.processes import end_with_parent


def drive(folder: Path, num_gpus: int) -> int:
    """The driver: start Ray, say where, and wait."""
    end_with_parent()
    import ray

    with forkserver.workers_forked() as python:
        private_ray.start(folder, num_gpus=num_gpus, num_cpus=64)
    print(json.dumps({"address": ray.get_runtime_context().gcs_address, "python": python}), flush=True)
    sys.stdin.read()
    ray.shutdown()
    return 0


def main() -> int:
    """Import everything, then fork the driver and whatever its Ray asks for."""
    forkserver.set_up_environment()
    run_process.preload("real_cpu")
    assert forkserver.can_serve()
    folder = private_ray.make_temp_dir()
    try:
        return forkserver.serve(folder, lambda: drive(folder, int(sys.argv[1])))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
