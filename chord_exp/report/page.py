"""The report as one HTML file that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib import resources

from chord_exp.report.one_run import one_run
from chord_exp.report.several_runs import several_runs
from chord_exp.report.summary import Report


def render(report: Report, *, refresh: int | None = None) -> str:
    """Return the page.

    Args:
        refresh: seconds after which it loads itself again.
    """
    body = "".join(one_run(report) if len(report.runs) == 1 else several_runs(report))
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{again}'
        f"<title>{escape(report.title)}</title><style>{_asset('style.css')}</style></head>"
        f"<body><h1>{escape(report.title)}</h1>{body}<script>{_asset('script.js')}</script></body></html>\n"
    )


@cache
def _asset(name: str) -> str:
    return resources.files("chord_exp.report").joinpath(name).read_text(encoding="utf-8")
