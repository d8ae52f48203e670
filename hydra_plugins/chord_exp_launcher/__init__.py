"""Hydra's launchers `local` and `ray`: they compose all jobs of a sweep and hand them to `chord_exp.sweep`."""

# Hydra reads the annotations of plug-ins: no `from __future__ import annotations` here
from typing import Any, Optional, Sequence  # noqa: UP035

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ChordLauncher(Launcher):
    """Runs each job of a sweep as a trial in its own process; the keys of `hydra.launcher` are its settings."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.config: Optional[DictConfig] = None  # noqa: UP045
        self.hydra_context: Optional[HydraContext] = None  # noqa: UP045

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over; the task function runs in the trial's own process instead."""
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; returns when all have ended."""
        from chord_exp.sweep.hydra_launcher.jobs import launch

        assert self.config is not None and self.hydra_context is not None
        loader = self.hydra_context.config_loader
        return launch(self.config, loader, self.settings, [list(job) for job in job_overrides], initial_job_idx)
