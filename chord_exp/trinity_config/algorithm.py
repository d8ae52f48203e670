"""Trinity's section `algorithm` of one stage: its type, optimizer, sample strategy and policy loss."""

from __future__ import annotations

from typing import Any

from chord_exp.experiment.geometry import Stage
from chord_exp.experiment.objective import CHORD_PHI, MU_KEYS, NO_PHI, PHI_KEYS, SCHEDULE
from chord_exp.experiment.spec import ExperimentSpec
from chord_exp.trinity_config.loss_arguments import STOCK_CHORD_LOSS
from chord_exp.trinity_config.plugin_names import (
    CHORD_ALGORITHM,
    CHORD_LOSS,
    GRPO_ALGORITHM,
    GRPO_LOSS,
    MIX_SAMPLE_STRATEGY,
    SAMPLE_STRATEGY,
    SFT_LOSS,
)
from chord_exp.trinity_config.user_overrides import EXPERT_BUFFER, KL_LOSS, flatten

# a loss is the mean over all tokens of a term, as in CHORD's objective; Trinity's own loss classes see one micro-batch
# at a time and can weigh rows exactly, but not tokens
LOSS_MEAN = {"exact": "token-mean", "stock": "seq-mean-token-mean"}
# for micro-batches of one row: its mean, without the NaN that the row mean of Trinity logs for a side without rows
ONE_ROW_MEAN = "token-mean"
# PPO's clipping range, as in the upstream mix_chord example
CLIP_RANGE = 0.2
# AdamW as in arXiv 2508.11408; the weight decay and clipping are Trinity's own defaults, written out
BETAS = [0.9, 0.999]
WEIGHT_DECAY = 0.01
CLIP_GRAD = 1.0


def algorithm_section(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> dict[str, Any]:
    algorithm: dict[str, Any] = {
        "algorithm_type": _algorithm_type(spec, stage.kind),
        "repeat_times": spec.repeat_times if stage.batch.usual_rows else 1,
        "optimizer": {
            "lr": spec.sft_lr if stage.kind == "sft" else spec.lr,
            "optimizer_type": "adam",
            "betas": list(BETAS),
            "weight_decay": WEIGHT_DECAY,
            "clip_grad": CLIP_GRAD,
            "lr_scheduler_type": "constant",
        },
        **_sampling(spec, stage),
        "advantage_fn": "grpo",
        # L = (1 - μ)·GRPO + μ·SFT and nothing else (arXiv 2508.11408): Trinity would add terms outside the
        # weighting
        "kl_penalty_fn": "none",
        "kl_loss_fn": "none",
        "entropy_loss_fn": "none",
        "loss_agg_mode": _loss_mean(spec, stage, verl_legacy),
        **_policy_loss(spec, stage, verl_legacy),
    }
    return algorithm


def _algorithm_type(spec: ExperimentSpec, kind: str) -> str:
    """Trinity's own type, or ours that loads no reference model where no KL term would read it."""
    has_kl_term = dict(flatten(spec.trinity)).get(KL_LOSS, "none") != "none"
    if spec.loss == "exact" and not has_kl_term:
        return {"chord": CHORD_ALGORITHM, "grpo": GRPO_ALGORITHM, "sft": "sft"}[kind]
    return {"chord": "mix_chord", "grpo": "grpo", "sft": "sft"}[kind]


def _sampling(spec: ExperimentSpec, stage: Stage) -> dict[str, Any]:
    """The sample strategy; for loss=exact one that also counts the tokens of each side: a true token mean."""
    exact = spec.loss == "exact"
    if stage.kind == "chord":
        return {
            "sample_strategy": MIX_SAMPLE_STRATEGY if exact else "mix",
            "sample_strategy_args": {
                "expert_data_ratio": stage.batch.expert_data_ratio,
                "sft_dataset_name": EXPERT_BUFFER,
                **_mu_rule(spec),
            },
        }
    return {"sample_strategy": SAMPLE_STRATEGY if exact else "default", "sample_strategy_args": {}}


def _policy_loss(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> dict[str, Any]:
    name, args = (_exact_loss if spec.loss == "exact" else _stock_loss)(spec, stage, verl_legacy)
    # Trinity does not merge arguments with defaults: what is left out is missing in the worker
    return {"policy_loss_fn": name, "policy_loss_fn_args": args}


def _mu_rule(spec: ExperimentSpec) -> dict[str, Any]:
    """Where mu comes from with its numbers; nothing for a schedule, which the loss knows."""
    if spec.mu_source == SCHEDULE:
        return {}
    return {"mu_source": spec.mu_source, **{key: getattr(spec, key) for key in MU_KEYS[spec.mu_source]}}


def _schedule_args(spec: ExperimentSpec) -> dict[str, Any]:
    return {
        "mu_warmup_steps": spec.mu_warmup_steps,
        "mu_decay_steps": spec.mu_decay_steps,
        "mu_peak": spec.mu_peak,
        "mu_valley": spec.mu_valley,
    }


def _phi_args(spec: ExperimentSpec) -> dict[str, Any]:
    return {"phi": spec.phi, **{key: getattr(spec, key) for key in PHI_KEYS[spec.phi]}}


def _exact_loss(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> tuple[str, dict[str, Any]]:
    batch, clip = stage.batch, {"clip_range": CLIP_RANGE}
    sizes = {"usual_rows": batch.usual_rows, "expert_rows": batch.expert_rows}
    common = {"data_parallel_size": stage.gpus.data_parallel_size, "loss_agg_mode": LOSS_MEAN["exact"]}
    if stage.kind == "chord":
        mu = _schedule_args(spec) if spec.mu_source == SCHEDULE else {"mu_source": spec.mu_source}
        return CHORD_LOSS, {**mu, **_phi_args(spec), **clip, **sizes, **common}
    if stage.kind == "grpo":
        return GRPO_LOSS, {**clip, "usual_rows": batch.usual_rows, **common}
    phi = {} if spec.phi == NO_PHI else _phi_args(spec)
    return SFT_LOSS, {**phi, "expert_rows": batch.expert_rows, **common}


def _stock_loss(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> tuple[str, dict[str, Any]]:
    batch, ranks = stage.batch, stage.gpus.data_parallel_size
    common = {"loss_agg_mode": _loss_mean(spec, stage, verl_legacy)}
    if stage.kind == "grpo":
        return "ppo", {"clip_range": CLIP_RANGE, **common}
    if stage.kind == "sft":
        return "sft", common
    sizes = {
        "ngpus_trainer": ranks,
        "train_batch_size_usual": batch.usual_rows,
        "train_batch_size_expert": batch.expert_rows,
    }
    if not row_by_row(spec, stage, verl_legacy):
        # verl < 0.8 scales each micro-batch by its share of the batch, and the class undoes that from these
        batching = {
            "use_dynamic_bsz": True,
            "ppo_mini_batch_size": batch.rows,
            "ppo_micro_batch_size_per_gpu": 1,
        }
    else:
        # verl >= 0.8 sums micro-batches; with these the class weighs b rows by b·D/U and b·D/E
        batching = {"use_dynamic_bsz": False, "ppo_mini_batch_size": 1, "ppo_micro_batch_size_per_gpu": 1}
    switch = {"enable_phi_function": spec.phi == CHORD_PHI}
    return STOCK_CHORD_LOSS, {**_schedule_args(spec), **switch, "clip_range": CLIP_RANGE, **batching, **sizes, **common}


def _loss_mean(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> str:
    return ONE_ROW_MEAN if row_by_row(spec, stage, verl_legacy) else LOSS_MEAN[spec.loss]


def row_by_row(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> bool:
    """Return whether each micro-batch is one row: Trinity's CHORD loss logs NaN where one side has none."""
    return spec.loss == "stock" and stage.kind == "chord" and not verl_legacy
