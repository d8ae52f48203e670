"""A fake of the experiment of a trial, run by the real worker: `fake_trial.py RUN_DIR --attempt N ...`.

It trains nothing. It makes steps with metrics and checkpoints of its own and leaves a `run.json`, and hurts itself
where its overrides say so. `gate=FILE` keeps it before its last step until the file is there or it is stopped,
`deaf=FILE` inside a step until the file is there, stopped or not. Each start is one line of `starts.txt`: the attempt
and the step that it goes on from.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.run_files import record
from chord_exp.run_files.names import METRICS, RECORD
from chord_exp.sweep.backends import worker
from chord_exp.utils.files import write_atomically


def run(run_dir: Path) -> tuple[int, str]:
    """Make `steps` steps of `seconds` each from the last checkpoint; obeys SIGTERM after the step."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    path = run_dir / RECORD
    before = record.RunRecord.load(path) if path.exists() else None
    if before is not None and before.status == record.SUCCEEDED:
        return 0, ""
    words = dict(word.split("=", 1) for word in LaunchSpec.load(run_dir).overrides)
    steps, seconds, save_every = int(words["steps"]), float(words["seconds"]), int(words.get("save", 1))
    checkpoint = run_dir / "checkpoint.txt"
    done = int(checkpoint.read_text()) if checkpoint.exists() else 0
    attempt = before.attempt + 1 if before is not None else 1
    with open(run_dir / "starts.txt", "a") as stream:
        stream.write(f"{attempt} {done}\n")
    if words.get("refused"):
        return 2, "refused is not known [refused] -> leave it out"
    running = record.RunRecord(
        name="fake",
        project="p",
        variant="mu",
        status=record.RUNNING,
        planned_steps=steps,
        completed_steps=done,
        seed=0,
        config_hash="",
        overrides=[],
        run_id="none",
        started=record.utc_now(),
        attempt=attempt,
    )
    running.save(path)
    held = take_gpus(int(words["gpus"])) if "gpus" in words else []

    def end(status: str, code: int, error: record.RunError | None = None) -> tuple[int, str]:
        running.with_end(status=status, completed_steps=done, error=error).save(path)
        return code, ""

    while done < steps:
        time.sleep(seconds)
        while "deaf" in words and not Path(words["deaf"]).exists():
            time.sleep(0.02)
        while "gate" in words and done == steps - 1 and not stopped and not Path(words["gate"]).exists():
            time.sleep(0.02)
        done += 1
        value = float(words.get("value", 0)) + done / 100
        row = {"step": done, "source": "trainer", "actor/mu": 0.5, "rollout/accuracy/mean": value}
        with open(run_dir / METRICS, "a") as stream:
            stream.write(json.dumps(row) + "\n")
        if done % save_every == 0:
            write_atomically(checkpoint, str(done))
        if done == int(words.get("die_at", 0)) and attempt <= int(words.get("dies", 1)):
            os.kill(os.getpid(), signal.SIGKILL)
        if done == int(words.get("lose_actor_at", 0)) and attempt == 1:
            return end(record.FAILED, 1, lose_actor())
        if done == int(words.get("fail_at", 0)):
            return end(record.FAILED, 1, record.RunError("actor/loss is not finite"))
        if stopped:
            write_atomically(checkpoint, str(done))
            return end(record.STOPPED, 130)
    del held
    return end(record.SUCCEEDED, 0)


def take_gpus(count: int) -> list:
    """Take GPUs of the cluster in two halves, as engines and then a trainer do: two such trials can deadlock."""
    import ray

    ray.init(address="auto", log_to_driver=False)
    holder = ray.remote(num_cpus=0, num_gpus=1)(type("Holder", (), {"ping": lambda self: os.getpid()}))
    held: list = []
    for half in (count // 2, count - count // 2):
        actors = [holder.remote() for _ in range(half)]
        ray.get([actor.ping.remote() for actor in actors])
        held += actors
        time.sleep(0.5)
    return held


def lose_actor() -> record.RunError:
    """Have a worker of Ray's killed, and say what Ray says."""
    import ray

    ray.init(address="auto", log_to_driver=False, ignore_reinit_error=True)
    holder = ray.remote(num_cpus=0)(type("Worker", (), {"pid": lambda self: os.getpid(), "ping": lambda self: 1}))
    actor = holder.remote()
    os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
    try:
        ray.get(actor.ping.remote())
    except ray.exceptions.RayError as error:
        return record.RunError(f"{type(error).__name__}: the Worker process died")
    raise AssertionError("a killed actor answered")


if __name__ == "__main__":
    worker._attempt = run
    sys.exit(worker.main())
