"""Which checkpoints of a run are kept: the newest, and beside them the best by held-out score.

The trainer saves and keeps all; the run's process drops what is neither. So the same rule holds for every trainer.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from chord_exp.run_files import metrics
from chord_exp.run_files.checkpoints import latest_step, saved_steps, step_dir


def to_keep(saved: Sequence[int], scores: Mapping[int, float], newest: int, best: int) -> set[int]:
    """Return the steps whose checkpoints stay.

    Args:
        saved: steps that have one, ascending.
        scores: of the steps that were evaluated; of equal ones the earlier step is the better.
        newest: checkpoints to keep whatever they score; 0 keeps all.
        best: checkpoints to keep for their score.
    """
    if newest == 0:
        return set(saved)
    ranked = sorted((step for step in saved if step in scores), key=lambda step: (-scores[step], step))
    return {*saved[-newest:], *ranked[:best]}


class Keeper:
    """Drops the checkpoints of one stage that are neither new nor good."""

    def __init__(self, job_dir: Path, metrics_file: Path, stage: str, newest: int, best: int) -> None:
        """
        Args:
            job_dir: where the stage's checkpoints lie.
            stage: its name, empty where there is only one.
            newest, best: see `to_keep`; with no best the trainer drops the old ones by itself, and nothing is done.
        """
        self._job_dir, self._metrics, self._stage = job_dir, metrics_file, stage
        self._newest, self._best = newest, best
        self._seen = 0

    def look(self) -> None:
        """Drop what a new checkpoint makes superfluous; cheap where there is none."""
        if self._best and (latest := latest_step(self._job_dir)) != self._seen:
            self._seen = latest
            self.drop()

    def drop(self) -> None:
        """Drop what is superfluous now. A checkpoint that is being written is left alone."""
        if not self._best:
            return
        rows = [row for row in metrics.read(self._metrics) if row.get("stage", "") == self._stage]
        latest = latest_step(self._job_dir)
        saved = [step for step in saved_steps(self._job_dir) if step <= latest]
        for step in set(saved) - to_keep(saved, metrics.held_out_scores(rows), self._newest, self._best):
            shutil.rmtree(step_dir(self._job_dir, step), ignore_errors=True)
