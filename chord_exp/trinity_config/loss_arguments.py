"""The arguments of the policy losses: what a configuration may give them. A test compares them with the classes.

Trinity hands `policy_loss_fn_args` to the class as they are, in the trainer's worker: an argument that it does not take
is a TypeError there, far from the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chord_exp.trinity_config.plugin_names import CHORD_LOSS, GRPO_LOSS, SFT_LOSS

STOCK_CHORD_LOSS = "mix_chord"

_MU = ("mu_source", "mu_warmup_steps", "mu_decay_steps", "mu_peak", "mu_valley")
_PHI = ("phi", "power_alpha", "focal_gamma", "luffy_gamma")
_CLIP = ("clip_range", "clip_range_low", "clip_range_high")
_EXACT = ("data_parallel_size", "loss_agg_mode", "legacy_actor")

# Arguments of MIXCHORDPolicyLossFn and the defaults of its signature.
STOCK_DEFAULTS: Mapping[str, Any] = {
    "mu_warmup_steps": 0,
    "mu_decay_steps": 0,
    "mu_peak": 0.1,
    "mu_valley": 0.1,
    "enable_phi_function": True,
    "clip_range": None,
    "clip_range_low": None,
    "clip_range_high": None,
    "use_dynamic_bsz": None,
    "ppo_mini_batch_size": 1,
    "ppo_micro_batch_size_per_gpu": 1,
    "ngpus_trainer": 1,
    "train_batch_size_usual": 1,
    "train_batch_size_expert": 1,
    "loss_agg_mode": "token-mean",
    "sft_loss_agg_mode": None,
    "grpo_loss_agg_mode": None,
}

# By the name of the loss, for those that this package writes and knows.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    CHORD_LOSS: (
        *_MU,
        *_PHI,
        "cutoff_prob",
        *_CLIP,
        "usual_rows",
        "expert_rows",
        "sft_loss_agg_mode",
        "grpo_loss_agg_mode",
        *_EXACT,
    ),
    GRPO_LOSS: (*_CLIP, "usual_rows", *_EXACT),
    SFT_LOSS: ("expert_rows", *_PHI, *_EXACT),
    STOCK_CHORD_LOSS: tuple(STOCK_DEFAULTS),
}
