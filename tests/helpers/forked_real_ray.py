"""A Ray with logical GPUs whose workers are forked from a process that has imported vLLM and verl, as a run's own Ray.

Prints its address and the interpreter that its workers are to be given, as JSON; ends when its input does.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from chord_exp.launch import forkserver

forkserver.set_up_environment()
from chord_exp.launch import private_ray, run_process  # noqa: E402  # the server's environment must be there first


def drive(folder: Path) -> int:
    """The process below which the Ray runs."""
    import ray

    with forkserver.workers_forked() as python:
        private_ray.start(folder, num_gpus=int(sys.argv[1]), num_cpus=int(sys.argv[2]))
    print(json.dumps({"address": ray.get_runtime_context().gcs_address, "python": python}), flush=True)
    sys.stdin.read()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    run_process.preload("real_cpu")
    assert forkserver.can_serve()
    with tempfile.TemporaryDirectory(prefix="chord-ray-") as place:
        code = forkserver.serve(Path(place), lambda: drive(Path(place)))
    sys.exit(code)
