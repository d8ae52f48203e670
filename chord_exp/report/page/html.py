"""The report as one HTML file that needs nothing else: no network, no other file, and no script to be whole."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib import resources

from chord_exp.report.figures.summary import Report
from chord_exp.report.page.clocks import clocks
from chord_exp.report.page.one_run import one_run
from chord_exp.report.page.several_runs import several_runs

# of uPlot (MIT), which draws the charts where scripts run: 51 kB, lines, bands and a cursor over all charts at once.
# Of the others that were measured for this the smallest takes ten times as much; none shows anything without scripts.
VENDORED = "vendor/uPlot-1.6.32.min"


def render(report: Report, *, refresh: int | None = None) -> str:
    """Return the page.

    Args:
        refresh: seconds after which it loads itself again.
    """
    alone = len(report.runs) == 1
    body = "".join(one_run(report) if alone else several_runs(report))
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    style = "".join(map(_asset, (f"{VENDORED}.css", "style.css")))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{again}'
        f"<title>{escape(report.title)}</title><style>{style}</style></head>"
        f"<body><h1>{escape(report.title)}</h1>{body}"
        f'<script type="application/json" id="clocks">{clocks(report.groups)}</script>'
        f"<script>{_asset(f'{VENDORED}.js')}</script><script>{_asset('script.js')}</script></body></html>\n"
    )


@cache
def _asset(name: str) -> str:
    return resources.files("chord_exp.report.page").joinpath(name).read_text(encoding="utf-8")
