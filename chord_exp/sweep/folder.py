"""What a sweep leaves on disk.

SWEEP_DIR/sweep.json      what it is; written last, so that a sweep that has it has all its trials
SWEEP_DIR/sweep.lock      held by the process that drives it
SWEEP_DIR/warm_server.log what the process printed that local trials are forked from
SWEEP_DIR/stop            asks that process to stop
SWEEP_DIR/ray_head.json   the Ray head that it started, with its log beside
SWEEP_DIR/multirun.yaml   the command's configuration, as Hydra users know it
SWEEP_DIR/N_LABEL/        a run's folder, with trial.json beside the launch.json and trinity.yaml that start it
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.launch.cluster.private_ray import HEAD, HEAD_LOG
from chord_exp.sweep.scheduling.trial import TRIAL, Trial, TrialRequest
from chord_exp.utils.files import is_locked, try_lock, write_atomically

SWEEP, LOCK, STOP = "sweep.json", "sweep.lock", "stop"
MULTIRUN = "multirun.yaml"


@dataclass(frozen=True)
class SweepInfo:
    """What `sweep.json` holds: enough to go on with the sweep in another process."""

    # unique among the sweeps of a cluster
    id: str
    # ISO 8601, UTC
    created: str
    # the fields of settings.Settings
    settings: dict[str, Any]
    # "grid", or the sweeper that decides which trials come; those are resumed by their sweeper
    kind: str = "grid"
    # the command line, for people
    command: list[str] = field(default_factory=list)


class SweepFolder:
    """The folder of one sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def stop_path(self) -> Path:
        """A file that asks the driving process to stop."""
        return self.path / STOP

    def exists(self) -> bool:
        """Whether there is a sweep."""
        return (self.path / SWEEP).is_file()

    def refuse_used(self) -> None:
        """A new sweep takes no folder of another.

        Raises:
            ConfigError: it is one.
        """
        if self.exists():
            raise ConfigError(
                f"{self.path} already holds a sweep",
                "hydra.sweep.dir",
                f"go on with it by python -m chord_exp.runs resume {self.path}, or give another folder",
            )

    def add(self, request: TrialRequest) -> Trial:
        """Make the folder of a trial with everything that starting it takes.

        Raises:
            ConfigError: its folder holds something already, or cannot be written.
        """
        run_dir = request.run_dir.absolute()
        if run_dir.exists() and any(run_dir.iterdir()):
            raise ConfigError(f"{run_dir} is in use", "hydra.sweep.dir", "give another folder")
        trial = Trial(
            number=request.number,
            label=request.label,
            run_dir=run_dir,
            overrides=list(request.launch.overrides),
            footprint=request.footprint,
            stages=request.stages,
        )
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            request.launch.save(run_dir)
            trial.save()
        except OSError as error:
            raise ConfigError(
                f"cannot write to {run_dir}: {error.strerror}", "hydra.sweep.dir", "give another folder"
            ) from error
        return trial

    def begin(self, info: SweepInfo, config: str) -> None:
        """Write `sweep.json`: from now on the sweep can be resumed. To be called when its trials are there.

        Args:
            config: text of the file that Hydra leaves in a sweep's folder.
        """
        write_atomically(self.path / MULTIRUN, config)
        write_atomically(self.path / SWEEP, json.dumps(asdict(info), indent=1))

    def abandon(self) -> None:
        """Leave nothing of a sweep that was refused before it began; what is not of a sweep stays."""
        for name in (LOCK, HEAD, HEAD_LOG):
            (self.path / name).unlink(missing_ok=True)
        here = Path.cwd()
        for folder in (self.path, *self.path.parents):
            if not folder.is_relative_to(here) or folder == here:
                return
            if folder.is_dir():
                if any(folder.iterdir()):
                    return
                folder.rmdir()

    def info(self) -> SweepInfo:
        """What the sweep is.

        Raises:
            ConfigError: no sweep is here, or its file is damaged.
        """
        try:
            return SweepInfo(**json.loads((self.path / SWEEP).read_text(encoding="utf-8")))
        except FileNotFoundError:
            what = f"{self.path} holds no sweep: no {SWEEP}"
            raise ConfigError(what, "SWEEP_DIR", "give the folder below multirun/ that a sweep printed") from None
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{self.path / SWEEP} is damaged: {error}", "SWEEP_DIR") from error

    def trials(self) -> list[Trial]:
        """All trials, by number.

        Raises:
            ChordExpError: the file of one is damaged.
        """
        found = [Trial.load(path.parent) for path in self.path.glob(f"*/{TRIAL}")]
        return sorted(found, key=lambda trial: trial.number)

    def driver(self) -> int | None:
        """Process that drives the sweep now; None if there is none."""
        if not is_locked(self.path / LOCK):
            return None
        text = (self.path / LOCK).read_text().strip()
        return int(text) if text.isdigit() else -1

    @contextmanager
    def hold_lock(self) -> Iterator[None]:
        """Be the one process that drives the sweep; the system lets go of this when the process dies.

        Raises:
            ConfigError: another process does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = try_lock(self.path / LOCK, str(os.getpid()))
        if lock is None:
            raise ConfigError(
                f"{self.path} is being run by process {self.driver()}",
                "SWEEP_DIR",
                f"look at it with python -m chord_exp.runs show {self.path}",
            )
        with lock:
            # an old request to stop is not meant for this process
            self.stop_path.unlink(missing_ok=True)
            yield
