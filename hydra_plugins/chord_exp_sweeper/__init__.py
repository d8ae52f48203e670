"""Hydra's sweepers: `basic`, and `optuna`, which hands the space and the command line to `chord_exp.sweep.tune`."""

# Hydra reads the annotations of plug-ins: no `from __future__ import annotations` here
from typing import Any, List, Optional, Sequence  # noqa: UP035

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper without its composing of every job beforehand: the launchers do that, and check them too."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """See `chord_exp.sweep.hydra_launcher.jobs.launch`."""


class OptunaSweeper(Sweeper):
    """Tunes: each point is a trial in its own process; the keys of `hydra.sweeper` are its settings."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.config: Optional[DictConfig] = None  # noqa: UP045
        self.hydra_context: Optional[HydraContext] = None  # noqa: UP045

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over; the task function runs in the trial's own process instead."""
        self.config, self.hydra_context = config, hydra_context

    def sweep(self, arguments: List[str]) -> None:  # noqa: UP006
        """Run the sweep to its end.

        Raises:
            SystemExit: with its exit code, unless that is 0.
        """
        from chord_exp.sweep.tune.sweeper import tune

        assert self.config is not None and self.hydra_context is not None
        code = tune(self.config, self.hydra_context.config_loader, self.settings, arguments)
        if code:
            raise SystemExit(code)
