"""Shows a sweep while it goes on: a table refreshed in place on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.live import Live

from chord_exp.launch.progress import clock
from chord_exp.sweep.scheduling.scheduler import Event, Scheduler
from chord_exp.sweep.scheduling.trial import ACTIVE, ENDED, QUEUED, STARTING, Trial
from chord_exp.sweep.show import table

# how often metrics are read, seconds
READ_SECONDS = 1.0
# without a terminal a running trial says where it is at most so often, seconds
PLAIN_SECONDS = 60.0
WIDTH = 160


def plain_console() -> Console:
    """A console that keeps rows whole when the output is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


class Watch(AbstractContextManager["Watch"]):
    """A `drive.View` of a sweep."""

    def __init__(self, title: str, trials: Sequence[Trial], console: Console | None = None) -> None:
        self.console = console or plain_console()
        self._title = title
        self._courses = {trial.number: table.Course(trial) for trial in trials}
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

    @property
    def courses(self) -> list[table.Course]:
        """All trials with what their metrics say, by number."""
        return [self._courses[number] for number in sorted(self._courses)]

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, scheduler: Scheduler, events: list[Event]) -> None:
        """Show what changed."""
        for event in events:
            self._courses.setdefault(event.trial.number, table.Course(event.trial))
            if event.after in ENDED or event.after == QUEUED:
                self._courses[event.trial.number].read_on()
            if not self.console.is_terminal:
                self._tell(event)
        now = time.monotonic()
        if not events and now - self._read < READ_SECONDS:
            return
        self._read = now
        for trial in scheduler.active:
            self._courses.setdefault(trial.number, table.Course(trial)).read_on()
        if self.console.is_terminal:
            courses = self.courses
            title = f"{self._title}: {table.counts(course.trial for course in courses)}"
            rows = min(table.LIVE_ROWS, max(3, self.console.height - 4))
            self._live.update(table.render(courses, title, rows), refresh=True)
        else:
            self._tell_progress(now)

    def end(self) -> None:
        """Print the closing table."""
        courses = self.courses
        for course in courses:
            course.read_on()
        title = f"{self._title}: {table.counts(course.trial for course in courses)}"
        table.show_end(self.console, courses, title)

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
        for number, course in self._courses.items():
            said = self._said.setdefault(number, now)
            if course.trial.state in ACTIVE and course.state.step and now - said >= PLAIN_SECONDS:
                self._said[number] = now
                self.say(f"{course.trial.name}: {course.state.line()}")
