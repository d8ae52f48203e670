"""How far a preparation is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from chord_exp.prepare.pipeline import Progress

_SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar with rate and time left on a terminal; else a line every few seconds, none for a short preparation."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None, rate="")

        def show(what: str, done: int, total: int, rows: int) -> None:
            rate = rows / max(time.monotonic() - began, 1e-6)
            bar.update(
                task, description=what, completed=done, total=total or None, rate=f"{rows:,} rows, {rate:,.0f}/s"
            )

        yield show


def _plain() -> Progress:
    began = last = time.monotonic()

    def show(what: str, done: int, total: int, rows: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            rate = rows / (now - began)
            print(f"{what} {done / max(total, 1):.0%}, {rows:,} rows, {rate:,.0f}/s", file=sys.stderr, flush=True)

    return show
