"""Fixtures of the command line's tests."""

from __future__ import annotations

import functools
import json
import logging
from contextlib import nullcontext

import pytest
from command_line import ROWS

from chord_exp.sweep import worker
from chord_exp.sweep.backend import Exit
from chord_exp.sweep.ledger import Node
from chord_exp.sweep.scheduler import Scheduler
from chord_exp.sweep.simulated import Simulated, judge_by_code


@pytest.fixture(autouse=True)
def root_logger_as_before():
    """Hydra's logging `disabled` leaves the root logger at ERROR: no test after it would see a warning."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder with a small folder of SFT data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    (tmp_path / "sft_data").mkdir()
    (tmp_path / "sft_data" / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """Replaces the training itself; records what it was asked to run and returns the codes it is given."""
    calls, codes = [], []

    def run_experiment(launch, run_dir):
        calls.append((launch, run_dir))
        outcome = codes.pop(0) if codes else 0
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr("chord_exp.launch.run.run_experiment", run_experiment)
    run_experiment.calls, run_experiment.codes = calls, codes
    return run_experiment


@pytest.fixture
def swept(monkeypatch, started):
    """Carries out the trials of a sweep in this process, one after another, with `started` in place of the training.

    The worker reads the folder that the launcher wrote, as the process of a trial would.
    """

    def attempt(trial):
        code, _ = worker._attempt(trial.run_dir)
        return Exit(code)

    def place(settings, folder, sweep_id):
        return nullcontext(Simulated([Node("here", 8, 1000, 1000)], lambda trial: 1.0, attempt))

    monkeypatch.setattr("chord_exp.sweep.carry_out.make_backend", place)
    monkeypatch.setattr("chord_exp.sweep.carry_out.Scheduler", functools.partial(Scheduler, judge=judge_by_code))
    return started
