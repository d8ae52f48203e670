"""Read the folder of a run: the record, the settings, the metrics, the end of the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from chord_exp.report.read.folders import labels
from chord_exp.report.read.settings import (
    COMPOSED,
    DEFAULTS,
    NO_SETTING,
    StudyPlan,
    flat,
    read_yaml,
    resolved,
    study_plan,
)
from chord_exp.run_files.causes import end_of_log
from chord_exp.run_files.history import History, history, numbered
from chord_exp.run_files.names import LAUNCH, METRICS, RECORD, TRINITY_CONFIG
from chord_exp.run_files.record import RUNNING, SUCCEEDED, RunRecord

# a trial that was made and not started yet
WAITING = "waiting"
LOG_LINES = 15


@dataclass(frozen=True)
class Run:
    """One run's folder as read."""

    path: Path
    # short and unique in a report
    label: str
    # of the record, or WAITING
    status: str
    record: RunRecord | None
    # settings that were given by hand, key to value
    overrides: Mapping[str, str]
    # all settings where they are known, otherwise the overrides
    composed: Mapping[str, str]
    # those of the same command line without a word; empty where nobody wrote them down
    defaults: Mapping[str, str]
    study: StudyPlan | None
    history: History
    # the resolved Trinity config
    config: Mapping[str, Any] = field(repr=False)

    @property
    def seed(self) -> int:
        """The run's seed; -1 where nobody wrote it down."""
        return self.record.seed if self.record else -1

    @property
    def succeeded(self) -> bool:
        """Whether it did what was planned."""
        return self.status == SUCCEEDED

    @property
    def going_on(self) -> bool:
        """Whether more is to come."""
        return self.status in (RUNNING, WAITING)

    @property
    def planned_steps(self) -> int:
        """Steps that were planned; those that were made where nothing is known."""
        return self.record.planned_steps if self.record else self.history.steps

    @cached_property
    def settings(self) -> dict[str, str]:
        """The settings that say what was learnt, without the seed, names and places."""
        return {key: value for key, value in self.composed.items() if not NO_SETTING.match(key)}

    @cached_property
    def log_end(self) -> list[str]:
        """The last lines of the log."""
        return end_of_log(self.path)[-LOG_LINES:]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders, each under a label of its own: what sets its path apart from the others'."""
    return [read_run(path, label) for path, label in zip(paths, labels(paths), strict=True)]


def read_run(path: Path, label: str = "") -> Run:
    """Read a run's folder; a damaged or missing part is left out."""
    record = _record(path)
    given = record.overrides if record else _launch_overrides(path)
    overrides = dict(word.lstrip("+~").split("=", 1) for word in given if "=" in word)
    composed = read_yaml(path / COMPOSED)
    return Run(
        path=path,
        label=label or path.name,
        status=record.status if record else WAITING,
        record=record,
        overrides=overrides,
        composed=resolved(dict(flat(composed))) or overrides,
        defaults=resolved(dict(flat(read_yaml(path / DEFAULTS)))),
        study=study_plan(composed),
        history=history(numbered(path / METRICS)),
        config=read_yaml(path / TRINITY_CONFIG),
    )


def _record(path: Path) -> RunRecord | None:
    try:
        return RunRecord.load(path / RECORD)
    except (OSError, ValueError, TypeError):
        return None


def _launch_overrides(path: Path) -> list[str]:
    try:
        return list(json.loads((path / LAUNCH).read_text(encoding="utf-8"))["overrides"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
