"""What a trial is worth, from its metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from chord_exp.run_files import metrics
from chord_exp.run_files.names import METRICS
from chord_exp.sweep.tune.settings import BEST, Objective


class Course:
    """The values of a trial's objectives by step, read on as they are written.

    Steps of a later stage count on from the earlier ones. Step 0 is left out: it says what the base model is worth, the
    same for every trial.
    """

    def __init__(self, run_dir: Path, stages: Mapping[str, int], objectives: Sequence[Objective]) -> None:
        """
        Args:
            stages: planned steps of each stage, in order.
        """
        self._tail = metrics.Tail(run_dir / METRICS)
        self._objectives = objectives
        self._before: dict[str, int] = {}
        done = 0
        for name, steps in stages.items():
            self._before[name] = done
            done += steps
        self.by_step: dict[str, dict[int, float]] = {objective.key: {} for objective in objectives}

    def read_on(self) -> None:
        """Take in what was appended; a step that was repeated after a resume counts as it was last."""
        for row in self._tail.new_rows():
            step = row["step"] + self._before.get(row.get("stage", ""), 0)
            for key, values in self.by_step.items():
                value = row.get(key)
                if row["step"] > 0 and isinstance(value, (int, float)) and math.isfinite(value):
                    values[step] = float(value)

    def worth(self, rule: str) -> list[float] | None:
        """A value for each objective; None if one was never logged.

        Args:
            rule: best, or last.
        """
        found = []
        for objective in self._objectives:
            values = self.by_step[objective.key]
            if not values:
                return None
            if rule == BEST:
                found.append((max if objective.maximize else min)(values.values()))
            else:
                found.append(values[max(values)])
        return found
