"""Metrics to a tracker from a thread of its own: whatever happens to the tracker, training does not wait for it.

Trackers block when their network does: at the start for a server's answer, at the end until everything is uploaded.
Here all of it happens in one daemon thread behind a bounded queue; giving numbers costs microseconds, and closing has a
deadline.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# rows that wait while a tracker is slow; more are left out there, metrics.jsonl has them all
QUEUE_ROWS = 10_000
# how long `close` waits in all; below the launcher's patience with actors that shut down, seconds
CLOSE_SECONDS = 20


class TrackerWriter:
    """One run at a tracker; a subclass says how it is started, told and ended, each called in the thread.

    Args:
        folder: of the run; what the tracker keeps goes below it.
        name: of the run for a reader, without stage and role.
        stage: of a staged run, else empty; each stage is a run of its own there.
        role: explorer or trainer.
        given: `mode` (online or offline), `group`, `tags` and `config`, as `trinity_config.tracker_config` makes them.
    """

    # what a reader calls it
    title = ""

    def __init__(self, folder: Path, project: str, name: str, stage: str, role: str, given: Mapping[str, Any]) -> None:
        self._folder, self._project, self._name, self._stage, self._role = folder, project, name, stage, role
        self._given = given
        # rows, then None for the end
        self._rows: queue.Queue[dict[str, Any] | None] = queue.Queue(QUEUE_ROWS)
        self._lost = 0
        self._done = False
        self._thread = threading.Thread(target=self._work, name=f"{self.title}-{role}", daemon=True)
        self._thread.start()

    @classmethod
    def is_forbidden(cls) -> bool:
        """Return whether the environment turns the tracker off."""
        return False

    def _start(self) -> Any:
        """Start the run and return it."""
        raise NotImplementedError

    def _log(self, run: Any, row: dict[str, Any]) -> None:
        """Hand over one row: `step`, and the numbers by name."""
        raise NotImplementedError

    def _finish(self, run: Any) -> None:
        """End the run; everything is on disk or uploaded when this returns."""
        raise NotImplementedError

    def _gave_up(self) -> None:
        """Note that the tracker does not have everything."""

    def _release(self) -> None:
        """Let go of what the tracker holds in this process, whether it ended well or not."""

    @property
    def _shown_name(self) -> str:
        return "-".join(filter(None, (self._name, self._stage, self._role)))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Hand over the numbers of a step; returns at once, and raises nothing."""
        if self._done:
            return
        try:
            self._rows.put_nowait({"step": step, **numbers})
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Let the tracker finish, but not for ever."""
        if self._rows.full():  # the end needs the place more than one row does
            with suppress(queue.Empty):
                self._rows.get_nowait()
                self._lost += 1
        self._rows.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._lost:
            log.warning("%s was too slow for %d rows of %s; metrics.jsonl has them", self.title, self._lost, self._role)
        if not self._done:
            log.warning("%s did not finish in %d s for %s", self.title, CLOSE_SECONDS, self._role)
            self._gave_up()

    def _work(self) -> None:
        try:
            run = self._start()
            while (row := self._rows.get()) is not None:
                self._log(run, row)
            self._finish(run)
        except Exception as error:  # trackers raise many kinds; training is worth more than any of them
            log.warning(
                "%s stopped recording %s, metrics.jsonl still records everything: %s", self.title, self._role, error
            )
            self._gave_up()
        self._done = True
        self._release()
