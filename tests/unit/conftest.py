"""Fixtures of the command line's tests."""

from __future__ import annotations

import json

import pytest
from command_line import ROWS


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
