"""Trackers that people look at metrics with, by the words of `monitor.tracker`."""

from __future__ import annotations

import importlib

from chord_exp.plugins.trackers.writer import TrackerWriter

_WRITERS = {"wandb": "WandbWriter", "swanlab": "SwanlabWriter", "mlflow": "MlflowWriter", "trackio": "TrackioWriter"}


def writer_class(tracker: str) -> type[TrackerWriter]:
    """Return the writer of a tracker; each imports its library in its own thread only."""
    module = importlib.import_module(f"{__name__}.{tracker}")
    found: type[TrackerWriter] = getattr(module, _WRITERS[tracker])
    return found
