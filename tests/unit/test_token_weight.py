"""The factor on each expert token."""

from __future__ import annotations

import pytest
import torch
from loss_harness import PHI_NUMBERS, PLAIN_PHI

from chord_exp.plugins.token_weight import PHIS, TokenWeight, sft_loss

P = torch.tensor([[1e-6, 0.1, 0.5, 0.9, 1.0]], dtype=torch.float64)
# objectives whose gradient a factor is, as functions of p
OBJECTIVES = {
    "power": lambda p: (1 - p**2) / 2,
    "luffy_shaping": lambda p: -p / (p + 0.3),
}


@pytest.mark.parametrize("phi", PHIS)
def test_a_factor_is_its_formula(phi: str) -> None:
    weight = TokenWeight(phi, **PHI_NUMBERS)
    assert torch.allclose(weight(P.log()), PLAIN_PHI[phi](P), rtol=1e-9)


@pytest.mark.parametrize("phi", OBJECTIVES)
def test_a_factor_makes_the_gradient_of_the_paper_s_objective(phi: str) -> None:
    ours, theirs = P.log().requires_grad_(), P.log().requires_grad_()
    loss, _ = sft_loss(TokenWeight(phi, **PHI_NUMBERS), "seq-mean-token-sum", 1.0)(
        logprob=ours, action_mask=torch.ones_like(P).bool()
    )
    loss.backward()
    OBJECTIVES[phi](theirs.exp()).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-9)


def test_one_key_holds_sft_dft_and_the_tenth_power() -> None:
    for alpha in (0.0, 1.0, 10.0):
        assert torch.allclose(TokenWeight("power", power_alpha=alpha)(P.log()), P**alpha, rtol=1e-9)


def test_a_probability_that_rounding_put_above_one_has_a_factor() -> None:
    assert TokenWeight("focal", focal_gamma=0.5)(torch.tensor([1e-7])).tolist() == [0.0]
