"""The report as Markdown, and its figures as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from chord_exp.report.compare import best_score, differing, final_score
from chord_exp.report.curves import drawn_points
from chord_exp.report.measures import MEASURES, TITLES, shown
from chord_exp.report.summary import Report, difference_text, how_it_ended, interval_text, who_wins
from chord_exp.run_files.names import METRICS

COLUMNS = ("run", "group", "what", "metric", "step", "value", "line")


def markdown(report: Report) -> str:
    """Return the report's words and tables."""
    lines = [f"# {report.title}", ""]
    lines += [*(f"- {said}" for said in who_wins(report)), ""] if len(report.runs) > 1 else []
    if len(report.groups) > 1:
        name = TITLES.get(report.metric, report.metric)
        lines += [f"{name} at the end, over seeds of runs that succeeded, with 95% bootstrap intervals:", ""]
        head = ("group", "seeds", "final, mean", "final, IQM", "best, mean", "difference to the first", "P(better)")
        rows = [
            (
                one.group.label,
                str(len(one.final)),
                interval_text(one.final_mean, report.metric),
                interval_text(one.final_iqm, report.metric),
                interval_text(one.best_mean, report.metric),
                difference_text(one, report.metric) if one.difference else "",
                "" if one.improvement is None else f"{one.improvement:.2f}",
            )
            for one in report.scores
        ]
        lines += [*_table(head, rows), ""]
    keys = differing(report.runs) if len(report.runs) > 1 else []
    each: list[tuple[str, ...]] = []
    for run in report.runs:
        scores = [
            "-" if score is None else f"{shown(score.value, report.metric)} (step {score.at}, line {score.line})"
            for score in (final_score(run, report.metric), best_score(run, report.metric))
        ]
        settings = (run.settings.get(key, "-") for key in keys)
        each.append((run.label, str(run.seed), how_it_ended(run), *scores, *settings))
    lines += [*_table(("run", "seed", "how it ended", "last", "best", *keys), each), ""]
    for run, found in zip(report.runs, report.found, strict=True):
        error = run.record.error if run.record else None
        if found or error:
            lines.append(f"**{_cell(run.label)}**")
            lines.append("")
            if error:
                lines += [f"- {_cell(part)}" for part in (error.what, error.cause, error.remedy) if part]
            lines += [f"- {_cell(one.what)}: {_cell(one.remedy)} ({one.rule}, line {one.line})" for one in found]
            lines.append("")
    return "\n".join([*lines, f"Lines are those of each run's {METRICS}."]) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_cell, head))} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def table(report: Report) -> str:
    """Return every figure that the page draws or names, each with its line of the run's metrics.jsonl."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    group_of = {run.path: group.label for group in report.groups for run in group.runs}
    for run, found in zip(report.runs, report.found, strict=True):
        own = (run.label, group_of[run.path])
        for what, score in (("final", final_score(run, report.metric)), ("best", best_score(run, report.metric))):
            if score is not None:
                writer.writerow((*own, what, report.metric, score.at, score.value, score.line))
        writer.writerows((*own, f"finding {one.rule}", one.metric, one.step, "", one.line) for one in found)
        for measure in MEASURES:
            for metric, _ in measure.lines:
                points = drawn_points(run, metric, len(report.runs))
                rows = zip(points.at.tolist(), points.value.tolist(), points.line.tolist(), strict=True)
                writer.writerows((*own, "point", metric, *row) for row in rows)
    return stream.getvalue()
