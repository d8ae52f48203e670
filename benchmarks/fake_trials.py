"""Trials that only take time and GPUs, for the benchmarks of sweeps, and the real code of chord_exp around them.

    fake_trials.py work RUN_DIR [WORD...]   the trial and nothing else
    fake_trials.py bare OVERRIDES...        `python -m chord_exp OVERRIDES...`, up to where it would train
    fake_trials.py worker RUN_DIR ...       `python -m chord_exp.sweep.backends.worker RUN_DIR ...`, up to there
    fake_trials.py sweep OVERRIDES...       `python -m chord_exp -m OVERRIDES...` with such workers

Only `run_experiment`, which trains, is replaced. What a trial does is said by words among its overrides (see `Words`).
Without these modes this file imports nothing but Python's own library, and Ray where a trial takes GPUs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

# how long a half of the GPUs is held before the other is asked for, seconds: as an engine that loads its model
LOAD_SECONDS = 0.5


@dataclass(frozen=True)
class Words:
    """What a trial does."""

    steps: int = 2
    # of a step
    seconds: float = 0.05
    # taken in two halves, as engines and then a trainer do
    gpus: int = 0
    # 0: by no actors of its own; its process was given them
    own: int = 1
    # a checkpoint every so many steps
    save: int = 5

    @classmethod
    def read(cls, words: Sequence[str]) -> Words:
        """From `key=value` words; others are left alone."""
        kinds = {"steps": int, "seconds": float, "gpus": int, "own": int, "save": int}
        given = dict(word.split("=", 1) for word in words if "=" in word)
        return cls(**{key: kind(given[key]) for key, kind in kinds.items() if key in given})

    def write(self) -> list[str]:
        """The words that `read` reads."""
        return [f"{field.name}={getattr(self, field.name)}" for field in fields(self)]


def work(folder: Path, words: Words, begin: int | None = None, on_step: Callable[[int], None] | None = None) -> None:
    """Make the steps that are left.

    Each start and each step is a line of `starts.txt` and `steps.txt`: the step, the time, the process.

    Args:
        folder: the trial's own.
        begin: the step to go on from; by default that of the folder's checkpoint.
        on_step: told the number of each step that was made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.txt"
    if begin is None:
        begin = int(checkpoint.read_text()) if checkpoint.exists() else 0
    _note(folder / "starts.txt", begin)
    held = take_gpus(words.gpus) if words.own else []
    if not words.own:
        time.sleep(2 * LOAD_SECONDS)
    for step in range(begin + 1, words.steps + 1):
        time.sleep(words.seconds)
        _note(folder / "steps.txt", step)
        if step % words.save == 0:
            checkpoint.write_text(str(step))
        if on_step is not None:
            on_step(step)
    for actor in held:  # where the trial shares a process with others, its GPUs would stay taken
        import ray

        ray.kill(actor)


def take_gpus(count: int) -> list[Any]:
    """Take GPUs by an actor each, one half after the other; joins the cluster that runs here, if it has not yet."""
    if not count:
        return []
    import ray

    ray.init(address="auto", log_to_driver=False, ignore_reinit_error=True)
    holder = ray.remote(num_cpus=0, num_gpus=1)(type("Holder", (), {"ping": lambda self: os.getpid()}))
    held: list[Any] = []
    for half in (count // 2, count - count // 2):
        actors = [holder.remote() for _ in range(half)]
        ray.get([actor.ping.remote() for actor in actors])
        held += actors
        time.sleep(LOAD_SECONDS)
    return held


def _note(path: Path, step: int) -> None:
    with open(path, "a") as stream:
        stream.write(f"{step} {time.time():.3f} {os.getpid()}\n")


def command(mode: str, *words: str) -> list[str]:
    """The command line of a mode."""
    return [sys.executable, str(Path(__file__).absolute()), mode, *words]


def fake_command(real: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
    """A worker's command line with the fake one in place of the worker's module."""

    def changed(trial: Any) -> list[str]:
        words = real(trial)
        at = words.index("-m")
        return [*command("worker"), *words[at + 2 :]]

    return changed


def launch_of(overrides: Sequence[str], steps: int) -> Any:
    """What starts a trial that only its overrides and its steps tell from others."""
    from chord_exp.launch.launch_spec import LaunchSpec, Stage

    stages = (Stage("", steps),)
    return LaunchSpec("fake", "p", "mu", 0, "verl", "auto", False, "{}", stages, True, overrides=list(overrides))


def run(overrides: Sequence[str], run_dir: Path) -> int:
    """In place of `chord_exp.launch.run.run_experiment`: the trial, and the record that says how it ended."""
    from chord_exp.run_files import record
    from chord_exp.run_files.names import RECORD

    words = Words.read(overrides)
    running = record.RunRecord(
        name="fake",
        project="benchmark",
        variant="none",
        status=record.RUNNING,
        planned_steps=words.steps,
        completed_steps=0,
        seed=0,
        config_hash="",
        overrides=list(overrides),
        run_id="none",
        started=record.utc_now(),
    )
    running.save(run_dir / RECORD)
    work(run_dir, words)
    running.with_end(status=record.SUCCEEDED, completed_steps=words.steps).save(run_dir / RECORD)
    return 0


def main() -> int:
    """Carry out a mode; returns the exit code."""
    mode, words = sys.argv[1], sys.argv[2:]
    if mode == "work":
        Path(words[0]).mkdir(parents=True, exist_ok=True)
        return run(words[1:], Path(words[0]))
    from chord_exp.launch import run as launch_run

    if mode == "bare":
        launch_run.run_experiment = lambda launch, run_dir: run(launch.overrides, run_dir)
        from chord_exp import cli

        return cli.main(words)
    if mode == "worker":
        from chord_exp.sweep.backends import worker

        launch_run.run_experiment = lambda launch, run_dir: run(launch.overrides, run_dir)
        return worker.main(words)
    from chord_exp import cli
    from chord_exp.sweep.backends import local, ray_jobs

    local.worker_command = fake_command(local.worker_command)
    ray_jobs.worker_command = fake_command(ray_jobs.worker_command)
    return cli.main(["-m", *words])


if __name__ == "__main__":
    sys.exit(main())
