"""One step of the real trainer, however many ranks it has, is one step on the full batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from conftest import small_policy_change
from full_batch import FullBatch, first_batch, first_gradient


def full_batch(recorded, phi: bool = False, by_row: bool = False) -> FullBatch:
    return first_batch(recorded.run.folder / "trinity.yaml", recorded.database, phi, by_row)


def checkpoint(run_dir: Path) -> Path:
    (found,) = run_dir.glob("checkpoints/*/*/global_step_1")
    return found


@pytest.mark.parametrize(
    ("name", "ranks", "phi"), [("one_rank", 1, False), ("two_ranks", 2, False), ("four_ranks", 4, True)]
)
def test_the_gradient_of_a_step_is_that_of_the_full_batch(request, name: str, ranks: int, phi: bool) -> None:
    recorded = request.getfixturevalue(name)
    assert recorded.run.process.returncode == 0, recorded.output
    step = checkpoint(recorded.run.folder)
    assert len(list((step / "actor").glob("optim_world_*.pt"))) == ranks
    expected, gradient = full_batch(recorded, phi), first_gradient(step)
    assert gradient.shape == expected.gradient.shape
    assert float((gradient - expected.gradient).norm() / expected.gradient.norm()) < 1e-5
    run = recorded.run
    assert run.series("actor/usual/pg_loss")[1] == pytest.approx(expected.usual, abs=2e-6)
    sft = "actor/expert/sft_phi_loss" if phi else "actor/expert/sft_loss"
    assert run.series(sft)[1] == pytest.approx(expected.expert, abs=2e-6)
    assert run.series("actor/loss")[1] == pytest.approx(expected.loss, abs=2e-6)
    # verl logs it before clipping, which is off here
    assert run.series("actor/grad_norm")[1] == pytest.approx(float(expected.gradient.norm()), rel=1e-3)


def test_trinitys_own_loss_is_that_of_the_full_batch_by_rows(stock) -> None:
    assert stock.run.process.returncode == 0, stock.output
    expected = full_batch(stock, by_row=True)
    gradient = first_gradient(checkpoint(stock.run.folder))
    assert float((gradient - expected.gradient).norm() / expected.gradient.norm()) < 1e-5


def test_trinitys_own_loss_logs_numbers(stock) -> None:
    for row in stock.run.rows:
        for key, value in row.items():
            assert not isinstance(value, float) or math.isfinite(value), key


@pytest.mark.parametrize("name", ["one_rank", "two_ranks", "four_ranks"])
def test_the_engine_and_the_trainer_agree_on_log_probabilities(request, name: str) -> None:
    recorded = request.getfixturevalue(name)
    assert full_batch(recorded, phi=name == "four_ranks").disagreement < 1e-4
    assert small_policy_change(recorded.run)
