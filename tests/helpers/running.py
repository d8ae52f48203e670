"""Start real runs by the command line, look at them, and hurt them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from chord_exp.launch import processes
from chord_exp.launch.run_request import read_phase
from chord_exp.run_files import metrics

# prepared data, named by what is in it, for the runs of all workers
PREPARED: Path | None = None
# a quarter of an hour: only a hang takes it, even on a busy machine
TIMEOUT = 900
# of the run that many tests look at; enough to be stopped in the middle
FINISHED_STEPS = 12
# few and small steps; what they learn is the business of another test
SMALL = ["data.eval_rows=8", "batch_size=2", "repeat_times=4", "expert_data_ratio=0.33", "cluster.save_interval=2"]


@dataclass
class Run:
    """One started run."""

    folder: Path
    process: subprocess.Popen[str]

    def wait(self) -> str:
        """Wait for the end; returns everything printed."""
        output, _ = self.process.communicate(timeout=TIMEOUT)
        return output

    def wait_for_step(self, step: int) -> None:
        """Wait until the trainer has logged a step of this attempt."""
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            if any(row["step"] >= step and row["source"] == "trainer" for row in self.rows):
                return
            time.sleep(0.05)
        raise AssertionError(f"step {step} was never logged; {self.process.poll()=}")

    def wait_for_file(self, pattern: str) -> Path:
        """Wait until a file or folder appears below the run's folder."""
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            if found := sorted(self.folder.glob(pattern)):
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(f"{pattern} never appeared; {self.process.poll()=}")

    def wait_for_phase(self, phase: str) -> None:
        """Wait until the run says that it is doing something."""
        deadline = time.monotonic() + TIMEOUT
        while read_phase(self.folder) != phase:
            assert self.process.poll() is None and time.monotonic() < deadline, read_phase(self.folder)
            time.sleep(0.05)

    @property
    def record(self) -> dict:
        """`run.json`."""
        return json.loads((self.folder / "run.json").read_text())

    @property
    def rows(self) -> list[metrics.Row]:
        """The metrics so far."""
        return metrics.read(self.folder / "metrics.jsonl")

    def series(self, key: str) -> dict[int, float]:
        """One metric by step."""
        return metrics.series(self.rows, key)

    def processes(self) -> list[psutil.Process]:
        """Living processes of any attempt in this folder."""
        return processes.of_run(self.record["run_id"])

    def find(self, title: str) -> list[psutil.Process]:
        """The processes whose command line shows `title` (Ray writes the actor's class there)."""
        found = [process for process in self.processes() if title in " ".join(process.cmdline())]
        assert found, f"no process shows {title!r}: {[' '.join(p.cmdline())[:80] for p in self.processes()]}"
        return found

    def kill(self, title: str) -> None:
        """SIGKILL the processes of a title."""
        for process in self.find(title):
            process.kill()

    def weights(self, step: int) -> Path:
        """The weights of a checkpoint."""
        (file,) = self.folder.glob(f"checkpoints/*/*/global_step_{step}/actor/huggingface/model.safetensors")
        return file


def start(folder: Path, *overrides: str, env: dict[str, str] | None = None) -> Run:
    """Start `python -m chord_exp` with a small experiment in a folder; it works beside that folder."""
    share_prepared(folder.parent)
    command = [sys.executable, "-m", "chord_exp", *SMALL, *overrides, f"hydra.run.dir={folder}"]
    process = subprocess.Popen(
        command,
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
        start_new_session=True,
    )
    return Run(folder, process)


def prepare_once(base: Path) -> None:
    """Have the runs of all workers of pytest-xdist use one folder of prepared data.

    Args:
        base: folder of this worker's temporary files.
    """
    global PREPARED
    PREPARED = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "prepared"
    PREPARED.mkdir(exist_ok=True)


def share_prepared(place: Path) -> None:
    """Let runs that work in a folder use the data that others have prepared."""
    outputs = place / "outputs"
    outputs.mkdir(parents=True, exist_ok=True)
    if PREPARED is not None and not (outputs / "prepared").exists():
        (outputs / "prepared").symlink_to(PREPARED)


def finish(folder: Path, *overrides: str, env: dict[str, str] | None = None) -> tuple[Run, str]:
    """Run to the end; returns the run and what it printed."""
    run = start(folder, *overrides, env=env)
    return run, run.wait()


def check_resumes(run: Run, *overrides: str, env: dict[str, str] | None = None) -> Run:
    """Resume a run of FINISHED_STEPS steps, which must then have made every step; returns it."""
    again, output = finish(run.folder, f"total_steps={FINISHED_STEPS}", "resume=true", *overrides, env=env)
    assert again.process.returncode == 0, output
    assert again.record["status"] == "succeeded"
    assert again.record["attempt"] > 1
    assert sorted(again.series("actor/mu")) == list(range(1, FINISHED_STEPS + 1))
    return again


@contextmanager
def ended_at_exit(run: Run) -> Iterator[Run]:
    """Whatever the test does, nothing of the run stays alive."""
    try:
        yield run
    finally:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()
        for process in run.processes() if (run.folder / "run.json").exists() else []:
            process.kill()
