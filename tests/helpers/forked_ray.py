"""Run by test_forkserver: a private Ray whose workers are forked; prints what they saw as JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

from chord_exp.launch.forking import forkserver

forkserver.set_up_environment()
import ray  # noqa: E402  # the server's environment must be there first

SERVER = os.getpid()


def spawn() -> tuple[int, str, int | None]:
    """In a worker: what a process that multiprocessing spawns says of itself, and its exit code."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    code = "import os; connection.send((os.getppid(), os.environ['MARK_OF_THE_WORKER'])); raise SystemExit(5)"
    os.environ["MARK_OF_THE_WORKER"] = "seen"
    process = context.Process(target=exec, args=(code, {"connection": there}))
    process.start()
    there.close()
    parent, mark = here.recv()
    process.join()
    return parent, mark, process.exitcode


def drive(folder: Path) -> int:
    """The driver: ask workers who they are, and have one exit and one be killed."""
    from chord_exp.launch.cluster import private_ray

    with forkserver.workers_forked():
        private_ray.start(folder, num_cpus=4, num_gpus=0)
    remote = ray.remote(lambda: (os.getppid(), os.environ.get("RAY_JOB_ID"), sys.argv[0]))
    seen = ray.get([remote.remote() for _ in range(4)], timeout=900)
    spawned = ray.get(ray.remote(spawn).remote(), timeout=900)
    died = ""
    try:
        ray.get(ray.remote(max_retries=0)(lambda: os._exit(3)).remote(), timeout=900)
    except ray.exceptions.WorkerCrashedError as error:
        died = type(error).__name__
    address = ray.get_runtime_context().gcs_address
    ray.shutdown()
    print(
        json.dumps(
            {"server": SERVER, "parents": [s[0] for s in seen], "died": died, "address": address} | {"spawned": spawned}
        )
    )
    return 7


if __name__ == "__main__":
    place = Path(tempfile.mkdtemp(prefix="chord-ray-"))
    assert forkserver.can_serve()
    sys.exit(forkserver.serve(place, lambda: drive(place)))
