"""Start sweeps of fake trials, hurt them, and look at what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from chord_exp.sweep.backends import worker
from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.scheduling.trial import Trial

SCRIPT = str(Path(__file__).with_name("fake_sweep.py"))
TIMEOUT = 900


def worker_of(run_dir: Path) -> psutil.Process:
    """The process of a trial that runs."""
    (found,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(run_dir) in (words := process.info["cmdline"] or []) and "--attempt" in words
    ]
    return found


class Sweep:
    """One sweep folder and the process that drives it."""

    def __init__(self, folder: Path, settings: dict | None = None) -> None:
        self.folder = SweepFolder(folder)
        self.settings = settings or {}
        self.process: subprocess.Popen[str] | None = None
        self.killed = False

    def start(self, *trials: dict) -> Sweep:
        """Start a sweep of fake trials."""
        return self._launch("start", json.dumps({"settings": self.settings, "trials": trials}))

    def resume(self) -> Sweep:
        """Go on with it in another process."""
        return self._launch("resume", "{}")

    def _launch(self, action: str, text: str) -> Sweep:
        self.killed = False
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, str(self.folder.path), action, text],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )
        return self

    def wait(self) -> tuple[int, str]:
        """Wait for the driving process; returns its exit code and what it printed."""
        assert self.process is not None
        output, _ = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, output

    def kill(self) -> None:
        """SIGKILL the driving process, and nothing else."""
        assert self.process is not None
        self.killed = True
        self.process.kill()
        self.process.communicate(timeout=TIMEOUT)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to come true."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if self.process is not None and self.process.poll() is not None and not self.killed and not condition():
                raise AssertionError(f"it ended before that: {self.wait()[1]}")
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.05)

    @property
    def trials(self) -> list[Trial]:
        """All trials as they are on disk."""
        return self.folder.trials()

    @property
    def states(self) -> list[str]:
        """Their states."""
        return [trial.state for trial in self.trials]

    def trial(self, number: int) -> Trial:
        """One trial as it is on disk."""
        return next(trial for trial in self.trials if trial.number == number)

    def steps(self, number: int) -> list[int]:
        """The steps that a trial made, in order, all attempts."""
        found = list(self.folder.path.glob(f"{number}_*/metrics.jsonl"))
        return [json.loads(line)["step"] for path in found for line in path.read_text().splitlines()]

    def starts(self, number: int) -> list[tuple[int, int]]:
        """Each start of a trial: attempt, and the step that it went on from."""
        found = list(self.folder.path.glob(f"{number}_*/starts.txt"))
        lines = [line.split() for path in found for line in path.read_text().splitlines()]
        return [(int(attempt), int(step)) for attempt, step in lines]

    def is_alive(self, number: int) -> bool:
        """Whether a worker holds a trial's folder."""
        return worker.is_alive(self.trial(number).run_dir)

    def end(self) -> None:
        """Whatever the test did, nothing stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
