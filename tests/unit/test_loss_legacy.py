"""The exact losses under the actor of verl < 0.8, which scales the loss of each micro-batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from loss_harness import (
    CLIP,
    PHI_NUMBERS,
    Case,
    cases,
    full_batch,
    log_probs,
    no_padding,
    policy,
    relative_error,
    sample_batch,
)
from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import append_to_dict
from verl.workers.engine.utils import prepare_micro_batches
from verl.workers.utils.padding import no_padding_2_padding

from chord_exp.plugins.loss import ExactCHORDLoss

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def old_verl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trinity.trainer.trainer.is_verl_legacy", lambda: True)


def chord_loss(case: Case, **more: Any) -> ExactCHORDLoss:
    return ExactCHORDLoss(
        usual_rows=case.usual,
        expert_rows=case.expert,
        data_parallel_size=case.ranks,
        clip_range=CLIP,
        phi=case.phi,
        **PHI_NUMBERS,
        loss_agg_mode=case.mode,
        **case.mu,
        **more,
    )


def legacy_step(case: Case, loss_fn: ExactCHORDLoss) -> tuple[torch.Tensor, dict[str, float]]:
    """Gradient and logged values as `trinity/trainer/verl_legacy/dp_actor.py` makes them, rank by rank."""
    gradients = []
    gathered: dict[str, Any] = {}
    rank_rows = case.rows // case.ranks  # the actor's own ppo_mini_batch_size
    for part in sample_batch(case).chunk(case.ranks):
        table = policy(case)
        for micro_batch in prepare_micro_batches(no_padding(part, case, case.ranks))[0]:
            inputs = {key: micro_batch[key] for key in loss_fn.select_keys}
            inputs["response_mask"] = inputs["response_mask"].bool()
            logprob = no_padding_2_padding(log_probs(table, micro_batch), micro_batch)
            loss, metrics = loss_fn(logprob=logprob, **inputs)
            if case.micro_batch_rows is None:
                loss_scale = len(logprob) / rank_rows
            else:
                loss_scale = 1.0 / (rank_rows // case.micro_batch_rows)
            (loss * loss_scale).backward()
            append_to_dict(gathered, metrics)
        gradients.append(table.grad)
    return torch.stack(gradients).mean(0), reduce_metrics(gathered)


@settings(max_examples=30)
@given(case=cases())
def test_gradient_equals_the_full_batch_under_the_old_actors_scale(case: Case) -> None:
    gradient, metrics = legacy_step(case, chord_loss(case, legacy_actor=True))
    true_gradient, true_metrics = full_batch(case)
    assert relative_error(gradient, true_gradient) < 1e-6
    if case.micro_batch_rows is not None:  # the old actor averages plain numbers: true for equal micro-batches
        got = {key: metrics[key.removeprefix("actor/")] for key in true_metrics}
        assert got == pytest.approx(true_metrics, rel=1e-6, abs=1e-9)


@pytest.mark.usefixtures("old_verl")
def test_old_verl_is_detected_and_gets_plain_numbers_and_only_tensor_keys() -> None:
    case = Case(usual=4, expert=4, ranks=2, micro_batch_rows=2)
    loss_fn = chord_loss(case)
    assert not {"dp_size", "global_batch_size"} & set(loss_fn.select_keys)
    gradient, metrics = legacy_step(case, loss_fn)
    assert relative_error(gradient, full_batch(case)[0]) < 1e-6
    assert all(isinstance(value, float) for value in metrics.values())


@pytest.mark.usefixtures("old_verl")
def test_a_trainer_of_ones_own_on_old_verl_is_not_scaled() -> None:
    case = Case(usual=4, expert=4)
    assert chord_loss(case, legacy_actor=False).geometry.undo_trainer_scale(2) == 1.0
    assert chord_loss(case).geometry.undo_trainer_scale(2) == 4.0
