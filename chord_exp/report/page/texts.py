"""The report as Markdown, and its figures as CSV."""

from __future__ import annotations

import csv
import io

from chord_exp.report.figures.compare import best_score, chosen_score, final_score
from chord_exp.report.figures.measures import MEASURES
from chord_exp.report.figures.summary import Report, who_wins
from chord_exp.report.page import tables
from chord_exp.report.page.curves import drawn_points
from chord_exp.report.page.scores import (
    COST_NOTE,
    PAPER_NOTE,
    cost_table,
    paper_table,
    run_table,
    score_note,
    score_table,
)
from chord_exp.report.page.tables import in_line
from chord_exp.run_files import history as h
from chord_exp.run_files.names import METRICS

COLUMNS = ("run", "group", "what", "metric", "step", "value", "line")


def markdown(report: Report) -> str:
    """Return the report's words and tables."""
    lines = [f"# {report.title}", ""]
    if report.study and report.study.question:
        lines += [report.study.question, ""]
    lines += [*(f"- {said}" for said in who_wins(report)), ""] if len(report.runs) > 1 else []
    if len(report.groups) > 1:
        lines += [score_note(report), "", *tables.markdown(score_table(report)), ""]
    if (beside := paper_table(report)) is not None:
        lines += [PAPER_NOTE, "", *tables.markdown(beside), ""]
    if len(report.groups) > 1:
        lines += [COST_NOTE, "", *tables.markdown(cost_table(report)), ""]
    lines += [*tables.markdown(run_table(report)), ""]
    for run, found in zip(report.runs, report.found, strict=True):
        error = run.record.error if run.record else None
        if found or error:
            lines += [f"**{in_line(run.label)}**", ""]
            if error:
                lines += [f"- {in_line(part)}" for part in (error.what, error.cause, error.remedy) if part]
            lines += [f"- {in_line(one.what)}: {in_line(one.remedy)} ({one.rule}, line {one.line})" for one in found]
            lines.append("")
    return "\n".join([*lines, f"Lines are those of each run's {METRICS}."]) + "\n"


def table(report: Report) -> str:
    """Return every figure that the page draws or names, each with its line of the run's metrics.jsonl."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    group_of = {run.path: group.label for group in report.groups for run in group.runs}
    for run, found in zip(report.runs, report.found, strict=True):
        own = (run.label, group_of.get(run.path, ""))
        for what, metric, score in (
            ("final", report.metric, final_score(run, report.metric)),
            ("best", report.metric, best_score(run, report.metric)),
            ("tested", h.TEST_ACCURACY, chosen_score(run)),
        ):
            if score is not None:
                writer.writerow((*own, what, metric, score.at, score.value, score.line))
        writer.writerows((*own, f"finding {one.rule}", one.metric, one.step, "", one.line) for one in found)
        for measure in MEASURES:
            for metric, _ in measure.lines:
                points = drawn_points(run, metric, len(report.runs))
                rows = zip(points.at.tolist(), points.value.tolist(), points.line.tolist(), strict=True)
                writer.writerows((*own, "point", metric, *row) for row in rows)
    return stream.getvalue()
