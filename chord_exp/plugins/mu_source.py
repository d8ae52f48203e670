"""Where mu comes from when not from a schedule: rules that look at the batch, or at the step before.

| mu_source | mu of a step | where from |
|---|---|---|
| `reward` | max(0, tau - mean reward of the step's rollouts) | adaptive mu in CHORD's ablations, 2508.11408 |
| `batch_gate` | share of the step's prompts whose mean reward is gamma or less | HPT's gate, 2509.04419 |
| `gac_estimate` | (alpha D + R) / (D + S + R), averages over the steps before | GAC's closed form, 2605.26184 |

The numbers are arXiv's.

`batch_gate`: HPT trains a prompt by SFT alone where its rollouts fail, and by RL alone elsewhere. It needs an expert's
answer to the same prompt. Here expert rows have prompts of their own, and the share of the prompts that HPT would send
to SFT weighs the whole batch.

`gac_estimate`: R is the variance of the rollouts' advantages (one number a row: its token mean), S the variance of the
expert rows' mean -log p, D the mean over all rows of the token mean of (A - phi(p))^2, A the advantage (0 on expert
rows) and phi the factor on expert tokens. They are moving averages with the factor `beta`, and follow from what the
loss logged, so the first step has mu = alpha. GAC itself also trims S, mixes in a schedule, limits the change of mu in
a step, and moves alpha by the KL divergence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch

SCHEDULE, REWARD, BATCH_GATE, GAC_ESTIMATE = "schedule", "reward", "batch_gate", "gac_estimate"
MU_SOURCES = (SCHEDULE, REWARD, BATCH_GATE, GAC_ESTIMATE)
# what the loss logs for `gac_estimate`, means over the batch
ADVANTAGE, ADVANTAGE_SQUARE = "gac/advantage", "gac/advantage_square"
NLL, NLL_SQUARE, DISAGREEMENT = "gac/nll", "gac/nll_square", "gac/disagreement"
# under which the trainers log what a loss returns
_LOGGED = "actor/{}"


def reward_mu(rewards: Iterable[float], tau: float) -> float:
    """Return max(0, tau - mean reward), at most 1."""
    return min(1.0, max(0.0, tau - fmean(rewards)))


def batch_gate_mu(groups: Iterable[Sequence[float]], gamma: float) -> float:
    """Return the share of prompts whose mean reward is `gamma` or less, from the rewards of each prompt's rollouts."""
    return fmean(fmean(rewards) <= gamma for rewards in groups)


def gac_mu(alpha: float, disagreement: float, sft_variance: float, rl_variance: float) -> float:
    """Return the mu that minimises (mu - alpha)^2 D + mu^2 S + (1 - mu)^2 R; alpha where all three are 0."""
    total = disagreement + sft_variance + rl_variance
    return (alpha * disagreement + rl_variance) / total if total > 0 else alpha


class MuSource:
    """The rule of a run, with what it remembers.

    Args:
        kind: one of MU_SOURCES but `schedule`.
        numbers: reward_tau, gate_gamma, or gac_alpha and gac_beta.

    Raises:
        ValueError: the rule is not known, or a number of it is missing or out of [0, 1].
    """

    def __init__(self, kind: str, numbers: Mapping[str, Any]) -> None:
        names = {REWARD: ("reward_tau",), BATCH_GATE: ("gate_gamma",), GAC_ESTIMATE: ("gac_alpha", "gac_beta")}
        if kind not in names:
            raise ValueError(f"sample_strategy_args.mu_source is {kind!r}: use one of {', '.join(names)}")
        for name in names[kind]:
            value = numbers.get(name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"sample_strategy_args.{name} is {value!r}: must be a number from 0 to 1")
        self.kind = kind
        self.numbers = {name: float(numbers[name]) for name in names[kind]}
        # gac_estimate: D, S and R
        self.averages: list[float] | None = None

    def mu(self, rewards: Sequence[tuple[Any, float]]) -> float:
        """Return the mu of a step.

        Args:
            rewards: prompt and reward of each of its rollouts.
        """
        if self.kind == REWARD:
            return reward_mu([reward for _, reward in rewards], self.numbers["reward_tau"])
        if self.kind == BATCH_GATE:
            groups: dict[Any, list[float]] = defaultdict(list)
            for prompt, reward in rewards:
                groups[prompt].append(reward)
            return batch_gate_mu(groups.values(), self.numbers["gate_gamma"])
        alpha = self.numbers["gac_alpha"]
        return alpha if self.averages is None else gac_mu(alpha, *self.averages)

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """Take in what was logged of a step.

        Args:
            metrics: of the trainer.

        Raises:
            KeyError: the loss did not log what the rule needs.
        """
        if self.kind != GAC_ESTIMATE:
            return
        seen = {name: float(metrics[_LOGGED.format(name)]) for name in _GAC_NAMES}
        now = [
            seen[DISAGREEMENT],
            max(0.0, seen[NLL_SQUARE] - seen[NLL] ** 2),
            max(0.0, seen[ADVANTAGE_SQUARE] - seen[ADVANTAGE] ** 2),
        ]
        beta = self.numbers["gac_beta"]
        before = self.averages or now
        self.averages = [beta * old + (1 - beta) * new for old, new in zip(before, now, strict=True)]


_GAC_NAMES = (ADVANTAGE, ADVANTAGE_SQUARE, NLL, NLL_SQUARE, DISAGREEMENT)


@torch.no_grad()
def gac_statistics(
    fields: Mapping[str, torch.Tensor], is_expert: torch.Tensor, phi: torch.Tensor, usual_rows: int, expert_rows: int
) -> dict[str, float]:
    """Return a micro-batch's share of the full batch's means that `gac_estimate` needs; they add up.

    Args:
        fields: logprob, advantages and action_mask, each (b, response length).
        is_expert: (b,).
        phi: the factor on expert tokens, for all rows; (b, response length).
        usual_rows, expert_rows: in the full batch.
    """
    mask = fields["action_mask"].to(fields["logprob"].dtype)
    tokens = mask.sum(dim=-1).clamp(min=1)

    def of_rows(values: torch.Tensor) -> torch.Tensor:
        return (torch.where(mask.bool(), values, 0.0) * mask).sum(dim=-1) / tokens

    advantages = torch.where(is_expert[:, None], 0.0, fields["advantages"])
    advantage = of_rows(advantages)[~is_expert]
    nll = of_rows(-fields["logprob"])[is_expert]
    disagreement = of_rows((advantages - phi) ** 2)
    return {
        ADVANTAGE: float(advantage.sum()) / usual_rows,
        ADVANTAGE_SQUARE: float((advantage**2).sum()) / usual_rows,
        NLL: float(nll.sum()) / expert_rows,
        NLL_SQUARE: float((nll**2).sum()) / expert_rows,
        DISAGREEMENT: float(disagreement.sum()) / (usual_rows + expert_rows),
    }
