"""How much each expert token counts: phi, the factor on its -log p, p being its probability under the model now.

| phi | factor | where from |
|---|---|---|
| `none` | 1 | SFT |
| `pq` | p (1 - p) | CHORD-phi, 2508.11408 |
| `power` | p^alpha | gradient of (1 - p^alpha) / alpha, 2510.00526: 0 is SFT, 1 DFT (2508.05629), 10 its "-p^10" |
| `focal` | (1 - p)^gamma | the factor of the focal loss, 1708.02002; here without a gradient of its own |
| `luffy_shaping` | gamma p / (p + gamma)^2 | gradient of p / (p + gamma), LUFFY's policy shaping, 2504.14945 |

The numbers are arXiv's. The factor carries no gradient. `luffy_shaping` is that one function: LUFFY also puts the
expert's answer into the group of rollouts and takes the advantage from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trinity.algorithm.policy_loss_fn.chord_policy_loss import SFTPhiLossFn, phi_function
from trinity.algorithm.policy_loss_fn.policy_loss_fn import PolicyLossFn
from trinity.algorithm.policy_loss_fn.sft_loss import SFTLossFn
from trinity.algorithm.utils import aggregate_loss

NONE, PQ, POWER, FOCAL, LUFFY_SHAPING = "none", "pq", "power", "focal", "luffy_shaping"
PHIS = (NONE, PQ, POWER, FOCAL, LUFFY_SHAPING)
NUMBER_OF = {POWER: "power_alpha", FOCAL: "focal_gamma", LUFFY_SHAPING: "luffy_gamma"}


@dataclass(frozen=True)
class TokenWeight:
    """The factor as a function of log-probabilities; a class, since Trinity pickles a loss.

    Raises:
        ValueError: phi is not known, or its number is missing or out of range.
    """

    # one of PHIS
    phi: str = NONE
    # alpha of `power`, 0 or more; each number is read by the phi of its name only
    power_alpha: float | None = None
    # gamma of `focal`, 0 or more
    focal_gamma: float | None = None
    # gamma of `luffy_shaping`, above 0
    luffy_gamma: float | None = None

    def __post_init__(self) -> None:
        if self.phi not in PHIS:
            raise ValueError(f"policy_loss_fn_args.phi is {self.phi!r}: use one of {', '.join(PHIS)}")
        name = NUMBER_OF.get(self.phi)
        if name is None:
            return
        value: Any = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
        if not number or (self.phi == LUFFY_SHAPING and value == 0):
            least = "above 0" if self.phi == LUFFY_SHAPING else "0 or more"
            raise ValueError(f"policy_loss_fn_args.{name} is {value!r}: must be a number, {least}")

    def __call__(self, logprob: torch.Tensor) -> torch.Tensor:
        """Return the factors of tokens with these log-probabilities, of the same shape."""
        if self.phi == PQ:
            return phi_function(logprob.exp())
        if self.phi == NONE:
            return torch.ones_like(logprob)
        number = float(getattr(self, NUMBER_OF[self.phi]))
        if self.phi == POWER:
            return (number * logprob).exp()
        if self.phi == FOCAL:
            # 1 - p without the cancellation of a p near 1; rounding may put p above it
            return (-torch.expm1(logprob)).clamp(min=0) ** number
        return number * logprob.exp() / (logprob.exp() + number) ** 2


def sft_loss(weight: TokenWeight, mode: str, cutoff_prob: float) -> PolicyLossFn:
    """Return the loss of expert rows: Trinity's own where it has one."""
    if weight.phi == NONE:
        return SFTLossFn(loss_agg_mode=mode)
    if weight.phi == PQ:
        return SFTPhiLossFn(loss_agg_mode=mode, cutoff_prob=cutoff_prob)
    return WeightedSFTLoss(weight, mode)


class WeightedSFTLoss(PolicyLossFn):
    """-log p of each expert token times its factor, as Trinity's `SFTPhiLossFn` has it for p (1 - p)."""

    def __init__(self, weight: TokenWeight, loss_agg_mode: str) -> None:
        super().__init__(backend="verl")
        self.weight, self.loss_agg_mode = weight, loss_agg_mode

    def __call__(
        self, logprob: torch.Tensor, action_mask: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the mean of the weighted token losses (b, response length), and what to log."""
        values = -logprob * self.weight(logprob.detach())
        loss = aggregate_loss(values, action_mask, loss_agg_mode=self.loss_agg_mode)
        return loss, {"sft_phi_loss": loss.detach().item()}

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        """There are none: the exact losses make it."""
        return {}
