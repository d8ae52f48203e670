"""One trial of a sweep: what it is, where it stands, and its file `trial.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chord_exp.errors import ChordExpError
from chord_exp.launch.launch_spec import LaunchSpec
from chord_exp.sweep.scheduling.resources import Footprint
from chord_exp.utils.files import write_atomically

TRIAL = "trial.json"

QUEUED, STARTING, RUNNING, STOPPING = "queued", "starting", "running", "stopping"
SUCCEEDED, FAILED, STOPPED, PRUNED = "succeeded", "failed", "stopped", "pruned"
# states in which a process or a job may exist
ACTIVE = frozenset({STARTING, RUNNING, STOPPING})
ENDED = frozenset({SUCCEEDED, FAILED, STOPPED, PRUNED})
# from each state, the states that may follow; an ended trial is queued again only by a resume
MOVES: Mapping[str, frozenset[str]] = {
    QUEUED: frozenset({STARTING, STOPPED, PRUNED, FAILED}),
    STARTING: frozenset({RUNNING, STOPPING, QUEUED, *ENDED}),
    RUNNING: frozenset({STOPPING, QUEUED, *ENDED}),
    STOPPING: ENDED,
    STOPPED: frozenset({QUEUED}),
    FAILED: frozenset({QUEUED}),
    SUCCEEDED: frozenset(),
    PRUNED: frozenset(),
}


@dataclass(frozen=True)
class TrialRequest:
    """A trial that was asked for; `SweepFolder.add` makes a `Trial` of it."""

    # place in the sweep, from 0
    number: int
    # what sets it apart, fit for a file name: mu_peak=0.2
    label: str
    # its folder, directly below the sweep's
    run_dir: Path
    footprint: Footprint
    # everything that starting it takes
    launch: LaunchSpec

    @property
    def stages(self) -> dict[str, int]:
        """Planned steps of each of its stages, by the name that metrics carry; one of an empty name where there is
        only one."""
        return {stage.name: stage.planned_steps for stage in self.launch.stages}


@dataclass
class Trial:
    """A trial on disk and in the scheduler's hands. Times are seconds since the epoch."""

    number: int
    label: str
    run_dir: Path
    overrides: list[str]
    footprint: Footprint
    # planned steps of each of its stages
    stages: dict[str, int]
    state: str = QUEUED
    # starts so far: 0 before the first
    attempt: int = 0
    # how often an infrastructure failure ended it; what retries are counted by
    infra_failures: int = 0
    # what the backend needs to find a running attempt again
    handle: str = ""
    # one line on why it did not succeed
    error: str = ""
    started: float | None = None
    ended: float | None = None
    # the state that a stopping trial will end in
    stops_as: str = STOPPED
    # one entry a finished attempt: number, times, how it ended
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of its folder, which is what people call it."""
        return self.run_dir.name

    @property
    def planned_steps(self) -> int:
        """Steps of all stages together."""
        return sum(self.stages.values())

    def move(self, state: str) -> None:
        """Go to another state.

        Raises:
            ValueError: it cannot follow.
        """
        if state not in MOVES[self.state]:
            raise ValueError(f"trial {self.name} cannot go from {self.state} to {state}")
        self.state = state

    def save(self) -> None:
        """Write `trial.json` whole or not at all."""
        values = asdict(self)
        del values["run_dir"]  # it is where the file lies
        write_atomically(self.run_dir / TRIAL, json.dumps(values, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, run_dir: Path) -> Trial:
        """Read the `trial.json` of a folder.

        Raises:
            ChordExpError: it is damaged, or there is none.
        """
        try:
            values = json.loads((run_dir / TRIAL).read_text(encoding="utf-8"))
            values["footprint"] = Footprint(**values["footprint"])
            return cls(run_dir=run_dir.absolute(), **values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ChordExpError(f"cannot read the trial: {error}", str(run_dir / TRIAL)) from error
