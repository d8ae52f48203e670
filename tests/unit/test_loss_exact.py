"""The exact losses equal one full-batch computation on verl >= 0.8, for any geometry and any split."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_harness import CLIP, PHI_NUMBERS, Case, cases, full_batch, relative_error, train_step, trinity_loss
from trinity.trainer.verl.losses import TrinityPolicyLoss

pytestmark = pytest.mark.filterwarnings("ignore")


def exact_loss(case: Case) -> TrinityPolicyLoss:
    args: dict = {"data_parallel_size": case.ranks, "loss_agg_mode": case.mode}
    if case.usual:
        args |= {"usual_rows": case.usual, "clip_range": CLIP}
    if case.expert:
        args |= {"expert_rows": case.expert}
    if case.usual and case.expert:
        args |= case.mu if case.rule is None else {"mu_source": case.rule["mu_source"]}
        args |= {"phi": case.phi, **PHI_NUMBERS}
        return trinity_loss("chord_exp.plugins.loss.ExactCHORDLoss", args, case.mode)
    if case.expert:
        args |= {"phi": case.phi, **PHI_NUMBERS}
    name = "ExactGRPOLoss" if case.usual else "ExactSFTLoss"
    return trinity_loss(f"chord_exp.plugins.loss.{name}", args, case.mode)


def assert_exact(case: Case) -> None:
    gradient, metrics, _ = train_step(case, exact_loss(case))
    true_gradient, true_metrics = full_batch(case)
    assert relative_error(gradient, true_gradient) < 1e-6
    got = {key: metrics[key] for key in true_metrics}
    assert got == pytest.approx(true_metrics, rel=1e-6, abs=1e-9)


@settings(max_examples=50)
@given(cases())
def test_chord_gradient_and_logged_values_equal_the_full_batch_for_any_geometry(case: Case) -> None:
    assert_exact(case)


@settings(max_examples=15)
@given(cases(expert=False))
def test_grpo_baseline_has_the_same_normalisation(case: Case) -> None:
    assert_exact(case)


@settings(max_examples=15)
@given(cases(usual=False))
def test_sft_baseline_has_the_same_normalisation(case: Case) -> None:
    assert_exact(case)


RULES = [
    {"mu_source": "reward", "reward_tau": 0.8},
    {"mu_source": "batch_gate", "gate_gamma": 0.0},
    {"mu_source": "gac_estimate", "gac_alpha": 0.7, "gac_beta": 0.9},
]


@settings(max_examples=30)
@given(cases(), st.sampled_from(RULES))
def test_a_mu_that_follows_from_the_batch_weighs_as_exactly(case: Case, rule: dict[str, Any]) -> None:
    assert_exact(replace(case, rule=rule))


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum"])
@pytest.mark.parametrize(("usual", "expert"), [(3, 1), (1, 3)])
def test_one_sided_micro_batches_give_no_nan(mode: str, usual: int, expert: int) -> None:
    case = Case(usual=usual, expert=expert, ranks=2, micro_batch_rows=1, mode=mode, shuffle=False)
    gradient, metrics, micro_batches = train_step(case, exact_loss(case))
    assert micro_batches == 2  # of one row each, so every one of them is one-sided
    assert gradient.isfinite().all()
    assert all(math.isfinite(value) for value in metrics.values())
    assert_exact(case)


def test_the_harness_draws_several_micro_batches_and_mixed_ones() -> None:
    """Guards the tests above against splitting nothing."""
    dynamic = Case(usual=12, expert=4, ranks=2, micro_batch_rows=None, token_budget=20)
    fixed = Case(usual=12, expert=4, ranks=2, micro_batch_rows=4)
    assert train_step(dynamic, exact_loss(dynamic))[2] >= 3
    assert train_step(fixed, exact_loss(fixed))[2] == 2


def test_effective_weight_of_each_side_is_one_minus_mu_and_mu() -> None:
    base = Case(usual=18, expert=6, ranks=3, micro_batch_rows=None, token_budget=25)
    for mu in (0.0, 0.25, 1.0):
        case = replace(base, mu=base.mu | {"mu_peak": mu, "mu_valley": mu})
        gradient, metrics, _ = train_step(case, exact_loss(case))
        assert metrics["actor/mu"] == pytest.approx(mu)
        sides = []
        for only in (0.0, 1.0):
            one_sided = replace(base, mu=base.mu | {"mu_peak": only, "mu_valley": only})
            sides.append(full_batch(one_sided)[0])
        assert relative_error(gradient, (1 - mu) * sides[0] + mu * sides[1]) < 1e-6
