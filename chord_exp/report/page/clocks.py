"""What every run had spent by each step, for the axis of the charts: steps, samples, FLOPs or time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from chord_exp.report.figures.budget import FIELDS, Budget, budget
from chord_exp.report.figures.compare import Group

# points of all clocks of a page, and of one
ALL_POINTS, FEWEST_POINTS, MOST_POINTS = 2000, 12, 60
# fields of `Spent` that a page can be drawn over, as its script calls them
AXES = {"step": "steps", "samples": "samples", "flops": "flops", "seconds": "seconds"}


def clocks(groups: Sequence[Group]) -> str:
    """Return JSON: for each group the mean of its runs, then each run, the values of every axis at some steps.

    An axis that nobody wrote down is null. `clock_numbers` gives places in this list.
    """
    runs = sum(len(group.runs) for group in groups)
    points = max(FEWEST_POINTS, min(MOST_POINTS, ALL_POINTS // max(1, runs)))
    found = []
    for group in groups:
        budgets = [budget(run) for run in group.runs]
        last = min(one.columns[0][-1] for one in budgets)
        steps = np.linspace(0, last, points)
        table = np.mean(
            [[np.interp(steps, one.columns[0], column) for column in one.columns] for one in budgets], axis=0
        )
        found += [_clock(Budget(table), points), *(_clock(one, points) for one in budgets)]
    return json.dumps(found, separators=(",", ":"))


def clock_numbers(groups: Sequence[Group]) -> Iterator[tuple[int, list[int]]]:
    """Yield for each group the place of its mean in the list of clocks, and those of its runs."""
    at = 0
    for group in groups:
        yield at, list(range(at + 1, at + 1 + len(group.runs)))
        at += 1 + len(group.runs)


def _clock(spent: Budget, points: int) -> dict[str, list[float] | None]:
    """Return some steps of a budget, by axis."""
    columns = dict(zip(FIELDS, spent.columns, strict=True))
    count = len(columns["steps"])
    some = np.unique(np.linspace(0, count - 1, min(points, count)).astype(int))
    return {
        axis: None if np.isnan(columns[name]).any() else [float(f"{value:.5g}") for value in columns[name][some]]
        for axis, name in AXES.items()
    }
