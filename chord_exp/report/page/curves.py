"""From the histories of runs to charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from chord_exp.report.figures.compare import Group, common_curves
from chord_exp.report.figures.measures import MEASURES, Measure
from chord_exp.report.page.clocks import clock_numbers
from chord_exp.report.page.svg import Band, Chart, Line
from chord_exp.report.read.planned import planned_mu
from chord_exp.report.read.runs import Run
from chord_exp.run_files import history as h
from chord_exp.run_files.history import Series, smoothed
from chord_exp.utils import statistics

# points of all curves of a page, so that it stays small, and of one curve
ALL_POINTS, FEWEST_POINTS, MOST_POINTS = 50_000, 24, 400
# points of a mean over seeds
MEAN_POINTS = 100
# steps that the thick line of a noisy metric is a mean of: at least, and as a part of all; none below so many steps
LEAST_SMOOTH, SMOOTH_PART, FEWEST_TO_SMOOTH = 8, 40, 24
# with more groups charts have no legend: the table of groups is one
MOST_IN_LEGEND = 8


def thinned(series: Series, most: int) -> Series:
    """Return at most about `most` points of a series, none of them made up: the lowest and highest of each stretch.

    The first and the last point stay.
    """
    count = len(series)
    if count <= most:
        return series
    size = -(-count // max(1, most // 2))
    stretches = -(-count // size)
    padded = np.full(stretches * size, np.nan)
    padded[:count] = np.where(np.isfinite(series.value), series.value, np.nan)
    table = padded.reshape(stretches, size)
    begins = np.arange(stretches) * size
    lowest = begins + np.where(np.isnan(table), np.inf, table).argmin(axis=1)
    highest = begins + np.where(np.isnan(table), -np.inf, table).argmax(axis=1)
    return series.take(np.unique(np.concatenate([[0], lowest, highest, [count - 1]])))


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
        if measure.lines[0][0] == h.MU and (planned := planned_mu(run.config, run.planned_steps)):
            at, value = np.array(planned).T
            plan = thinned(Series(at.astype(int), value, at.astype(int)), MOST_POINTS)
            lines.append(Line("planned", plan.at, plan.value, 1, "plan"))
        yield (
            measure.section,
            Chart(measure.title, measure.note, measure.share, measure.noisy, measure.span, lines, marks=stages),
        )


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
        chart = Chart(
            measure.title, note, measure.share, measure.noisy, measure.span, legend=len(groups) <= MOST_IN_LEGEND
        )
        for index, (group, numbers) in enumerate(zip(groups, clock_numbers(groups), strict=True)):
            _add_group(chart, measure, width if measure.noisy else 1, group, index, numbers, runs)
        yield measure.section, chart


def _add_group(
    chart: Chart, measure: Measure, width: int, group: Group, index: int, clocks: tuple[int, list[int]], runs: int
) -> None:
    metric = measure.lines[0][0]
    found = [pair for pair in zip(group.runs, clocks[1], strict=True) if len(pair[0].history[metric].finite())]
    if not found:
        return
    common = common_curves([run.history[metric] for run, _ in found], MEAN_POINTS, width)
    for run, clock in found:
        kind = "mean" if common is None else "raw"
        whole = run.history[metric].finite()
        points = drawn_points(run, metric, runs)
        if width > 1:
            some = np.unique(np.linspace(0, len(whole) - 1, min(len(whole), MEAN_POINTS)).astype(int))
            level = smoothed(whole, width)[some]
            chart.lines.append(Line(group.label, whole.at[some], level, index, kind, group=index, clock=clock))
        else:
            chart.lines.append(Line(group.label, points.at, points.value, index, kind, group=index, clock=clock))
        if measure.dots:
            chart.lines.append(Line(group.label, points.at, points.value, index, "dots", group=index, clock=clock))
    if common is not None:
        at, curves = common
        middle, low, high = statistics.band(curves)
        chart.bands.append(Band(at, low, high, index, group=index, clock=clocks[0]))
        chart.lines.append(Line(group.label, at, middle, index, "mean", group=index, clock=clocks[0]))
