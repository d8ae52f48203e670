"""The page of several runs: which settings are better by more than their seeds, curves, and each run."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from chord_exp.report import history as h
from chord_exp.report.compare import Group, GroupScores, best_score, cost_to_reach, differing, final_score
from chord_exp.report.curves import charts_of_groups
from chord_exp.report.importance import setting_importance
from chord_exp.report.measures import TITLES, is_higher_better, shown
from chord_exp.report.parts import error_lines, pairs, sections
from chord_exp.report.runs import Run
from chord_exp.report.summary import Report, difference_text, how_it_ended, interval_text, took, who_wins
from chord_exp.report.svg import Estimate, colour_class, draw_estimates, draw_parallel
from chord_exp.run_files.names import METRICS

# findings of a run in a table over many; axes of the parallel coordinates besides the score
MOST_FINDINGS = 3
MOST_AXES = 6


def several_runs(report: Report) -> Iterator[str]:
    """Yield the body of the page."""
    counts: dict[str, int] = {}
    for run in report.runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    worst = next((status for status in ("failed", "running", "stopped") if status in counts), "succeeded")
    yield f'<section class="verdict {worst}"><b>'
    yield ", ".join(f"{count} {status}" for status, count in counts.items()) + "</b>"
    yield "".join(f"<p>{escape(line)}</p>" for line in who_wins(report)) + "</section>"
    yield "<h2>Scores</h2>" + _score_table(report) + _estimates(report)
    yield sections(charts_of_groups(report.groups))
    yield _parallel(report) + _importance(report)
    yield "<h2>Runs</h2>" + _run_table(report)
    yield "".join(_broken(run) for run in report.runs if run.status in ("failed", "stopped"))
    same = {key: value for key, value in report.runs[0].overrides.items() if key not in differing(report.runs)}
    if same := {key: value for key, value in same.items() if all(r.overrides.get(key) == value for r in report.runs)}:
        yield "<h2>Given by hand for all</h2>" + pairs(same.items())
    yield (
        f"<p class=dim>Lines are lines of each run's {METRICS}; every point drawn stands in the CSV beside this page. "
        "Thick lines are means over seeds, bands their 95% bootstrap intervals, thin lines single seeds; the mean "
        "goes as far as all seeds of a group do. A click on a row of the scores shows its group alone.</p>"
    )


def _score_table(report: Report) -> str:
    name = escape(TITLES.get(report.metric, report.metric))
    reach = (
        ""
        if report.target is None
        else f"<th class=n>steps to {shown(report.target, report.metric)}<th class=n>time<th class=n>tokens"
    )
    rows = []
    for index, one in enumerate(report.scores):
        verdict = (
            ""
            if one.difference is None
            else f"{escape(difference_text(one, report.metric))}<br>{_verdict(one, report.metric)}"
        )
        chance = "" if one.improvement is None else f"{one.improvement:.2f}"
        cost = "" if report.target is None else _cost(one.group, report)
        rows.append(
            f'<tr class=pick data-g="{index}"><td class="long"><span class="sw {colour_class(index, "k")}"></span>'
            f"{escape(one.group.label)}<td class=n>{len(one.final)} of {len({r.seed for r in one.group.runs})}"
            f"<td class=n>{interval_text(one.final_mean, report.metric)}"
            f"<td class=n>{interval_text(one.final_iqm, report.metric)}"
            f"<td class=n>{interval_text(one.best_mean, report.metric)}"
            f"<td class=n>{verdict}<td class=n>{chance}{cost}</tr>"
        )
    return (
        f"<p class=dim>{name}. Final: the last value (of noisy metrics the mean of the last 8), over the seeds of runs "
        "that succeeded, with 95% bootstrap intervals. Best was chosen by the rows it is measured on, and flatters. "
        "Differences are to the first group; one whose interval holds 0 is none.</p>"
        "<div class=scroll><table><tr><th>group<th class=n>seeds<th class=n>final, mean<th class=n>final, IQM"
        "<th class=n>best, mean<th class=n>difference<th class=n title='probability that a run of this group is better "
        f"than one of the first'>P(better){reach}</tr>{''.join(rows)}</table></div>"
    )


def _verdict(one: GroupScores, metric: str) -> str:
    assert one.difference is not None
    words = {"higher": "better", "lower": "worse"}
    if not is_higher_better(metric):
        words = {"higher": "worse", "lower": "better"}
    return f"<small>{words.get(one.difference.verdict, one.difference.verdict)}</small>"


def _cost(group: Group, report: Report) -> str:
    assert report.target is not None
    costs = [cost_to_reach(run, report.metric, report.target) for run in group.runs]
    reached = [cost for cost in costs if cost is not None]
    if not reached:
        return "<td class=n>never<td><td>"
    steps = float(np.median([cost.steps for cost in reached]))
    times = [cost.seconds for cost in reached if cost.seconds is not None]
    missed = f" <small>({len(reached)} of {len(costs)})</small>" if len(reached) < len(costs) else ""
    time = took(float(np.median(times))) if times else ""
    tokens = [cost.tokens for cost in reached if cost.tokens is not None]
    trained = f"{np.median(tokens):.3g}" if tokens else ""
    return f"<td class=n>{steps:.4g}{missed}<td class=n>{time}<td class=n>{trained}"


def _estimates(report: Report) -> str:
    rows = [
        Estimate(one.group.label, list(one.final.values()), mean.value, mean.low, mean.high, index)
        for index, one in enumerate(report.scores)
        if (mean := one.final_mean) is not None
    ]
    title = f"{TITLES.get(report.metric, report.metric)} at the end"
    note = "every seed a dot; the bar is the mean, the line its 95% interval"
    return draw_estimates(title, note, rows, report.metric == h.ACCURACY)


def _parallel(report: Report) -> str:
    scored = [(index, one) for index, one in enumerate(report.scores) if one.final_mean is not None]
    keys = list(report.groups[0].settings)[:MOST_AXES]
    if len(scored) < 3 or len(keys) < 2:
        return ""
    axes, columns = [], []
    for key in keys:
        values = sorted({one.group.settings[key] for _, one in scored}, key=_numbers_first)
        axes.append((key, values))
        last = max(1, len(values) - 1)
        columns.append([values.index(one.group.settings[key]) / last for _, one in scored])
    finals = [one.final_mean.value for _, one in scored if one.final_mean is not None]
    low, high = min(finals), max(finals)
    axes.append((TITLES.get(report.metric, report.metric), [shown(low, report.metric), shown(high, report.metric)]))
    columns.append([(value - low) / ((high - low) or 1) for value in finals])
    rows = [
        ([column[place] for column in columns], index, f"{one.group.label}: {shown(finals[place], report.metric)}")
        for place, (index, one) in enumerate(scored)
    ]
    return draw_parallel(axes, rows)


def _importance(report: Report) -> str:
    found = setting_importance(report.scores, is_higher_better(report.metric))
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


def _run_table(report: Report) -> str:
    keys = differing(report.runs)
    rows = []
    for run, found in zip(report.runs, report.found, strict=True):
        final, best = final_score(run, report.metric), best_score(run, report.metric)
        said = "".join(f"<br><small>{escape(one.what)} (line {one.line})</small>" for one in found[:MOST_FINDINGS])
        more = f"<br><small>and {len(found) - MOST_FINDINGS} more</small>" if len(found) > MOST_FINDINGS else ""
        rows.append(
            f"<tr><td class=long>{escape(run.label)}<td class=n>{run.seed if run.record else ''}"
            f"<td class='long {run.status}'>{escape(how_it_ended(run))}{said}{more}"
            + "".join(
                "<td class=n>-"
                if score is None
                else f"<td class=n>{shown(score.value, report.metric)}"
                f"<br><small>step {score.at}, line {score.line}</small>"
                for score in (final, best)
            )
            + "".join(f"<td class=long>{escape(run.settings.get(key, '-'))}" for key in keys)
        )
    head = "".join(f"<th>{escape(key)}" for key in keys)
    return (
        "<div class=scroll><table><tr><th>run<th class=n>seed<th>how it ended<th class=n>last<th class=n>best"
        f"{head}</tr>{''.join(rows)}</table></div>"
    )


def _broken(run: Run) -> str:
    log = f"<pre>{escape(chr(10).join(run.log_end))}</pre>" if run.log_end else ""
    name = escape(f"{run.label}: {run.status}")
    return f"<details><summary>{name}</summary>{''.join(error_lines(run))}{log}</details>"
