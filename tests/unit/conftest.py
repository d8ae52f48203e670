"""Fixtures of the command line's tests."""

from __future__ import annotations

import json
import logging
from contextlib import closing, nullcontext

import pytest
from command_line import ROWS
from fake_machines import FakeMachines, classify_by_code

from chord_exp.sweep.scheduling.backend import Exit
from chord_exp.sweep.scheduling.resources import Node
from chord_exp.sweep.scheduling.scheduler import Scheduler


@pytest.fixture(autouse=True)
def _log_level_as_before():
    """Hydra, run in this process, raises the level of the root logger for good: later tests would miss warnings."""
    before = logging.getLogger().level
    yield
    logging.getLogger().setLevel(before)


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
        launch.save(run_dir)
        outcome = codes.pop(0) if codes else 0
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr("chord_exp.launch.run.run_experiment", run_experiment)
    monkeypatch.setattr("chord_exp.launch.driver.warm_server.warm_server", lambda **_: nullcontext())
    run_experiment.calls, run_experiment.codes = calls, codes
    return run_experiment


@pytest.fixture
def machine(monkeypatch):
    """Replaces the machine on which the trials of a sweep run by a simulated one of one core; `codes` are the exit
    codes of the trials in order, 0 where none is left."""
    codes: list[int] = []
    backend = FakeMachines([Node("simulated", cpus=1, memory=64)], lambda trial: 1.0, lambda trial: Exit(_next(codes)))
    backend.codes = codes
    monkeypatch.setattr("chord_exp.sweep.run.make_backend", lambda settings, folder, sweep_id: closing(backend))
    monkeypatch.setattr(
        "chord_exp.sweep.run.Scheduler", lambda backend, limits: Scheduler(backend, limits, classify=classify_by_code)
    )
    return backend


def _next(codes: list[int]) -> int:
    return codes.pop(0) if codes else 0
