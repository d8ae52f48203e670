"""The table of runs and sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from chord_exp.errors import ChordExpError
from chord_exp.run_files import metrics
from chord_exp.run_files.names import RECORD
from chord_exp.run_files.record import RunRecord
from chord_exp.runs.find import SWEEP_OF_RUNS, Found
from chord_exp.sweep.scheduling.attempt_end import read_record
from chord_exp.sweep.show.table import STYLES, counts

WAITING, DAMAGED = "waiting", "damaged"


@dataclass(frozen=True)
class Line:
    """One run or sweep of the list."""

    found: Found
    status: str
    # ISO 8601; empty where nothing has begun
    started: str = ""
    steps: str = ""
    # the last held-out score
    score: float | None = None
    error: str = ""


def line_of(found: Found) -> Line:
    """Return what the list says of a folder."""
    if found.kind == SWEEP_OF_RUNS:
        try:
            info, trials = found.sweep.info(), found.sweep.trials()
        except ChordExpError as damage:
            return Line(found, DAMAGED, error=damage.what)
        scores = [score for trial in trials if (score := _score(read_record(trial.run_dir))) is not None]
        return Line(found, counts(trials), info.created, score=max(scores, default=None))
    record = read_record(found.path)
    if record is None:
        return Line(found, DAMAGED if (found.path / RECORD).exists() else WAITING)
    steps = f"{record.completed_steps}/{record.planned_steps}"
    error = "" if record.error is None else record.error.what
    return Line(found, record.status, record.started, steps, _score(record), error)


def _score(record: RunRecord | None) -> float | None:
    """The last held-out score of a run that has ended."""
    if record is None:
        return None
    return next((record.final_metrics[key] for key in metrics.HELD_OUT if key in record.final_metrics), None)


def table(lines: Sequence[Line], here: Path) -> Table:
    """Return the list, oldest first."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("started", "kind", "status", "steps", "held-out"):
        found.add_column(name, no_wrap=True)
    found.add_column("folder", overflow="fold")
    for line in sorted(lines, key=lambda line: (line.started, str(line.found.path))):
        started = datetime.fromisoformat(line.started).astimezone().strftime("%Y-%m-%d %H:%M") if line.started else ""
        path = line.found.path
        found.add_row(
            started,
            line.found.kind,
            Text(line.status, style=STYLES.get(line.status, "")),
            line.steps,
            "" if line.score is None else f"{line.score:.1%}",
            str(path.relative_to(here) if path.is_relative_to(here) else path),
        )
    return found
