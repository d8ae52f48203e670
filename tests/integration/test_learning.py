"""The default experiment learns, by both of its signals."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from running import Run

from chord_exp.run_files import metrics


def default_run(folder: Path, *overrides: str) -> Run:
    """The experiment of `make run`, untouched."""
    command = [sys.executable, "-m", "chord_exp", f"hydra.run.dir={folder}", *overrides]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=dict(os.environ))
    assert result.returncode == 0, result.stdout + result.stderr
    return Run(folder, None)


def gain(run: Run) -> float:
    """Points of held-out accuracy between the base model and the trained one, as a share."""
    accuracy = run.series(metrics.ACCURACY)
    return accuracy[max(accuracy)] - accuracy[0]


def check_signals(run: Run) -> None:
    reward = list(run.series(metrics.REWARD).values())
    assert 0 < statistics.mean(reward) < 1
    assert len(set(reward)) > 5
    # within a prompt group too: equal rewards teach GRPO nothing
    spread = list(run.series(metrics.GROUP_REWARD_STD_MAX).values())
    assert sum(value > 0 for value in spread) > len(spread) / 2
    assert sum(run.series(metrics.TRUNCATED_PROMPTS).values()) == 0
    mu = run.series(metrics.MU)
    assert max(mu.values()) == pytest.approx(0.6, abs=0.02)
    assert mu[max(mu)] == pytest.approx(0.05)
    sft = list(run.series("actor/expert/sft_loss").values())
    assert statistics.mean(sft[-10:]) < statistics.mean(sft[:10])


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_the_default_run_learns_from_both_signals_twenty_points_in_the_median_of_three_seeds(
    tmp_path: Path,
) -> None:
    runs = [default_run(tmp_path / str(seed), f"seed={seed}", f"data.seed={seed}") for seed in (1, 2, 3)]
    for run in runs:
        check_signals(run)
    assert statistics.median(map(gain, runs)) >= 0.2
