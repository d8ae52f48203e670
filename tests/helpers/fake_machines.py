"""A fake backend whose trials take simulated time: for tests of the scheduler and for measuring its decisions."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

from chord_exp.sweep.scheduling.attempt_end import AttemptEnd
from chord_exp.sweep.scheduling.backend import Exit
from chord_exp.sweep.scheduling.resources import Footprint, Node
from chord_exp.sweep.scheduling.scheduler import POLL_SECONDS, Scheduler
from chord_exp.sweep.scheduling.trial import FAILED, STOPPED, SUCCEEDED, Trial


class FakeMachines:
    """A `Backend` with a clock of its own that moves only in `wait`, straight to the next end of a trial."""

    def __init__(
        self,
        nodes: Sequence[Node],
        seconds: Callable[[Trial], float],
        exit_of: Callable[[Trial], Exit] = lambda trial: Exit(0),
    ) -> None:
        """
        Args:
            nodes: the machines.
            seconds: how long an attempt of a trial takes.
            exit_of: how an attempt ends that nobody stops.
        """
        self._nodes, self._seconds, self._exit_of = list(nodes), seconds, exit_of
        self._clock = 0.0
        self._ends: list[tuple[float, int, int]] = []
        self._running: dict[tuple[int, int], Exit] = {}
        self.external_footprints: list[Footprint] = []
        # every attempt that was started, in order: trial, attempt, time
        self.starts: list[tuple[int, int, float]] = []

    def nodes(self) -> Sequence[Node]:
        """The machines."""
        return self._nodes

    def external(self) -> Sequence[Footprint]:
        """What a test says."""
        return self.external_footprints

    def start(self, trial: Trial) -> str:
        """Begin to take time."""
        key = (trial.number, trial.attempt)
        if key in self._running:
            raise AssertionError(f"attempt {key} was started twice")
        self._running[key] = self._exit_of(trial)
        heapq.heappush(self._ends, (self._clock + self._seconds(trial), *key))
        self.starts.append((*key, self._clock))
        return f"{trial.number}-a{trial.attempt}"

    def attach(self, trial: Trial) -> bool:
        """Whether the attempt was started and its end not told."""
        return (trial.number, trial.attempt) in self._running

    def ended(self, trials: Iterable[Trial]) -> list[tuple[Trial, Exit]]:
        """Those whose time is over."""
        by_key = {(trial.number, trial.attempt): trial for trial in trials}
        over = []
        while self._ends and self._ends[0][0] <= self._clock:
            _, *numbers = heapq.heappop(self._ends)
            key = (numbers[0], numbers[1])
            if key in self._running and key in by_key:
                over.append((by_key[key], self._running.pop(key)))
        return over

    def stop(self, trial: Trial, grace: float) -> None:
        """End an attempt now; it obeys."""
        key = (trial.number, trial.attempt)
        self._running[key] = Exit(130)
        heapq.heappush(self._ends, (self._clock, *key))

    def wait(self, seconds: float) -> None:
        """Move the clock to the next end, or by so much if none is known."""
        self._clock = max(self._clock, self._ends[0][0]) if self._ends else self._clock + seconds

    def now(self) -> float:
        """The simulated time."""
        return self._clock

    def close(self) -> None:
        """Nothing to let go of."""


def run_to_end(scheduler: Scheduler, trials: Iterable[Trial], check: Callable[[], None] = lambda: None) -> None:
    """Submit trials and poll until nothing waits and nothing runs.

    Args:
        check: called after each poll.
    """
    for trial in trials:
        scheduler.submit(trial)
    while not scheduler.idle:
        scheduler.poll()
        check()
        if not scheduler.idle:
            scheduler.backend.wait(POLL_SECONDS)


def classify_by_code(trial: Trial, left: Exit) -> AttemptEnd:
    """Decide by the exit alone; simulated trials leave no files."""
    if left.fault or left.code is None:
        return AttemptEnd(FAILED, left.fault, infra_failure=True)
    state = {0: SUCCEEDED, 130: STOPPED}.get(left.code, FAILED)
    return AttemptEnd(state, f"exit code {left.code}" if state == FAILED else "")
