"""The scheduler of a sweep: which trials start, which are tried again, which are done. It knows no Hydra and no Ray.

`submit` trials as they come, call `poll` again and again, look at its events, `stop` what is not worth going on with;
`run_loop` does so with a table, Ctrl-C and stop requests. Every change of state is on disk before it acts on it, so
that the process may be killed at any moment and another can go on (`adopt`). To be used from one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chord_exp.errors import RunFailed
from chord_exp.sweep.scheduling.attempt_end import AttemptEnd, classify_attempt
from chord_exp.sweep.scheduling.backend import Backend, Exit
from chord_exp.sweep.scheduling.queue import BACKFILL, Queue, default_patience
from chord_exp.sweep.scheduling.resources import ResourcePool
from chord_exp.sweep.scheduling.trial import (
    ACTIVE,
    ENDED,
    FAILED,
    PRUNED,
    QUEUED,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    SUCCEEDED,
    TRIAL,
    Trial,
)

# time for a trial to finish its step and save before it is ended by force, seconds
GRACE = 120.0
POLL_SECONDS = 0.25
# machines may come and go; how often they are counted again, seconds
RECOUNT_SECONDS = 5.0
# how long machines that went away are waited for, seconds
STALL_SECONDS = 900.0
# after a start that failed nothing starts for so long, twice as long after each further one, seconds
START_BACKOFF, START_BACKOFF_MAX = 10.0, 120.0


@dataclass(frozen=True)
class Limits:
    """What the trials of a sweep may take together, and how they wait."""

    # GPUs at once; None: all there are
    max_gpus: int | None = None
    # trials at once; None: as many as fit
    max_concurrent: int | None = None
    # how often a trial is started again after a machine's fault
    retries: int = 2
    # backfill or strict
    order: str = BACKFILL
    # how many trials may start before one whose turn it is, until machines are kept for that; None: as fill them twice
    patience: int | None = None


@dataclass(frozen=True)
class Event:
    """A trial went from one state to another."""

    trial: Trial
    before: str
    after: str
    # why, where something went wrong: the trial's own error may be cleared by the next attempt
    error: str = ""


class Scheduler:
    """Starts trials when they fit, follows them to their end, and tries again what a machine's fault ended."""

    def __init__(
        self,
        backend: Backend,
        limits: Limits | None = None,
        *,
        classify: Callable[[Trial, Exit], AttemptEnd] = classify_attempt,
        save: Callable[[Trial], None] = Trial.save,
    ) -> None:
        """
        Args:
            backend: where trials run.
            classify: decides how an attempt ended.
            save: puts a trial's state where it survives this process.
        """
        self.backend = backend
        self.limits = limits or Limits()
        self._classify, self._save = classify, save
        self._queue = Queue(self.limits.order)
        self.pool = ResourcePool(backend.nodes(), self.limits.max_gpus, self.limits.max_concurrent)
        # since when trials have waited while none ran
        self._stalled_since = backend.now()
        self._count(self._stalled_since)
        # nothing starts before this time; how long the next failed start puts it off
        self._no_start_before, self._backoff = 0.0, START_BACKOFF
        self._active: dict[int, Trial] = {}
        # running trials taken over from a scheduler that is no more, and not stopped by this one
        self._adopted: set[int] = set()
        self._events: list[Event] = []

    @property
    def queued(self) -> int:
        """Trials that wait."""
        return len(self._queue)

    @property
    def active(self) -> list[Trial]:
        """Trials that have a process, by number."""
        return [self._active[number] for number in sorted(self._active)]

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not self._active and not len(self._queue)

    def submit(self, trial: Trial) -> None:
        """Let a queued trial wait for its turn.

        Raises:
            RunFailed: it could not start even with everything free.
        """
        reason = self.pool.why_unschedulable(trial.footprint)
        if reason:
            raise RunFailed(f"trial {trial.name} can never start: {reason}", str(trial.run_dir))
        self._queue.add(trial)

    def adopt(self, trials: Iterable[Trial]) -> None:
        """Take over the trials of a scheduler that is no more: go on with those that run, queue the rest.

        Succeeded and pruned trials stay as they are; so do failed ones (queue them yourself to try them again).
        """
        for trial in trials:
            if trial.state == QUEUED:
                self.submit(trial)
            elif trial.state in ACTIVE and self.backend.attach(trial):
                self.pool.adopt(trial.number, trial.footprint)
                self._active[trial.number] = trial
                self._adopted.add(trial.number)
                if trial.state == STARTING:
                    self._move(trial, RUNNING)
                elif trial.state == STOPPING:
                    # its deadline died with the process that set it
                    self.backend.stop(trial, GRACE)
            elif trial.state in ACTIVE:
                self._finish_attempt(
                    trial, self._classify(trial, Exit(None, "while nobody was watching")), charge_retry=False
                )
            if trial.state == STOPPED:
                self._requeue(trial)

    def poll(self) -> list[Event]:
        """Look once at what runs, start what may, and return what changed since the last call."""
        now = self.backend.now()
        if self._active or not len(self._queue):
            self._stalled_since = now
        for trial, left in self.backend.ended(list(self._active.values())):
            self._finish_attempt(trial, self._classify(trial, left), charge_retry=left.charge_retry)
        # whether or not trials wait: who asks for trials by what is free must not look at old numbers
        if now - self._counted >= RECOUNT_SECONDS:
            self._count(now)
        if now >= self._no_start_before:
            self._admit(now)
        if not self._active and now - self._stalled_since > STALL_SECONDS:
            self._fail_unschedulable()
        events, self._events = self._events, []
        return events

    def stop(self, trial: Trial, grace: float = GRACE, stops_as: str = STOPPED) -> None:
        """Stop a trial: one that waits at once, one that runs after its step, by force after `grace` seconds.

        Args:
            stops_as: `stopped` (a resume goes on with it) or `pruned` (it has served its purpose).
        """
        if trial.state in ENDED:
            return
        self._adopted.discard(trial.number)
        if trial.state == QUEUED:
            self._queue.remove(trial)
            trial.ended = self.backend.now()
            self._move(trial, stops_as)
            return
        if trial.state != STOPPING:
            trial.stops_as = stops_as
            self._move(trial, STOPPING)
        self.backend.stop(trial, grace)

    def stop_all(self, grace: float = GRACE) -> None:
        """Stop everything; what waits stays queued on disk, for a resume. Poll until `idle`."""
        self._queue = Queue(self.limits.order)
        for trial in self.active:
            self.stop(trial, grace)

    def _move(self, trial: Trial, state: str) -> None:
        before = trial.state
        trial.move(state)
        try:
            self._save(trial)
        except OSError as error:
            raise RunFailed(
                f"cannot write the state of trial {trial.name}: {error.strerror}",
                str(trial.run_dir / TRIAL),
                "see to the disk; then resume goes on with the sweep",
            ) from error
        self._events.append(Event(trial, before, state, trial.error))

    def _requeue(self, trial: Trial) -> None:
        self._move(trial, QUEUED)
        self._queue.add(trial)

    def _admit(self, now: float) -> None:
        """Start what fits, up to the first start that fails: what ails the machine would ail the others as well."""
        while (chosen := self._queue.pop(self.pool)) is not None:
            trial, reservation = chosen
            self.pool.take(trial.number, trial.footprint, reservation)
            self._active[trial.number] = trial
            trial.attempt += 1
            # not `now`: what made room may have ended since
            trial.started, trial.ended, trial.error = self.backend.now(), None, ""
            # on disk before the start: who goes on after a crash must know that it may run
            self._move(trial, STARTING)
            try:
                trial.handle = self.backend.start(trial)
            except RunFailed as error:
                self._no_start_before = now + self._backoff
                self._backoff = min(2 * self._backoff, START_BACKOFF_MAX)
                self._finish_attempt(trial, AttemptEnd(FAILED, str(error), infra_failure=True))
                return
            self._backoff = START_BACKOFF
            self._move(trial, RUNNING)

    def _count(self, now: float) -> None:
        """Count machines, and what other sweeps hold of them, again."""
        self._counted = now
        self.pool.resize(self.backend.nodes())
        self.pool.set_external(self.backend.external())
        patience = self.limits.patience
        self._queue.patience = default_patience(self.pool.nodes) if patience is None else patience

    def _fail_unschedulable(self) -> None:
        """Fail what waits for machines that are gone and have not come back."""
        for trial in self._queue.trials():
            reason = self.pool.why_unschedulable(trial.footprint)
            if reason:
                self._queue.remove(trial)
                trial.error = f"its machines are gone: {reason}"
                self._move(trial, FAILED)

    def _finish_attempt(self, trial: Trial, end: AttemptEnd, *, charge_retry: bool = True) -> None:
        """Try again after an attempt, or end the trial. `charge_retry`: whether a failure uses up a retry."""
        if trial.number in self._active:
            del self._active[trial.number]
            self.pool.release(trial.number)
        asked_to_stop = trial.state == STOPPING
        state = trial.stops_as if asked_to_stop and end.state != SUCCEEDED else end.state
        trial.ended, trial.error = self.backend.now(), end.error
        trial.handle = ""
        trial.history.append(
            {
                "attempt": trial.attempt,
                "started": trial.started,
                "ended": trial.ended,
                "state": state,
                "error": end.error,
            }
        )
        if state == PRUNED:
            trial.error = ""
        again = end.infra_failure and not asked_to_stop
        if again and charge_retry:
            trial.infra_failures += 1
        if again and trial.infra_failures <= self.limits.retries:
            self._requeue(trial)
            return
        self._move(trial, state)
        if state == STOPPED and trial.number in self._adopted:
            # it ended with, or because of, the process that drove it before
            self._requeue(trial)
        self._adopted.discard(trial.number)
