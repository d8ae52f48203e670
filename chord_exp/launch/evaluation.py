"""Ask held-out prompts in a process of its own, as a run trains in one: the same engines and Ray, the same end."""

from __future__ import annotations

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from chord_exp.errors import RunFailed
from chord_exp.launch import verdict
from chord_exp.launch.attempt import keep_ray_logs, require_packages, run_to_end
from chord_exp.launch.cluster import private_ray
from chord_exp.launch.run_request import Outcome, RunRequest, read_phase
from chord_exp.run_files.names import LOCK, LOGS, TRINITY_CONFIG
from chord_exp.utils.files import try_lock, write_atomically
from chord_exp.utils.signals import collect_stop_signals


@dataclass(frozen=True)
class Asking:
    """What asking takes: plain values, decided before."""

    # the resolved Trinity config, in mode bench
    yaml: str
    # local, real_cpu or verl
    engine: str
    ray_address: str
    # checkpoints below the config's job folder, in order; 0 is the model that the config names
    steps: list[int]


def ask(asking: Asking, folder: Path, console: Console) -> None:
    """Ask every prompt of every task set, each checkpoint in turn; `run_request.ANSWERS` in the folder then has the
    answers.

    Args:
        folder: a new one, or one that holds checkpoints alone.

    Raises:
        ConfigError: the packages of the engine are missing.
        RunFailed: it did not come to its end.
        KeyboardInterrupt: it was stopped.
    """
    require_packages(asking.engine)
    said = ""

    def say_phase() -> None:
        nonlocal said
        if (phase := read_phase(folder)) != said:
            said = phase
            console.print(said, highlight=False, markup=False)

    with collect_stop_signals() as received:
        (folder / LOGS).mkdir(parents=True)
        write_atomically(folder / TRINITY_CONFIG, asking.yaml)
        ray_dir, run_id = private_ray.make_temp_dir(), uuid.uuid4().hex[:12]
        request = RunRequest(
            engine=asking.engine,
            ray_address=asking.ray_address,
            namespace=f"evaluation/{run_id}",
            resume=True,
            ray_dir=str(ray_dir),
            watcher=os.getpid(),
            score_steps=asking.steps,
        )
        lock = try_lock(folder / LOCK, f"process {os.getpid()}")
        assert lock is not None, "nobody else knows the folder"
        try:
            with lock:
                code = run_to_end(folder, run_id, request, lock, received, say_phase)
        finally:
            keep_ray_logs(ray_dir, folder)
            shutil.rmtree(ray_dir, ignore_errors=True)
    if received:
        raise KeyboardInterrupt
    outcome = Outcome.load(folder)
    if outcome is None or outcome.ended != "finished":
        why = verdict.explain(outcome.error if outcome and outcome.error else f"the process died (exit code {code})")
        raise RunFailed(f"the evaluation failed: {why.what}", str(folder / LOGS / "run.log"), why.cause)
