"""Metrics to SwanLab."""

from __future__ import annotations

import logging
import os
from typing import Any, Literal

from chord_exp.plugins.trackers.writer import TrackerWriter
from chord_exp.run_files.tracker_sync import SWANLAB_FOLDER

log = logging.getLogger(__name__)


class SwanlabWriter(TrackerWriter):
    """One SwanLab run: online where a key is configured, else below `swanlab/` in the run's folder for its sync."""

    title = "SwanLab"

    @classmethod
    def is_forbidden(cls) -> bool:
        """Return whether the environment turns SwanLab off; it has the last word."""
        return os.environ.get("SWANLAB_MODE") == "disabled"

    def _start(self) -> Any:
        import swanlab

        wanted = self._given["mode"] == "online" and os.environ.get("SWANLAB_MODE") not in ("offline", "local")
        if wanted and swanlab.Settings(interactive=False).api_key:
            try:
                return self._init("online")
            except Exception as error:
                log.warning("SwanLab does not answer, %s is kept for `swanlab sync`: %s", self._role, error)
        return self._init("offline")

    def _init(self, mode: Literal["online", "offline"]) -> Any:
        import swanlab

        folder = self._folder / SWANLAB_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        # nothing beyond the numbers: what is printed may quote prompts, a command line or a git remote may hold a token
        settings = swanlab.Settings(
            interactive=False,
            terminal=swanlab.Settings.Terminal(proxy_type="none"),
            probe=swanlab.Settings.Probe(monitor=False, hardware=False, runtime=False, git=False, requirements=False),
        )
        return swanlab.init(
            reinit=True,
            log_dir=str(folder),
            mode=mode,
            project=self._project,
            name=self._shown_name,
            job_type=self._role,
            group=self._given["group"],
            tags=list(self._given["tags"]),
            config=dict(self._given["config"]),
            settings=settings,
        )

    def _log(self, run: Any, row: dict[str, Any]) -> None:
        step = row.pop("step")
        run.log(row, step=step)

    def _finish(self, run: Any) -> None:
        run.finish()
