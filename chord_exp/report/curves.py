"""From the histories of runs to charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from chord_exp.report import history as h
from chord_exp.report import statistics
from chord_exp.report.compare import Group, common_curves
from chord_exp.report.history import Series, smoothed, thinned
from chord_exp.report.measures import MEASURES, Measure
from chord_exp.report.runs import Run
from chord_exp.report.svg import Band, Chart, Line

# points of all curves of a page, so that it stays small, and of one curve
ALL_POINTS, FEWEST_POINTS, MOST_POINTS = 50_000, 24, 400
# points of a mean over seeds
MEAN_POINTS = 100
# steps that the thick line of a noisy metric is a mean of: at least, and as a part of all; none below so many steps
LEAST_SMOOTH, SMOOTH_PART, FEWEST_TO_SMOOTH = 8, 40, 24
# with more groups charts have no legend: the table of groups is one
MOST_IN_LEGEND = 8


def points_of_a_curve(runs: int) -> int:
    """Return how many points a curve may have in a report of so many runs."""
    return max(FEWEST_POINTS, min(MOST_POINTS, ALL_POINTS // (max(1, runs) * len(MEASURES))))


def drawn_points(run: Run, metric: str, runs: int) -> Series:
    """Return the points of a run that a report shows, each a line of its metrics.jsonl."""
    return thinned(run.history[metric], points_of_a_curve(runs))


def smooth_width(steps: int) -> int:
    """Return how many steps a thick line is a mean of; 1 for none."""
    return 1 if steps < FEWEST_TO_SMOOTH else max(LEAST_SMOOTH, steps // SMOOTH_PART)


def charts_of_run(run: Run) -> Iterator[tuple[str, Chart]]:
    """Yield section and chart for each measure."""
    stages = [at for at in run.history.stages.values() if at]
    for measure in MEASURES:
        lines: list[Line] = []
        for index, (metric, label) in enumerate(measure.lines):
            lines += _lines_of_run(run, measure, metric, label, index)
        if measure.lines[0][0] == h.MU and (planned := run.planned_mu()):
            at, value = np.array(planned).T
            plan = thinned(Series(at.astype(int), value, at.astype(int)), MOST_POINTS)
            lines.append(Line("planned", plan.at, plan.value, 1, "plan"))
        yield measure.section, Chart(measure.title, measure.note, measure.share, lines, marks=stages)


def _lines_of_run(run: Run, measure: Measure, metric: str, label: str, colour: int) -> Iterator[Line]:
    series = drawn_points(run, metric, 1)
    whole = run.history[metric].finite()
    width = smooth_width(len(whole)) if measure.noisy else 1
    if not len(series):
        return
    if width == 1:
        name = "logged" if metric == h.MU else label
        kind = "dots" if measure.dots and len(series) == 1 else "mean"
        yield Line(name, series.at, series.value, colour, kind, series.line)
        if measure.dots and len(series) > 1:
            yield Line("", series.at, series.value, colour, "dots")
        return
    yield Line("each step (thin)", series.at, series.value, colour, "raw", series.line)
    level = smoothed(whole, width)
    some = np.unique(np.linspace(0, len(whole) - 1, min(len(whole), MOST_POINTS)).astype(int))
    yield Line(f"mean of {width} steps", whole.at[some], level[some], colour, "mean")


def charts_of_groups(groups: Sequence[Group]) -> Iterator[tuple[str, Chart]]:
    """Yield section and chart for each measure of one metric: the mean and its band over seeds, and each seed."""
    runs = sum(len(group.runs) for group in groups)
    for measure in MEASURES:
        if len(measure.lines) > 1:
            continue
        metric = measure.lines[0][0]
        width = smooth_width(max(len(run.history[metric]) for group in groups for run in group.runs))
        note = measure.note
        if measure.noisy and width > 1:
            note += f"{'; ' if note else ''}means of {width} steps"
        chart = Chart(measure.title, note, measure.share, legend=len(groups) <= MOST_IN_LEGEND)
        for index, group in enumerate(groups):
            _add_group(chart, measure, width if measure.noisy else 1, group, index, runs)
        yield measure.section, chart


def _add_group(chart: Chart, measure: Measure, width: int, group: Group, index: int, runs: int) -> None:
    metric = measure.lines[0][0]
    found = [run for run in group.runs if len(run.history[metric].finite())]
    if not found:
        return
    common = common_curves([run.history[metric] for run in found], MEAN_POINTS, width)
    for run in found:
        kind = "mean" if common is None else "raw"
        whole = run.history[metric].finite()
        points = drawn_points(run, metric, runs)
        if width > 1:
            some = np.unique(np.linspace(0, len(whole) - 1, min(len(whole), MEAN_POINTS)).astype(int))
            level = smoothed(whole, width)[some]
            chart.lines.append(Line(group.label, whole.at[some], level, index, kind, group=index))
        else:
            chart.lines.append(Line(group.label, points.at, points.value, index, kind, group=index))
        if measure.dots:
            chart.lines.append(Line(group.label, points.at, points.value, index, "dots", group=index))
    if common is not None:
        at, curves = common
        middle, low, high = statistics.band(curves)
        chart.bands.append(Band(at, low, high, index, group=index))
        chart.lines.append(Line(group.label, at, middle, index, "mean", group=index))
