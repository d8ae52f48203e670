"""CHORD, GRPO and SFT losses whose weights are exact on every trainer: Trinity plug-ins by dotted path.

    algorithm:
      policy_loss_fn: chord_exp.plugins.loss.ExactCHORDLoss
      policy_loss_fn_args: {usual_rows: 256, expert_rows: 64, data_parallel_size: 4, clip_range: 0.2, ...}

The gradient of a step is that of L = (1 - mu) * L_GRPO + mu * L_SFT (CHORD, arXiv 2508.11408), each term
one mean over the whole batch as `chord_exp.plugins.loss_weights` defines it for the chosen `loss_agg_mode`,
whatever the split into micro-batches (fixed or dynamic, one-sided ones included) and ranks. Per-token
losses, the mu schedule and phi are Trinity's own. The baselines are the same objective at mu = 0 (GRPO) and
mu = 1 (SFT), and log under the same names.

How this relates to Trinity's `mix_chord`: the stock class takes the mode's mean within a micro-batch and
weighs it by rows, for the actor of verl < 0.8. In the row modes that is the objective above, which the
stock class meets exactly on verl >= 0.8 with `use_dynamic_bsz: false, ppo_mini_batch_size: 1,
ppo_micro_batch_size_per_gpu: 1, ngpus_trainer: D`, the true U and E, and D dividing both. In `token-mean`,
the stock default, the stock objective follows the split: rows weigh alike when each micro-batch is one row,
tokens weigh alike when it is the whole batch. Here `token-mean` always weighs the tokens of a side alike.

Terms that Trinity adds outside a policy loss (`kl_loss_fn`, `entropy_loss_fn`) are not weighted here: set
them to none. The actor of verl < 0.8 is undone exactly with FSDP, and with Megatron when `use_dynamic_bsz`
is false.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from trinity.algorithm.policy_loss_fn.chord_policy_loss import SFTPhiLossFn, mu_schedule_function
from trinity.algorithm.policy_loss_fn.policy_loss_fn import PolicyLossFn
from trinity.algorithm.policy_loss_fn.ppo_policy_loss import PPOPolicyLossFn
from trinity.algorithm.policy_loss_fn.sft_loss import SFTLossFn

from chord_exp.plugins.loss_metrics import loggable, reduce_micro_batch_metrics
from chord_exp.plugins.loss_weights import (
    ROW_MEAN,
    TOKEN_MEAN,
    BatchGeometry,
    clip_arguments,
    exact_mode,
    mu_arguments,
    positive_int,
    side_share,
)

__all__ = ["ExactCHORDLoss", "ExactGRPOLoss", "ExactSFTLoss", "reduce_micro_batch_metrics"]

# verl >= 0.8 puts these beside the rows of every micro-batch; the actor of verl < 0.8 has no such entries.
TRAINER_SIZES = ("dp_size", "global_batch_size")


class _Side:
    """One term of the loss: Trinity's own loss function, for the rows of one side of the batch."""

    def __init__(self, prefix: str, loss_fn: PolicyLossFn, mode: str, rows: int) -> None:
        self.loss_fn, self.mode, self.rows = loss_fn, mode, rows
        empty = torch.zeros(1, 1)
        _, metrics = loss_fn(logprob=empty, old_logprob=empty, action_mask=empty.bool(), advantages=empty)
        self.log_names = {name: f"{prefix}/{name}" for name in metrics}

    def __call__(
        self, tensors: dict[str, torch.Tensor], side_tokens: torch.Tensor | None, scale: float
    ) -> tuple[torch.Tensor | None, dict[str, float]]:
        """Weighted loss and metrics of the side's rows in a micro-batch; None and zeros when it has none.

        Every micro-batch logs the same keys, since verl lines up the values of all ranks by micro-batch.
        """
        mask = tensors["action_mask"]
        if not len(mask):
            return None, dict.fromkeys(self.log_names.values(), 0.0)
        weight = side_share(self.mode, mask, self.rows, side_tokens) * scale
        loss, metrics = self.loss_fn(**tensors)
        if self.mode != TOKEN_MEAN and len(metrics) > 1:
            metrics = self._row_mean(tensors)
        return loss * weight, {self.log_names[name]: value * weight for name, value in metrics.items()}

    @torch.no_grad()
    def _row_mean(self, tensors: dict[str, torch.Tensor]) -> dict[str, float]:
        """Metrics as a mean over rows: Trinity's are token means over all rows given, so follow the split."""
        rows = len(tensors["action_mask"])
        totals = dict.fromkeys(self.log_names, 0.0)
        for row in range(rows):
            _, metrics = self.loss_fn(**{key: value[row : row + 1] for key, value in tensors.items()})
            for name, value in metrics.items():
                totals[name] += value / rows
        return totals


class _ExactWeighting:
    """What the three losses share: the batch's sizes, the selected fields, the sum of the weighted sides."""

    _select_keys: list[str]  # of each class by Trinity's metaclass, from the parameters of __call__

    def _set_up(self, rows: int, data_parallel_size: int | None, legacy_actor: bool | None, modes: set[str]) -> None:
        if legacy_actor is None:
            from trinity.trainer.trainer import is_verl_legacy

            legacy_actor = is_verl_legacy()
        self.geometry = BatchGeometry(rows, positive_int("data_parallel_size", data_parallel_size), legacy_actor)
        absent = set(TRAINER_SIZES) if legacy_actor else set()
        if TOKEN_MEAN not in modes:
            absent.add("side_tokens")
        self._select_keys = [key for key in type(self)._select_keys if key not in absent]

    def _sum(
        self, weighted: list[tuple[float, torch.Tensor | None]], parts: dict[str, float], mu: float
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        loss = torch.stack([weight * term for weight, term in weighted if term is not None]).sum()
        additive = {**parts, "loss": loss.detach().item()}
        return loss, loggable(additive, {"mu": mu}, legacy_actor=self.geometry.legacy_actor)

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        """The constructor's own defaults. Sizes have none: the constructor refuses to guess them."""
        parameters = list(inspect.signature(cls).parameters.values())
        return {p.name: p.default for p in parameters if p.name != "backend" and p.default is not None}


class ExactCHORDLoss(_ExactWeighting, PolicyLossFn):
    """L = (1 - mu) * GRPO over the U usual rows + mu * SFT (or SFT-phi) over the E expert rows.

    Args:
        backend: Trinity's name for the trainer's key convention.
        usual_rows: U, rollouts in the full batch (prompts per step x rollouts per prompt).
        expert_rows: E, expert rows in the full batch.
        data_parallel_size: D, trainer GPUs / sequence-parallel size.
        mu_warmup_steps, mu_decay_steps, mu_peak, mu_valley: Trinity's schedule; its first step is 1.
        enable_phi_function: weight each expert token by p(1 - p) (CHORD-phi).
        cutoff_prob: with phi, no loss beyond this token probability (1.0: off).
        clip_range, clip_range_low, clip_range_high: PPO clip of the GRPO term; one value, or both ends.
        loss_agg_mode: full-batch mean of both sides, one of loss_weights.EXACT_MODES.
        sft_loss_agg_mode, grpo_loss_agg_mode: that of one side, where it differs.
        legacy_actor: whether the trainer scales losses as verl < 0.8 does. None asks the installed verl; a
            trainer of one's own, next to an old verl, passes False.

    Raises:
        ValueError: an argument is missing or out of range, or the mode cannot be met exactly; on verl >= 0.8
            also, at the first step, when the trainer's ranks or rows are not the given ones.
    """

    def __init__(
        self,
        backend: str = "verl",
        usual_rows: int | None = None,
        expert_rows: int | None = None,
        data_parallel_size: int | None = None,
        mu_warmup_steps: int | None = None,
        mu_decay_steps: int | None = None,
        mu_peak: float | None = None,
        mu_valley: float | None = None,
        enable_phi_function: bool = False,
        cutoff_prob: float = 1.0,
        clip_range: float | None = None,
        clip_range_low: float | None = None,
        clip_range_high: float | None = None,
        loss_agg_mode: str = ROW_MEAN,
        sft_loss_agg_mode: str | None = None,
        grpo_loss_agg_mode: str | None = None,
        legacy_actor: bool | None = None,
    ) -> None:
        PolicyLossFn.__init__(self, backend=backend)
        usual = positive_int("usual_rows", usual_rows)
        expert = positive_int("expert_rows", expert_rows)
        self.mu_schedule = mu_arguments(mu_warmup_steps, mu_decay_steps, mu_peak, mu_valley)
        if not 0.0 < cutoff_prob <= 1.0:
            raise ValueError(f"policy_loss_fn_args.cutoff_prob is {cutoff_prob}: must be above 0 and at most 1")
        grpo_mode = exact_mode("grpo_loss_agg_mode", grpo_loss_agg_mode or loss_agg_mode)
        sft_mode = exact_mode("sft_loss_agg_mode", sft_loss_agg_mode or loss_agg_mode)
        self._set_up(usual + expert, data_parallel_size, legacy_actor, {grpo_mode, sft_mode})
        clip = clip_arguments(clip_range, clip_range_low, clip_range_high)
        self.usual = _Side("usual", PPOPolicyLossFn(**clip, loss_agg_mode=grpo_mode), grpo_mode, usual)
        sft = (
            SFTPhiLossFn(loss_agg_mode=sft_mode, cutoff_prob=cutoff_prob)
            if enable_phi_function
            else SFTLossFn(loss_agg_mode=sft_mode)
        )
        self.expert = _Side("expert", sft, sft_mode, expert)

    def __call__(
        self,
        logprob: torch.Tensor,
        old_logprob: torch.Tensor,
        action_mask: torch.Tensor,
        advantages: torch.Tensor,
        expert_mask: torch.Tensor,
        step: torch.Tensor,
        side_tokens: torch.Tensor | None = None,
        dp_size: int | None = None,
        global_batch_size: int | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Loss of one micro-batch of b rows, to be summed with the others of the step.

        Args:
            logprob, old_logprob, action_mask, advantages: (b, response length).
            expert_mask: (b,), True on expert rows. step: (b,), the trainer's step, the same on all rows.
            side_tokens: (b,), set by `chord_exp.plugins.sample_strategy`; needed for `token-mean` only.
            dp_size, global_batch_size: what the trainer really runs, checked against the constructor's sizes.
        """
        self.geometry.check(dp_size, global_batch_size)
        first, last = int(step.min()), int(step.max())
        if first != last:
            raise ValueError(f"one micro-batch holds rows of the steps {first} to {last}: mu is defined for one step")
        mu = mu_schedule_function(last, *self.mu_schedule)
        scale = self.geometry.scale(len(logprob))
        tensors = {
            "logprob": logprob,
            "old_logprob": old_logprob,
            "action_mask": action_mask,
            "advantages": advantages,
        }
        weighted: list[tuple[float, torch.Tensor | None]] = []
        parts: dict[str, float] = {}
        expert_rows = expert_mask.bool()
        for coefficient, side, rows in ((1 - mu, self.usual, ~expert_rows), (mu, self.expert, expert_rows)):
            counts = None if side_tokens is None else side_tokens[rows]
            loss, metrics = side({name: value[rows] for name, value in tensors.items()}, counts, scale)
            weighted.append((coefficient, loss))
            parts.update(metrics)
        return self._sum(weighted, parts, mu)


class ExactGRPOLoss(_ExactWeighting, PolicyLossFn):
    """Pure GRPO over the U rollouts: ExactCHORDLoss at mu = 0. Arguments and errors as there."""

    def __init__(
        self,
        backend: str = "verl",
        usual_rows: int | None = None,
        data_parallel_size: int | None = None,
        clip_range: float | None = None,
        clip_range_low: float | None = None,
        clip_range_high: float | None = None,
        loss_agg_mode: str = ROW_MEAN,
        legacy_actor: bool | None = None,
    ) -> None:
        PolicyLossFn.__init__(self, backend=backend)
        rows, mode = positive_int("usual_rows", usual_rows), exact_mode("loss_agg_mode", loss_agg_mode)
        self._set_up(rows, data_parallel_size, legacy_actor, {mode})
        clip = clip_arguments(clip_range, clip_range_low, clip_range_high)
        self.usual = _Side("usual", PPOPolicyLossFn(**clip, loss_agg_mode=mode), mode, rows)

    def __call__(
        self,
        logprob: torch.Tensor,
        old_logprob: torch.Tensor,
        action_mask: torch.Tensor,
        advantages: torch.Tensor,
        side_tokens: torch.Tensor | None = None,
        dp_size: int | None = None,
        global_batch_size: int | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Loss of one micro-batch, to be summed with the others of the step; shapes as for ExactCHORDLoss."""
        self.geometry.check(dp_size, global_batch_size)
        tensors = {
            "logprob": logprob,
            "old_logprob": old_logprob,
            "action_mask": action_mask,
            "advantages": advantages,
        }
        loss, metrics = self.usual(tensors, side_tokens, self.geometry.scale(len(logprob)))
        return self._sum([(1.0, loss)], metrics, mu=0.0)


class ExactSFTLoss(_ExactWeighting, PolicyLossFn):
    """Pure SFT over the E expert rows: ExactCHORDLoss at mu = 1. Arguments and errors as there."""

    def __init__(
        self,
        backend: str = "verl",
        expert_rows: int | None = None,
        data_parallel_size: int | None = None,
        loss_agg_mode: str = ROW_MEAN,
        legacy_actor: bool | None = None,
    ) -> None:
        PolicyLossFn.__init__(self, backend=backend)
        rows, mode = positive_int("expert_rows", expert_rows), exact_mode("loss_agg_mode", loss_agg_mode)
        self._set_up(rows, data_parallel_size, legacy_actor, {mode})
        self.expert = _Side("expert", SFTLossFn(loss_agg_mode=mode), mode, rows)

    def __call__(
        self,
        logprob: torch.Tensor,
        action_mask: torch.Tensor,
        side_tokens: torch.Tensor | None = None,
        dp_size: int | None = None,
        global_batch_size: int | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Loss of one micro-batch, to be summed with the others of the step; shapes as for ExactCHORDLoss."""
        self.geometry.check(dp_size, global_batch_size)
        tensors = {"logprob": logprob, "action_mask": action_mask}
        loss, metrics = self.expert(tensors, side_tokens, self.geometry.scale(len(logprob)))
        return self._sum([(1.0, loss)], metrics, mu=1.0)
