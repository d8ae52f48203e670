"""Pieces of HTML that pages share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from chord_exp.report.figures.measures import SECTIONS
from chord_exp.report.page.svg import Chart, draw
from chord_exp.report.page.tables import Column, Table
from chord_exp.report.read.runs import Run
from chord_exp.report.read.settings import differences

# shown by the page's script, which it is for
CONTROLS = (
    '<form class="controls" hidden><label>over <select name="axis"><option value="step">steps'
    '<option value="samples">samples<option value="flops">FLOPs<option value="seconds">time</select></label> '
    '<label>smoothing <select name="smooth">{}<option value="1" selected>as drawn<option value="4">more'
    '<option value="12">much</select></label> <small>drag across a chart to look closer, double-click to go back'
    "</small></form>"
)
# where each step is drawn, too
NO_SMOOTHING = '<option value="0">none'


def sections(charts: Iterable[tuple[str, Chart]], *, steps_drawn: bool) -> str:
    """Return charts under their headings; a section without any is left out.

    Args:
        steps_drawn: noisy charts draw each step beside the mean of some.
    """
    drawn: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for section, chart in charts:
        if html := draw(chart):
            drawn[section].append(html)
    headed = "".join(
        f'<h2>{section}</h2><div class="charts">{"".join(found)}</div>' for section, found in drawn.items() if found
    )
    return headed and CONTROLS.format(NO_SMOOTHING if steps_drawn else "") + headed


def error_lines(run: Run) -> Iterator[str]:
    """Yield why a run did not succeed, what to do, and the end of its log."""
    error = run.record.error if run.record else None
    if error is not None:
        for part in (error.what, error.cause and f"Cause: {error.cause}", error.remedy and f"Next: {error.remedy}"):
            if part:
                yield f"<p>{escape(part)}</p>"
    if run.log_end and not run.succeeded:
        yield f"<small>logs/run.log ends:</small><pre>{escape(chr(10).join(run.log_end))}</pre>"


def pairs(values: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a list."""
    return "<dl>" + "".join(f"<dt>{escape(key)}<dd>{escape(str(value))}" for key, value in values) + "</dl>"


def changed(run: Run) -> list[tuple[str, str, str]]:
    """Return key, value and default of the settings that differ from the defaults; those given by hand come first.

    Where a run left no defaults, those given by hand are all that is known, each with an empty default.
    """
    if not run.defaults:
        return [(key, value, "") for key, value in run.overrides.items()]
    found = differences(run.composed, run.defaults)
    return sorted(found, key=lambda row: row[0] not in run.overrides)


def setting_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Return settings as a table: key, value and default."""
    return Table([Column(name, is_number=False) for name in ("key", "here", "default")], [*rows])
