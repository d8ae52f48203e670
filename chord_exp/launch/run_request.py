"""What the process of a run is told by the process that starts it, and what it answers: two small JSON files."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from chord_exp.run_files.names import LOGS
from chord_exp.utils.files import write_atomically


@dataclass(frozen=True)
class RunRequest:
    """How to run the `trinity.yaml` beside it."""

    # "local": the local engine on a private Ray; "verl": Trinity's own engines on GPUs
    engine: str
    # a running cluster's address, "auto" for the one of this machine, "local" for a private Ray
    ray_address: str
    # unique to this attempt: Trinity's synchroniser is a detached actor that a retry must not meet
    namespace: str
    resume: bool
    # Ray's own files and all temporary ones: a short path, since Ray's sockets live there
    ray_dir: str
    # number of the process that watches the run and tidies up after it
    watcher: int
    # checkpoints to keep: the newest, and the best by held-out score; without these the trainer drops old ones itself
    keep_newest: int = 0
    keep_best: int = 0
    # train nothing: have the checkpoints of these steps answer the task sets; 0 is the model that was not trained
    score_steps: list[int] | None = None

    @staticmethod
    def path(run_dir: Path) -> Path:
        """Return where the request lies in a run's folder."""
        return run_dir / LOGS / "request.json"

    def save(self, run_dir: Path) -> None:
        """Write the request into the run's folder."""
        self.path(run_dir).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, run_dir: Path) -> RunRequest:
        """Read the request of a run's folder."""
        return cls(**json.loads(cls.path(run_dir).read_text()))


# what checkpoints answered, an object a line, in the folder of an evaluation
ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What the run's process itself knows about its end."""

    # "finished", "stopped" or "failed"
    ended: str
    # updates made in the last stage, None if training never began
    completed_steps: int | None = None
    # the stage it came to, empty where there is only one
    stage: str = ""
    # exception type and first line of its message
    error: str = ""
    # where the traceback is
    log: str = ""

    @staticmethod
    def path(run_dir: Path) -> Path:
        """Return where the outcome lies in a run's folder."""
        return run_dir / LOGS / "outcome.json"

    def save(self, run_dir: Path) -> None:
        """Write the outcome whole or not at all."""
        write_atomically(self.path(run_dir), json.dumps(asdict(self)))

    @classmethod
    def load(cls, run_dir: Path) -> Outcome | None:
        """Read the outcome; None if the process died before it could write one."""
        try:
            return cls(**json.loads(cls.path(run_dir).read_text()))
        except (OSError, ValueError, TypeError):
            return None


def phase_path(run_dir: Path) -> Path:
    """Return the one-line file that says what the run is doing before its first metric."""
    return run_dir / LOGS / "phase.txt"


def announce(run_dir: Path, phase: str) -> None:
    """Say what the run is doing now."""
    # a full disk is reported by whoever needs it to work
    with suppress(OSError):
        write_atomically(phase_path(run_dir), phase)


def read_phase(run_dir: Path) -> str:
    """Return what the run said last that it is doing."""
    try:
        return phase_path(run_dir).read_text() or "starting"
    except OSError:
        return "starting"
