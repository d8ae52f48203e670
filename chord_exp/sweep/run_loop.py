"""The loop that launchers, sweepers and `resume` share: schedule, show, obey Ctrl-C and requests to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chord_exp.sweep.folder import SweepFolder
from chord_exp.sweep.scheduling.scheduler import GRACE, POLL_SECONDS, Event, Scheduler
from chord_exp.utils.signals import collect_stop_signals


class ProgressView(Protocol):
    """Shows a sweep to a person."""

    def update(self, scheduler: Scheduler, events: list[Event]) -> None:
        """Something may have changed."""

    def say(self, text: str) -> None:
        """Print a line."""


def run_loop(
    scheduler: Scheduler,
    folder: SweepFolder,
    view: ProgressView,
    each: Callable[[list[Event]], bool] | None = None,
) -> bool:
    """Run until nothing waits and nothing runs; the caller holds `folder.hold_lock()`.

    Args:
        each: called after every poll with what changed; may submit and stop trials; returns whether more trials may
            still come. Not called any more once the sweep is being stopped.

    Returns:
        Whether the sweep was stopped before its end (Ctrl-C, SIGTERM, a closed terminal, `runs stop`).
    """
    stopping = False
    with collect_stop_signals() as received:
        while True:
            events = scheduler.poll()
            more = each(events) if each is not None and not stopping else False
            view.update(scheduler, events)
            if scheduler.idle and not more:
                return stopping
            if (received or folder.stop_path.exists()) and not stopping:
                stopping = True
                view.say("stopping: each trial finishes its step and saves; press Ctrl-C again to stop at once")
                scheduler.stop_all(GRACE)
            if len(received) > 1:
                del received[1:]
                scheduler.stop_all(0)
            scheduler.backend.wait(POLL_SECONDS)
