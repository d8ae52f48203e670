"""What the scheduler asks of a backend, which is where trials run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chord_exp.errors import ChordExpError
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.trial import Trial


@dataclass(frozen=True)
class Exit:
    """How the process of an attempt went away. What the run did is said by the files that it left."""

    # exit code; negative: the signal that ended it; None: nobody knows
    code: int | None
    # what happened to the machine or the process, where that is known; empty otherwise
    fault: str = ""
    # whether a fault is charged to the trial's retries
    charge_retry: bool = True


class ClusterLost(ChordExpError):
    """The backend itself is gone; nothing is known of the trials, and a resume must look again."""


class Backend(Protocol):
    """Where attempts of trials run, each in a process of its own.

    An attempt is known by the trial's folder and attempt number, so that another process can find it again.
    """

    def nodes(self) -> Sequence[Node]:
        """Return the machines."""

    def external(self) -> Sequence[Footprint]:
        """Return what the trials of other sweeps hold of them, or wait for."""

    def start(self, trial: Trial) -> str:
        """Start the trial's current attempt and return a handle. Must not start the same attempt twice.

        Raises:
            RunFailed: it cannot be started now; an infrastructure failure.
        """

    def attach(self, trial: Trial) -> bool:
        """Find an attempt that another process started; False if it is certain that it does not run (any more)."""

    def ended(self, trials: Iterable[Trial]) -> list[tuple[Trial, Exit]]:
        """Return those of the started or attached trials whose process is gone, each once."""

    def stop(self, trial: Trial, grace: float) -> None:
        """Ask an attempt to save and end, and end it by force after `grace` seconds. Returns at once.

        Asking again with a grace of 0 ends it now.
        """

    def wait(self, seconds: float) -> None:
        """Sleep, at most so long; shorter if a trial ends."""

    def now(self) -> float:
        """Return the time, seconds since the epoch."""

    def close(self) -> None:
        """Let go of everything that was started beside the trials."""
