"""Tables of what groups and runs reached and spent, and beside what the paper reports; groups as rows of dots."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from chord_exp.report.figures import paper
from chord_exp.report.figures.budget import FIELDS, Spent, budget, mean_spent
from chord_exp.report.figures.compare import (
    Group,
    GroupScores,
    best_score,
    chosen_score,
    cost_to_reach,
    differing,
    final_score,
)
from chord_exp.report.figures.measures import SHARES, TITLES, is_higher_better, shown
from chord_exp.report.figures.summary import Report, difference_text, how, how_it_ended, interval_text, mean_text, took
from chord_exp.report.page.svg import Estimate, colour_class, draw_estimates
from chord_exp.report.page.tables import Cell, Column, Table
from chord_exp.run_files import history as h
from chord_exp.utils import statistics

TESTED = Column("tested", "on the test set, at the step that was best on the evaluation set")
BEST = Column("best, mean", "chosen by the rows that it is measured on: it flatters")
COLUMNS = (
    Column("group", is_number=False),
    Column("seeds", "that succeeded, of those that were run"),
    TESTED,
    Column("final, mean", "the last value; of noisy metrics the mean of the last 8"),
    Column("final, IQM", "interquartile mean: without the lowest and the highest quarter of seeds"),
    BEST,
    Column("difference", "to the reference; one whose interval holds 0 is none"),
    Column("P(better)", "probability that a run of this group is better than one of the reference"),
)
# what a run spent in all, and until it reached the target
SPENT = {"samples": "samples", "tokens": "tokens", "flops": "FLOPs", "seconds": "time"}
COST = {"steps": "steps", "samples": "samples", "flops": "FLOPs", "seconds": "time"}
# findings of a run in a table over many
MOST_FINDINGS = 3


def score_note(report: Report) -> str:
    """Return what has to be known to read the table of scores."""
    name = report.scores[report.reference].group.label
    return (
        f"Judged by {report.judged_by}, over the seeds of runs that succeeded, with 95% bootstrap intervals. "
        f"Differences are to {name}; one whose interval holds 0 is none, and each interval is of one comparison."
    )


COST_NOTE = (
    "A mean over the runs of a group, and where a score is named the median of those that reached it. FLOPs are "
    "estimated: 6 a parameter and trained token, and 2 a token of a rollout."
)


def score_table(report: Report) -> Table:
    """Return what each group reached, and what it is ahead of the reference by."""
    # a best value that flatters is of no use beside an honest one
    hidden = BEST if any(one.tested for one in report.scores) else TESTED
    columns = [column for column in COLUMNS if column is not hidden]
    rows, marks = [], []
    for index, one in enumerate(report.scores):
        cells = _cells(report, index, one)
        rows.append([cells[column.name] for column in columns])
        marks.append((f' class=pick data-g="{index}"', f'<span class="sw {colour_class(index, "k")}"></span>'))
    return Table(columns, rows, marks)


def cost_table(report: Report) -> Table:
    """Return what a run of each group spent, in all and until it first reached the target."""
    columns = [COLUMNS[0], *map(Column, SPENT.values())]
    if report.target is not None:
        columns += [Column(f"{name} to {shown(report.target, report.metric)}") for name in COST.values()]
    rows = []
    for group in report.groups:
        spent = mean_spent([budget(run).total for run in group.runs])
        row = [group.label, *(spent_text(spent, name) for name in SPENT)]
        rows.append(row if report.target is None else [*row, *_cost(group, report, report.target)])
    return Table(columns, rows)


def _cells(report: Report, index: int, one: GroupScores) -> dict[str, Cell]:
    final, group = list(one.final.values()), one.group
    against: Cell = "reference" if index == report.reference else ""
    if one.difference is not None:
        against = (
            difference_text(one.difference, report.judged_metric),
            f"{_verdict(one, report)}, {how(one.difference)}",
        )
    return {
        "group": (group.label, group.note),
        "seeds": f"{len(one.judged)} of {len({run.seed for run in group.runs})}",
        "tested": mean_text(one.tested, h.TEST_ACCURACY),
        "final, mean": mean_text(one.final, report.metric),
        "final, IQM": interval_text(statistics.interquartile_interval(final) if final else None, report.metric),
        "best, mean": mean_text(one.best, report.metric),
        "difference": against,
        "P(better)": "" if one.improvement is None else f"{one.improvement:.2f}",
    }


def _verdict(one: GroupScores, report: Report) -> str:
    assert one.difference is not None
    words = {"higher": "better", "lower": "worse"}
    if not is_higher_better(report.judged_metric):
        words = {"higher": "worse", "lower": "better"}
    return words.get(one.difference.verdict, one.difference.verdict)


def spent_text(spent: Spent, name: str) -> str:
    """Return a field of what was spent as people read it; empty where nobody wrote it down."""
    value = getattr(spent, name)
    if math.isnan(value):
        return ""
    if name == "seconds":
        return took(value)
    return f"{value:.3g}".replace("e+", "e") if value >= 1e6 else f"{value:,.0f}"


def _cost(group: Group, report: Report, target: float) -> list[Cell]:
    costs = [cost_to_reach(run, report.metric, target) for run in group.runs]
    reached = [cost for cost in costs if cost is not None]
    if not reached:
        return ["never", *[""] * (len(COST) - 1)]
    middle = Spent(*(float(np.median([getattr(cost, name) for cost in reached])) for name in FIELDS))
    missed = f"{len(reached)} of {len(costs)} runs" if len(reached) < len(costs) else ""
    first, *others = (spent_text(middle, name) for name in COST)
    return [(first, missed), *others]


def estimates(report: Report) -> str:
    """Return the groups' scores as rows of dots, a seed each, with mean and interval."""
    rows = []
    for index, one in enumerate(report.scores):
        if one.judged:
            values = list(one.judged.values())
            mean = statistics.bootstrap(values)
            rows.append(Estimate(one.group.label, values, mean.value, mean.low, mean.high, index))
    note = "every seed a dot; the bar is the mean, the line its 95% interval"
    title = report.judged_by[:1].upper() + report.judged_by[1:]
    return draw_estimates(title, note, rows, report.judged_metric in SHARES)


PAPER_NOTE = (
    f"Left what the paper reports ({paper.SOURCE}), right what was measured here. Model, data and lengths are others: "
    "heights cannot be compared, the order of the methods can."
)


def paper_table(report: Report) -> Table | None:
    """Return the paper's table with what was measured here beside it; None unless two of its methods are there."""
    found = [(one, paper.reported(one.group.runs[0])) for one in report.scores]
    if len({values for _, values in found} - {None}) < 2:
        return None
    metric = report.judged_metric
    untrained = [first[0] for run in report.runs if len(first := _untrained(run.history[metric]))]
    here = shown(float(np.mean(untrained)), metric) if untrained else "-"
    rows = [_paper_row(paper.ORIGINAL, paper.REPORTED[paper.ORIGINAL], here)]
    # in the order of the paper's table, those that are not in it last
    order = list(paper.REPORTED.values())
    for one, values in sorted(found, key=lambda pair: len(order) if pair[1] is None else order.index(pair[1])):
        rows.append(_paper_row(one.group.label, values, mean_text(one.judged, metric)))
    benchmarks = [Column(benchmark, paper.SOURCE) for benchmark in paper.BENCHMARKS]
    name = f"{TITLES.get(metric, metric).lower()} here"
    return Table([Column("method", is_number=False), *benchmarks, Column(name)], rows)


def _untrained(series: h.Series) -> np.ndarray:
    return series.finite().take(series.finite().at == 0).value


def _paper_row(name: str, values: Sequence[float] | None, here: str) -> list[str]:
    return [name, *map(str, values or ("-",) * len(paper.BENCHMARKS)), here]


def run_table(report: Report) -> Table:
    """Return each run: how it ended, what it reached and in which line that stands, what sets it apart."""
    keys = differing(report.runs) if len(report.runs) > 1 else []
    tested = report.judged_metric == h.TEST_ACCURACY
    columns = [Column("run", is_number=False), Column("seed"), Column("how it ended", is_number=False)]
    columns += [Column(name) for name in ("last", "best", *(["tested"] if tested else []))]
    columns += [Column(key, is_number=False) for key in keys]
    rows = []
    for run, found in zip(report.runs, report.found, strict=True):
        scores = [(final_score(run, report.metric), report.metric), (best_score(run, report.metric), report.metric)]
        scores += [(chosen_score(run), h.TEST_ACCURACY)] if tested else []
        said = [f"{one.what} (line {one.line})" for one in found[:MOST_FINDINGS]]
        said += [f"and {len(found) - MOST_FINDINGS} more"] if len(found) > MOST_FINDINGS else []
        figures = (
            "-" if score is None else (shown(score.value, metric), f"step {score.at}, line {score.line}")
            for score, metric in scores
        )
        seed = str(run.seed) if run.record else ""
        apart = (run.settings.get(key, "-") for key in keys)
        rows.append([run.label, seed, (how_it_ended(run), *said), *figures, *apart])
    return Table(columns, rows, [(f" class={run.status}", "") for run in report.runs])
