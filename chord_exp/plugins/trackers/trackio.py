"""Metrics to Trackio."""

from __future__ import annotations

import os
from typing import Any

from chord_exp.plugins.trackers.writer import TrackerWriter

# variables that have Trackio send what is logged
SERVERS = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class TrackioWriter(TrackerWriter):
    """One Trackio run, in Trackio's own database on this machine (TRACKIO_DIR), for `trackio show`.

    With mode=online also wherever TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says.
    """

    title = "Trackio"

    def _start(self) -> Any:
        import trackio

        named = [name for name in SERVERS if os.environ.get(name)]
        if self._given["mode"] == "offline" and named:
            raise RuntimeError(f"monitor.mode=offline, and {named[0]} names a server")
        return trackio.init(
            project=self._project,
            name=self._shown_name,
            group=self._given["group"],
            config={**self._given["config"], "tags": self._given["tags"], "role": self._role},
            resume="allow",
            embed=False,
            # of the machine, not of the experiment
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def _log(self, run: Any, row: dict[str, Any]) -> None:
        step = row.pop("step")
        run.log(row, step=step)

    def _finish(self, run: Any) -> None:
        run.finish()
