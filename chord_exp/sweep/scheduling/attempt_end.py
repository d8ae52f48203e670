"""How an attempt ended and what follows, from the exit of its process and the files that it left."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from chord_exp.errors import BAD_INPUT, INTERRUPTED
from chord_exp.run_files import record
from chord_exp.run_files.causes import is_machine_fault
from chord_exp.run_files.names import LOGS, RECORD
from chord_exp.run_files.record import RunRecord
from chord_exp.sweep.scheduling.backend import Exit
from chord_exp.sweep.scheduling.trial import FAILED, STOPPED, SUCCEEDED, Trial
from chord_exp.utils.files import write_atomically


@dataclass(frozen=True)
class ExitReport:
    """What the worker of a trial says about its own end; `logs/end.json`."""

    attempt: int
    # the exit code of the run
    code: int
    # one line where the run was refused before it had a record
    error: str = ""

    @staticmethod
    def path(run_dir: Path) -> Path:
        """Return where it lies in a trial's folder."""
        return run_dir / LOGS / "end.json"

    def save(self, run_dir: Path) -> None:
        """Write it whole or not at all."""
        write_atomically(self.path(run_dir), json.dumps(asdict(self)))

    @classmethod
    def load(cls, run_dir: Path, attempt: int) -> ExitReport | None:
        """Read that of an attempt; None if it died without."""
        try:
            end = cls(**json.loads(cls.path(run_dir).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return end if end.attempt == attempt else None


@dataclass(frozen=True)
class AttemptEnd:
    """What became of an attempt."""

    # succeeded, failed or stopped
    state: str
    error: str = ""
    # not the experiment's doing: trying again may help
    infra_failure: bool = False


def classify_attempt(trial: Trial, left: Exit) -> AttemptEnd:
    """Decide how the trial's current attempt ended. Exit codes count only where the files say nothing."""
    run, end = read_record(trial.run_dir), ExitReport.load(trial.run_dir, trial.attempt)
    if run is not None and run.status == record.SUCCEEDED:
        return AttemptEnd(SUCCEEDED)
    code = end.code if end is not None else left.code
    if end is None and code == 0:
        return AttemptEnd(FAILED, "its process ended without a result; see logs/trial.log", infra_failure=True)
    if end is None:
        how = left.fault or ("" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}")
        return AttemptEnd(FAILED, f"its process died ({how or 'nobody saw how'})", infra_failure=True)
    if code == INTERRUPTED:
        return AttemptEnd(STOPPED, "stopped before it was done")
    if code == BAD_INPUT:
        return AttemptEnd(FAILED, end.error)
    if run is not None and run.status == record.FAILED and run.error is not None:
        return AttemptEnd(FAILED, run.error.what, infra_failure=is_machine_fault(run.error))
    return AttemptEnd(FAILED, end.error or f"exit code {code}; see logs/trial.log")


def read_record(run_dir: Path) -> RunRecord | None:
    """Read the record of the trial's run; None before there is one that can be read."""
    try:
        return RunRecord.load(run_dir / RECORD)
    except (OSError, ValueError, TypeError):
        return None
