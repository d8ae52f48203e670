"""Pieces of HTML that pages share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from chord_exp.report.measures import SECTIONS
from chord_exp.report.runs import Run
from chord_exp.report.svg import Chart, draw


def sections(charts: Iterable[tuple[str, Chart]]) -> str:
    """Return charts under their headings; a section without any is left out."""
    drawn: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for section, chart in charts:
        if html := draw(chart):
            drawn[section].append(html)
    return "".join(
        f'<h2>{section}</h2><div class="charts">{"".join(found)}</div>' for section, found in drawn.items() if found
    )


def error_lines(run: Run) -> Iterator[str]:
    """Yield why a run did not succeed, and what to do."""
    error = run.record.error if run.record else None
    if error is not None:
        for part in (error.what, error.cause and f"Cause: {error.cause}", error.remedy and f"Next: {error.remedy}"):
            if part:
                yield f"<p>{escape(part)}</p>"


def pairs(values: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a list."""
    return "<dl>" + "".join(f"<dt>{escape(key)}<dd>{escape(str(value))}" for key, value in values) + "</dl>"
