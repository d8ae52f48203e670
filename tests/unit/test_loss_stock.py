"""Trinity's own `mix_chord` on verl >= 0.8: which arguments are exact, and that the published are not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_harness import CLIP, Case, full_batch, relative_error, train_step, trinity_loss

pytestmark = pytest.mark.filterwarnings("ignore")
HALF = {"mu_warmup_steps": 0, "mu_decay_steps": 0, "mu_peak": 0.5, "mu_valley": 0.5}


def stock_gradient(case: Case, sizes: dict[str, Any]) -> torch.Tensor:
    args = {
        **case.mu,
        **sizes,
        "clip_range": CLIP,
        "enable_phi_function": case.phi == "pq",
        "loss_agg_mode": case.mode,
    }
    return train_step(case, trinity_loss("mix_chord", args, case.mode))[0]


def exact_sizes(case: Case) -> dict[str, Any]:
    """What `loss=stock` gives to Trinity's class."""
    return {
        "use_dynamic_bsz": False,
        "ppo_mini_batch_size": 1,
        "ppo_micro_batch_size_per_gpu": 1,
        "ngpus_trainer": case.ranks,
        "train_batch_size_usual": case.usual,
        "train_batch_size_expert": case.expert,
    }


def published_sizes(case: Case) -> dict[str, Any]:
    """The upstream example's arguments, meant for the loss scale of verl < 0.8."""
    return exact_sizes(case) | {
        "use_dynamic_bsz": True,
        "ppo_mini_batch_size": case.rows,
        "ppo_micro_batch_size_per_gpu": 4,
    }


@settings(max_examples=15)
@given(
    ranks=st.integers(1, 3),
    usual=st.integers(1, 3),
    expert=st.integers(1, 3),
    token_budget=st.integers(1, 60),
    mode=st.sampled_from(["seq-mean-token-mean", "seq-mean-token-sum"]),
    phi=st.sampled_from(["none", "pq"]),
    seed=st.integers(0, 1000),
)
def test_the_exact_stock_arguments_meet_the_full_batch_when_ranks_divide_both_sides(
    ranks: int, usual: int, expert: int, token_budget: int, mode: str, phi: str, seed: int
) -> None:
    case = Case(
        usual=usual * ranks,
        expert=expert * ranks,
        ranks=ranks,
        micro_batch_rows=None,
        token_budget=token_budget,
        mode=mode,
        phi=phi,
        seed=seed,
        mu=HALF,
    )
    assert relative_error(stock_gradient(case, exact_sizes(case)), full_batch(case)[0]) < 1e-6


def test_the_exact_stock_arguments_meet_token_mean_only_when_the_batch_is_one_micro_batch() -> None:
    whole = Case(usual=6, expert=2, micro_batch_rows=8, mode="token-mean", mu=HALF)
    assert relative_error(stock_gradient(whole, exact_sizes(whole)), full_batch(whole)[0]) < 1e-6
    split = replace(whole, micro_batch_rows=2)
    assert relative_error(stock_gradient(split, exact_sizes(split)), full_batch(split)[0]) > 1e-2


def test_upstream_example_arguments_are_wrong_on_verl_0_8() -> None:
    """Fails when upstream drops the old actor's scale: `loss=stock` should then take the published ones."""
    case = Case(usual=24, expert=8, ranks=2, micro_batch_rows=None, token_budget=60, max_response=25, mu=HALF)
    gradient, truth = stock_gradient(case, published_sizes(case)), full_batch(case)[0]
    # the old actor divided by about the number of micro-batches; nothing does now
    assert float(gradient.norm() / truth.norm()) > 2
    direction = gradient / gradient.norm()
    assert relative_error(direction, truth / truth.norm()) > 1e-2  # and rows no longer weigh alike


def test_stock_logs_nan_for_one_sided_micro_batches_of_a_row_mode_though_its_gradient_is_right() -> None:
    """So a run of `loss=stock` cannot be judged by its logged losses; the exact loss logs numbers here."""
    case = Case(usual=3, expert=1, micro_batch_rows=1, mu=HALF)
    args = {**case.mu, **exact_sizes(case), "clip_range": CLIP, "enable_phi_function": False}
    loss = trinity_loss("mix_chord", args | {"loss_agg_mode": case.mode}, case.mode)
    gradient, metrics, _ = train_step(case, loss)
    assert relative_error(gradient, full_batch(case)[0]) < 1e-6
    assert math.isnan(metrics["actor/loss"])
    assert math.isnan(metrics["actor/usual/pg_loss"])


def test_stock_sizes_left_out_move_the_effective_mu() -> None:
    """The seed document's snippets leave the sizes at 1: each side is then summed, not averaged."""
    case = Case(usual=12, expert=4, micro_batch_rows=4, mu=HALF)
    gradient = stock_gradient(case, {})
    sides = [full_batch(replace(case, mu=HALF | {"mu_peak": mu, "mu_valley": mu}))[0] for mu in (0.0, 1.0)]
    assert relative_error(gradient, 0.5 * case.usual * sides[0] + 0.5 * case.expert * sides[1]) < 1e-6
