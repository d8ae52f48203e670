"""The page of several runs: which settings are better by more than their seeds, curves, and each run."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from statistics import fmean

from chord_exp.report.figures.compare import differing
from chord_exp.report.figures.importance import setting_importance
from chord_exp.report.figures.measures import TITLES, is_higher_better, shown
from chord_exp.report.figures.prompts import over_prompts
from chord_exp.report.figures.summary import Report, who_wins
from chord_exp.report.page.curves import charts_of_groups
from chord_exp.report.page.evaluations import NOTE, prompt_table
from chord_exp.report.page.parts import changed, error_lines, pairs, sections, setting_table
from chord_exp.report.page.scores import (
    COST_NOTE,
    PAPER_NOTE,
    cost_table,
    estimates,
    paper_table,
    run_table,
    score_note,
    score_table,
)
from chord_exp.report.page.svg import draw_parallel
from chord_exp.report.page.tables import html
from chord_exp.report.read.runs import Run
from chord_exp.run_files.names import METRICS

# axes of the parallel coordinates besides the score
MOST_AXES = 6


def several_runs(report: Report) -> Iterator[str]:
    """Yield the body of the page."""
    counts: dict[str, int] = {}
    for run in report.runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    worst = next((status for status in ("failed", "running", "stopped") if status in counts), "succeeded")
    if report.study and report.study.question:
        yield f"<p>{escape(report.study.question)}</p>"
    yield f'<section class="verdict {worst}"><b>'
    yield ", ".join(f"{count} {status}" for status, count in counts.items()) + "</b>"
    yield "".join(f"<p>{escape(line)}</p>" for line in who_wins(report)) + "</section>"
    yield f"<h2>Scores</h2><p class=dim>{escape(score_note(report))}</p>"
    yield html(score_table(report)) + estimates(report)
    if (beside := paper_table(report)) is not None:
        yield f"<h3>Beside the paper</h3><p class=dim>{PAPER_NOTE}</p>" + html(beside)
    found = over_prompts(report.groups, report.reference)
    if len(found) > 1:
        name = report.groups[report.reference].label
        yield f"<h3>Last checkpoints over prompts</h3><p class=dim>{NOTE}</p>" + html(prompt_table(found, name))
    yield f"<h3>What it cost</h3><p class=dim>{COST_NOTE}</p>" + html(cost_table(report))
    yield sections(charts_of_groups(report.groups), steps_drawn=False)
    yield _parallel(report) + _importance(report)
    yield "<h2>Runs</h2>" + html(run_table(report))
    yield "".join(_broken(run) for run in report.runs if run.status in ("failed", "stopped"))
    differ = differing(report.runs)
    same = [
        row for row in changed(report.runs[0]) if row[0] not in differ and all(row in changed(r) for r in report.runs)
    ]
    if same:
        yield "<h2>What differs from the defaults in all runs</h2>" + html(setting_table(same))
    yield (
        f"<p class=dim>Lines are lines of each run's {METRICS}; every point drawn stands in the CSV beside this page. "
        "Thick lines are means over seeds, bands their 95% bootstrap intervals, thin lines single seeds; the mean "
        "goes as far as all seeds of a group do. A click on a row of the scores shows its group alone.</p>"
    )


def _parallel(report: Report) -> str:
    scored = [(index, one) for index, one in enumerate(report.scores) if one.judged]
    keys = list(report.groups[0].settings)[:MOST_AXES]
    if len(scored) < 3 or len(keys) < 2:
        return ""
    axes, columns = [], []
    for key in keys:
        values = sorted({one.group.settings[key] for _, one in scored}, key=_numbers_first)
        axes.append((key, values))
        last = max(1, len(values) - 1)
        columns.append([values.index(one.group.settings[key]) / last for _, one in scored])
    finals = [fmean(one.judged.values()) for _, one in scored]
    low, high, metric = min(finals), max(finals), report.judged_metric
    axes.append((TITLES.get(metric, metric), [shown(low, metric), shown(high, metric)]))
    columns.append([(value - low) / ((high - low) or 1) for value in finals])
    rows = [
        ([column[place] for column in columns], index, f"{one.group.label}: {shown(finals[place], metric)}")
        for place, (index, one) in enumerate(scored)
    ]
    return draw_parallel(axes, rows)


def _importance(report: Report) -> str:
    found = setting_importance(report.scores, is_higher_better(report.judged_metric))
    if not found:
        return ""
    values = ((key, f"{share:.0%}") for key, share in found.items())
    return (
        "<h3>Which settings matter</h3><p class=dim>Importance for the final score by Optuna's PED-ANOVA, which asks "
        f"what the better half of the groups has in common.</p>{pairs(values)}"
    )


def _numbers_first(text: str) -> tuple[bool, float, str]:
    try:
        return (False, float(text), text)
    except ValueError:
        return (True, 0.0, text)


def _broken(run: Run) -> str:
    name = escape(f"{run.label}: {run.status}")
    return f"<details><summary>{name}</summary>{''.join(error_lines(run))}</details>"
