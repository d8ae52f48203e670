"""Show a sweep while it goes on: a table refreshed in place on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.live import Live

from chord_exp.launch.progress import clock
from chord_exp.sweep.progress import SweepProgress
from chord_exp.sweep.scheduling.scheduler import Event, Scheduler
from chord_exp.sweep.scheduling.trial import ACTIVE, ENDED, QUEUED, STARTING
from chord_exp.sweep.show import table

# how often metrics are read, seconds
READ_SECONDS = 1.0
# without a terminal a running trial says where it is at most so often, seconds
PLAIN_SECONDS = 60.0
WIDTH = 160


def plain_console() -> Console:
    """Return a console that keeps rows whole when the output is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


class Watch(AbstractContextManager["Watch"]):
    """A `ProgressView` of a sweep."""

    def __init__(self, title: str, progress: SweepProgress, console: Console | None = None) -> None:
        """
        Args:
            progress: of all trials; those that come later are entered.
        """
        self.console = console or plain_console()
        self._title = title
        self._progress = progress
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._read = float("-inf")
        # when each running trial last said where it is
        self._said: dict[int, float] = {}

    def __enter__(self) -> Watch:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *details: Any) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, scheduler: Scheduler, events: list[Event]) -> None:
        """Show what changed."""
        for event in events:
            progress = self._progress.of(event.trial)
            if event.after in ENDED or event.after == QUEUED:
                progress.read_on()
            if not self.console.is_terminal:
                self._tell(event)
        now = time.monotonic()
        if not events and now - self._read < READ_SECONDS:
            return
        self._read = now
        for trial in scheduler.active:
            self._progress.of(trial).read_on()
        if self.console.is_terminal:
            rows = min(table.LIVE_ROWS, max(3, self.console.height - 4))
            self._live.update(table.render(self._progress.all(), self._titled(), rows), refresh=True)
        else:
            self._tell_progress(now)

    def end(self) -> None:
        """Print the closing table."""
        trials = self._progress.all()
        for progress in trials:
            progress.read_on()
        table.show_end(self.console, trials, self._titled())

    def _titled(self) -> str:
        return f"{self._title}: {table.counts(progress.trial for progress in self._progress.all()) or 'no trial yet'}"

    def _tell(self, event: Event) -> None:
        trial = event.trial
        if event.after == STARTING:
            return
        text = event.after
        if event.after == QUEUED:
            text = f"waits to be tried again: {event.error}" if event.error else "waits to go on"
        elif event.after in ENDED:
            # a trial that was put back into the queue at once has no end any more
            if trial.started is not None and trial.ended is not None:
                text += f" in {clock(trial.ended - trial.started)}"
            text += f": {event.error}" if event.error else ""
        self.say(f"{trial.name}: {text}")

    def _tell_progress(self, now: float) -> None:
        for progress in self._progress.all():
            trial = progress.trial
            said = self._said.setdefault(trial.number, now)
            if trial.state in ACTIVE and progress.state.step and now - said >= PLAIN_SECONDS:
                self._said[trial.number] = now
                self.say(f"{trial.name}: {progress.state.line()}")
