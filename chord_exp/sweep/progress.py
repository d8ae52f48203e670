"""What the metrics of a sweep's trials say so far; each file is read once, as it grows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

from chord_exp.launch.progress import State
from chord_exp.launch.run_request import read_phase
from chord_exp.run_files import metrics
from chord_exp.run_files.names import METRICS
from chord_exp.sweep.scheduling.trial import ACTIVE, Trial

# trials are compared by the first of these that any of them has
OBJECTIVES = (metrics.ACCURACY, metrics.REWARD, "actor/loss")


class TrialProgress:
    """What a trial's metrics say so far.

    Steps of a later stage count on from the earlier ones. Values of step 0 are left out: they say what the base model
    is worth, the same for every trial.
    """

    def __init__(self, trial: Trial, followed: Sequence[str] = ()) -> None:
        """
        Args:
            followed: metrics of which every value is kept.
        """
        self.trial = trial
        self.state = State(dict(trial.stages))
        # the best value of each of OBJECTIVES, with its step
        self.best: dict[str, tuple[float, int]] = {}
        # the values of the followed metrics by step; of a step that was repeated after a resume the last
        self.values: dict[str, dict[int, float]] = {key: {} for key in followed}
        self._tail = metrics.Tail(trial.run_dir / METRICS)

    def read_on(self) -> None:
        """Take in what was appended."""
        self.state.phase = read_phase(self.trial.run_dir)
        for row in self._tail.new_rows():
            self.state.update(row)
            if row["step"] == 0:
                continue
            step = self.state.overall_step(row)
            for key in OBJECTIVES:
                if (value := _finite(row.get(key))) is not None:
                    before = self.best.get(key)
                    sign = 1 if metrics.HIGHER_IS_BETTER[key] else -1
                    if before is None or sign * value > sign * before[0]:
                        self.best[key] = (value, step)
            for key, values in self.values.items():
                if (value := _finite(row.get(key))) is not None:
                    values[step] = value

    def seconds_left(self) -> float | None:
        """Return the time to the last planned step, by the pace so far; None where nothing is known."""
        step, planned = self.state.step, self.state.planned_steps
        if self.trial.state not in ACTIVE or not step:
            return None
        seen = self.state.seconds_left()
        if seen is not None:
            return seen
        return (time.time() - (self.trial.started or time.time())) / step * (planned - step)


class SweepProgress:
    """The progress of all trials of a sweep, which its table and its tuner share."""

    def __init__(self, trials: Iterable[Trial] = (), followed: Sequence[str] = ()) -> None:
        """
        Args:
            followed: see `TrialProgress`.
        """
        self._followed = followed
        self._by_number: dict[int, TrialProgress] = {}
        for trial in trials:
            self.of(trial)

    def of(self, trial: Trial) -> TrialProgress:
        """Return that of a trial, which is new to it or not."""
        if trial.number not in self._by_number:
            self._by_number[trial.number] = TrialProgress(trial, self._followed)
        return self._by_number[trial.number]

    def all(self) -> list[TrialProgress]:
        """Return all, by number."""
        return [self._by_number[number] for number in sorted(self._by_number)]


def _finite(value: object) -> float | None:
    """The monitor writes numbers that JSON cannot write as words."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
