"""CHORD, GRPO and SFT losses whose weights are exact on every trainer: Trinity plug-ins by dotted path.

    algorithm:
      policy_loss_fn: chord_exp.plugins.loss.ExactCHORDLoss
      policy_loss_fn_args: {usual_rows: 256, expert_rows: 64, data_parallel_size: 4, clip_range: 0.2, ...}

The gradient of a step is that of L = (1 - mu) * L_GRPO + mu * L_SFT (CHORD, arXiv 2508.11408), each term
one mean over the whole batch as `chord_exp.plugins.loss_weights` defines it for the chosen `loss_agg_mode`,
whatever the split into micro-batches (fixed or dynamic, one-sided ones included) and ranks. Per-token
losses, the mu schedule and CHORD's phi are Trinity's own. The baselines are the same objective at mu = 0 (GRPO) and
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
from trinity.algorithm.policy_loss_fn.chord_policy_loss import mu_schedule_function
from trinity.algorithm.policy_loss_fn.policy_loss_fn import PolicyLossFn
from trinity.algorithm.policy_loss_fn.ppo_policy_loss import PPOPolicyLossFn

from chord_exp.plugins.loss_metrics import loggable, reduce_micro_batch_metrics
from chord_exp.plugins.loss_weights import (
    ROW_MEAN,
    TOKEN_MEAN,
    BatchGeometry,
    batch_share,
    clip_arguments,
    exact_mode,
    mu_arguments,
    positive_int,
)
from chord_exp.plugins.mu_source import GAC_ESTIMATE, MU_SOURCES, SCHEDULE, gac_statistics
from chord_exp.plugins.token_weight import NONE, PQ, TokenWeight, sft_loss
from chord_exp.plugins.verl_patches import mend_loaded_verl
from chord_exp.trinity_config.plugin_names import MIX_SAMPLE_STRATEGY

__all__ = ["ExactCHORDLoss", "ExactGRPOLoss", "ExactSFTLoss", "reduce_micro_batch_metrics"]

# verl >= 0.8 puts these beside the rows of every micro-batch; the actor of verl < 0.8 has no such entries.
TRAINER_SIZES = ("dp_size", "global_batch_size")


class _LossTerm:
    """One term of the loss: Trinity's own loss function, for the rows of one kind.

    Args:
        prefix: of the logged names.
        loss_fn: Trinity's loss function, in the mode of the term.
        mode: one of loss_weights.EXACT_MODES.
        rows: rows of that kind in the full batch.
        reads: per-token fields that the loss function takes besides the log-probabilities and the action mask.
    """

    def __init__(self, prefix: str, loss_fn: PolicyLossFn, mode: str, rows: int, reads: tuple[str, ...]) -> None:
        self.loss_fn, self.mode, self.rows, self.reads = loss_fn, mode, rows, reads
        empty = torch.zeros(1, 1)
        _, metrics = loss_fn(logprob=empty, old_logprob=empty, action_mask=empty.bool(), advantages=empty)
        self.log_names = {name: f"{prefix}/{name}" for name in metrics}

    def __call__(
        self, tensors: dict[str, torch.Tensor], tokens_of_term: torch.Tensor | None, scale: float
    ) -> tuple[torch.Tensor | None, dict[str, float]]:
        """Return weighted loss and metrics of the term's rows in a micro-batch; None and zeros when it has none.

        Every micro-batch logs the same keys, since verl lines up the values of all ranks by micro-batch.
        """
        mask = tensors["action_mask"]
        if not len(mask):
            return None, dict.fromkeys(self.log_names.values(), 0.0)
        weight = batch_share(self.mode, mask, self.rows, tokens_of_term) * scale
        loss, metrics = self.loss_fn(**tensors)
        if self.mode != TOKEN_MEAN and len(metrics) > 1:
            metrics = {**self._row_means(tensors), "pg_loss": metrics["pg_loss"]}
        return loss * weight, {self.log_names[name]: value * weight for name, value in metrics.items()}

    @torch.no_grad()
    def _row_means(self, tensors: dict[str, torch.Tensor]) -> dict[str, float]:
        """Return the metrics as a mean over rows of each row's token mean.

        Trinity's are one mean over all tokens given, so they follow the split. It multiplies by the mask and divides by
        the mask's sum: a mask of 1 / (rows x tokens of the row) makes one call of it the mean over rows.
        """
        mask = tensors["action_mask"].to(tensors["logprob"].dtype)
        weights = mask / (mask.sum(dim=-1, keepdim=True).clamp(min=1) * len(mask))
        _, metrics = self.loss_fn(**{**tensors, "action_mask": weights})
        total = float(weights.sum().item())
        return {name: value * total for name, value in metrics.items()}


def _grpo_term(rows: Any, mode_name: str, mode: str, clip: tuple[Any, Any, Any]) -> _LossTerm:
    rows, mode = positive_int("usual_rows", rows), exact_mode(mode_name, mode)
    loss_fn = PPOPolicyLossFn(**clip_arguments(*clip), loss_agg_mode=mode)
    return _LossTerm("usual", loss_fn, mode, rows, ("old_logprob", "advantages"))


def _sft_term(rows: Any, mode_name: str, mode: str, weight: TokenWeight, cutoff_prob: float = 1.0) -> _LossTerm:
    rows, mode = positive_int("expert_rows", rows), exact_mode(mode_name, mode)
    if not 0.0 < cutoff_prob <= 1.0 or (cutoff_prob < 1.0 and weight.phi != PQ):
        raise ValueError(
            f"policy_loss_fn_args.cutoff_prob is {cutoff_prob}: must be above 0 and at most 1; less for phi={PQ} only"
        )
    return _LossTerm("expert", sft_loss(weight, mode, cutoff_prob), mode, rows, ())


class _ExactLoss:
    """L = (1 - mu) * usual + mu * expert; a baseline has one of the two terms, at mu = 0 or 1.

    The three classes below only differ in their arguments. Trinity takes the fields that a loss wants from the
    signature of its `__call__` and hands it no others: here they follow from the terms.
    """

    usual: _LossTerm | None = None
    expert: _LossTerm | None = None
    mu_source: str = SCHEDULE
    mu_schedule: tuple[int, int, float, float] | None = None
    token_weight = TokenWeight()

    def _set_up(self, data_parallel_size: int | None, legacy_actor: bool | None) -> None:
        """Finish a constructor that has set the terms."""
        mend_loaded_verl()
        if legacy_actor is None:
            from trinity.trainer.trainer import is_verl_legacy

            legacy_actor = is_verl_legacy()
        terms = [term for term in (self.usual, self.expert) if term is not None]
        rows = sum(term.rows for term in terms)
        self.geometry = BatchGeometry(rows, positive_int("data_parallel_size", data_parallel_size), legacy_actor)
        self._reads = ("action_mask", *dict.fromkeys(name for term in terms for name in term.reads))
        self._select_keys = [
            *self._reads,
            *(("expert_mask", "step") if len(terms) > 1 else ()),
            *(() if self.mu_source == SCHEDULE else ("mu",)),
            *(("tokens_of_term",) if any(term.mode == TOKEN_MEAN for term in terms) else ()),
            *(() if legacy_actor else TRAINER_SIZES),
        ]

    def _loss(self, logprob: torch.Tensor, **fields: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the loss of one micro-batch of b rows, to be summed with the others of the step, and what to log.

        Args:
            logprob, and among the fields old_logprob, action_mask, advantages: (b, response length).
            expert_mask: (b,), True on expert rows. step: (b,), the trainer's step, the same on all rows.
            tokens_of_term: (b,), set by `chord_exp.plugins.sample_strategy`; needed for `token-mean` only.
            mu: (b,), set by the same, unless mu follows a schedule; the same on all rows.
            dp_size, global_batch_size: what the trainer really runs, checked against the constructor's sizes.
        """
        self.geometry.check(fields.get("dp_size"), fields.get("global_batch_size"))
        mu = self._mu(fields)
        scale = self.geometry.undo_trainer_scale(len(logprob))
        tensors = {"logprob": logprob, **{name: fields[name] for name in self._reads}}
        counts = fields.get("tokens_of_term")
        both = self.usual is not None and self.expert is not None
        is_expert = fields["expert_mask"].bool() if both else None
        parts: dict[str, float] = {}
        losses = []
        for coefficient, term, wanted in ((1 - mu, self.usual, False), (mu, self.expert, True)):
            if term is None:
                continue
            rows = slice(None) if is_expert is None else is_expert == wanted
            chosen = {name: value[rows] for name, value in tensors.items()}
            loss, metrics = term(chosen, None if counts is None else counts[rows], scale)
            parts.update(metrics)
            if loss is not None:
                losses.append(coefficient * loss)
        if self.mu_source == GAC_ESTIMATE:
            parts.update(self._gac_statistics(tensors, is_expert, scale))
        total = torch.stack(losses).sum()
        additive = {**parts, "loss": total.detach().item()}
        return total, loggable(additive, {"mu": mu}, legacy_actor=self.geometry.legacy_actor)

    def _gac_statistics(
        self, tensors: dict[str, torch.Tensor], is_expert: torch.Tensor | None, scale: float
    ) -> dict[str, float]:
        assert self.usual is not None and self.expert is not None and is_expert is not None
        phi = self.token_weight(tensors["logprob"].detach())
        shares = gac_statistics(tensors, is_expert, phi, self.usual.rows, self.expert.rows)
        return {name: value * scale for name, value in shares.items()}

    def _mu(self, fields: dict[str, Any]) -> float:
        if self.mu_source != SCHEDULE:
            if "mu" not in fields:
                raise ValueError(
                    f"mu_source={self.mu_source} needs the mu of the step on its rows: set algorithm.sample_strategy "
                    f"to {MIX_SAMPLE_STRATEGY}, with the same mu_source in its arguments"
                )
            return float(fields["mu"].max())
        if self.mu_schedule is None:
            return 0.0 if self.expert is None else 1.0
        first, last = int(fields["step"].min()), int(fields["step"].max())
        if first != last:
            raise ValueError(f"one micro-batch holds rows of the steps {first} to {last}: mu is defined for one step")
        return mu_schedule_function(last, *self.mu_schedule)

    @classmethod
    def default_args(cls) -> dict[str, Any]:
        """Return the constructor's own defaults. Sizes have none: the constructor refuses to guess them."""
        parameters = list(inspect.signature(cls).parameters.values())
        return {p.name: p.default for p in parameters if p.name != "backend" and p.default is not None}


class ExactCHORDLoss(_ExactLoss, PolicyLossFn):
    """L = (1 - mu) * GRPO over the U usual rows + mu * SFT (or SFT-phi) over the E expert rows.

    Args:
        backend: Trinity's name for the trainer's key convention.
        usual_rows: U, rollouts in the full batch (prompts per step x rollouts per prompt).
        expert_rows: E, expert rows in the full batch.
        data_parallel_size: D, trainer GPUs / sequence-parallel size.
        mu_source: where mu comes from, one of mu_source.MU_SOURCES; all but `schedule` are on the rows.
        mu_warmup_steps, mu_decay_steps, mu_peak, mu_valley: Trinity's schedule, its first step is 1; read by
            mu_source=schedule only.
        phi: the factor on each expert token, one of token_weight.PHIS.
        power_alpha, focal_gamma, luffy_gamma: the number of the phi of that name.
        cutoff_prob: with phi=pq, no loss beyond this token probability (1.0: off).
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
        mu_source: str = SCHEDULE,
        mu_warmup_steps: int | None = None,
        mu_decay_steps: int | None = None,
        mu_peak: float | None = None,
        mu_valley: float | None = None,
        phi: str = NONE,
        power_alpha: float | None = None,
        focal_gamma: float | None = None,
        luffy_gamma: float | None = None,
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
        clip = (clip_range, clip_range_low, clip_range_high)
        self.usual = _grpo_term(usual_rows, "grpo_loss_agg_mode", grpo_loss_agg_mode or loss_agg_mode, clip)
        self.token_weight = TokenWeight(phi, power_alpha, focal_gamma, luffy_gamma)
        mode = sft_loss_agg_mode or loss_agg_mode
        self.expert = _sft_term(expert_rows, "sft_loss_agg_mode", mode, self.token_weight, cutoff_prob)
        if mu_source not in MU_SOURCES:
            raise ValueError(f"policy_loss_fn_args.mu_source is {mu_source!r}: use one of {', '.join(MU_SOURCES)}")
        self.mu_source = mu_source
        if mu_source == SCHEDULE:
            self.mu_schedule = mu_arguments(mu_warmup_steps, mu_decay_steps, mu_peak, mu_valley)
        self._set_up(data_parallel_size, legacy_actor)

    def __call__(self, logprob: torch.Tensor, **fields: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the loss of one micro-batch and what to log; fields as in `_ExactLoss._loss`."""
        return self._loss(logprob, **fields)


class ExactGRPOLoss(_ExactLoss, PolicyLossFn):
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
        clip = (clip_range, clip_range_low, clip_range_high)
        self.usual = _grpo_term(usual_rows, "loss_agg_mode", loss_agg_mode, clip)
        self._set_up(data_parallel_size, legacy_actor)

    def __call__(self, logprob: torch.Tensor, **fields: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the loss of one micro-batch and what to log; fields as in `_ExactLoss._loss`."""
        return self._loss(logprob, **fields)


class ExactSFTLoss(_ExactLoss, PolicyLossFn):
    """Pure SFT over the E expert rows: ExactCHORDLoss at mu = 1. Arguments and errors as there."""

    def __init__(
        self,
        backend: str = "verl",
        expert_rows: int | None = None,
        data_parallel_size: int | None = None,
        phi: str = NONE,
        power_alpha: float | None = None,
        focal_gamma: float | None = None,
        luffy_gamma: float | None = None,
        loss_agg_mode: str = ROW_MEAN,
        legacy_actor: bool | None = None,
    ) -> None:
        PolicyLossFn.__init__(self, backend=backend)
        weight = TokenWeight(phi, power_alpha, focal_gamma, luffy_gamma)
        self.expert = _sft_term(expert_rows, "loss_agg_mode", loss_agg_mode, weight)
        self._set_up(data_parallel_size, legacy_actor)

    def __call__(self, logprob: torch.Tensor, **fields: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the loss of one micro-batch and what to log; fields as in `_ExactLoss._loss`."""
        return self._loss(logprob, **fields)
