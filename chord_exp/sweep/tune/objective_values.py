"""What a trial is worth, from its metrics."""

from __future__ import annotations

from collections.abc import Sequence

from chord_exp.sweep.progress import TrialProgress
from chord_exp.sweep.tune.settings import BEST, Objective


def objective_values(progress: TrialProgress, objectives: Sequence[Objective], rule: str) -> list[float] | None:
    """Return a value for each objective; None if one was never logged.

    Args:
        progress: of a trial, which follows the objectives' metrics.
        rule: best, or last.
    """
    found = []
    for objective in objectives:
        values = progress.values[objective.key]
        if not values:
            return None
        if rule == BEST:
            found.append((max if objective.maximize else min)(values.values()))
        else:
            found.append(values[max(values)])
    return found
