"""What is wrong with a run: its record, its logs and its metrics, each with the override that helps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chord_exp.errors import ConfigError
from chord_exp.run_files import causes, rules
from chord_exp.run_files.history import history, numbered
from chord_exp.run_files.names import METRICS, RECORD
from chord_exp.run_files.record import FAILED, RUNNING, STOPPED, SUCCEEDED, RunRecord


@dataclass(frozen=True)
class Trouble:
    """One thing that went wrong, or looks as if."""

    # of the cause or rule
    name: str
    what: str
    remedy: str
    # file:line, or the record
    seen: str
    # the line itself; empty for a rule over many
    text: str = ""
    # the result is not there, or cannot be trusted
    grave: bool = True


@dataclass(frozen=True)
class Examined:
    """A run as the doctor sees it."""

    # how it ended, in a few words
    state: str
    failed: bool
    troubles: tuple[Trouble, ...]


def examine(run_dir: Path) -> Examined:
    """Read what a run left and name what went wrong, the gravest first.

    Raises:
        ConfigError: the folder holds no run.
    """
    if not (run_dir / RECORD).is_file():
        raise ConfigError(f"{run_dir} holds no run: no {RECORD}", "RUN_DIR", "give the folder that a run printed")
    try:
        record = RunRecord.load(run_dir / RECORD)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{run_dir / RECORD} is damaged: {error}", "RUN_DIR", "start the run again") from error
    seen = [] if record.status == SUCCEEDED else causes.diagnose(run_dir)
    troubles = _ends(record, seen)
    # a run that was stopped or still goes on has not failed, whatever some log says
    grave = record.status == FAILED
    troubles += [
        Trouble(one.cause.name, one.cause.what, one.cause.remedy, f"{one.file}:{one.line}", one.text, grave)
        for one in seen
        if not any(one.cause.what == trouble.what for trouble in troubles)
    ]
    troubles += [
        Trouble(one.rule, one.what, one.remedy, f"{METRICS}:{one.line}", grave=one.severity == rules.BAD)
        for one in rules.findings(history(numbered(run_dir / METRICS)), succeeded=record.status == SUCCEEDED)
    ]
    state = f"{record.status} after {record.completed_steps} of {record.planned_steps} steps"
    if record.status == RUNNING:
        state = "still running"
    return Examined(state, grave, tuple(troubles))


def _ends(record: RunRecord, seen: list[causes.Diagnosis]) -> list[Trouble]:
    """What ended the run, by its record; a log may know the cause more closely."""
    error = record.error
    if error is None or record.status == STOPPED:
        return []
    closer = causes.explain(error.what, seen)
    known = closer if closer.cause in {cause.what for cause in causes.CAUSES} else error
    name = next((cause.name for cause in causes.CAUSES if cause.what == known.cause), "unknown")
    for one in seen:
        if one.cause.name == name:
            return [Trouble(name, known.cause, known.remedy, f"{one.file}:{one.line}", one.text)]
    return [Trouble(name, known.cause or error.what, known.remedy, RECORD, error.what)]
