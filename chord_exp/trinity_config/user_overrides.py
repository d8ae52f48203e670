"""Values that a user sets under `trinity:`: merged last, refused where they contradict what is derived."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chord_exp.errors import ConfigError

# Derived keys of Trinity and the key of this package that decides them.
DECIDED_BY = {
    "mode": "cluster and variant",
    "name": "name",
    "project": "project",
    "group": "name",
    "checkpoint_root_dir": "hydra.run.dir",
    "continue_from_checkpoint": "resume",
    "stages": "variant",
    "algorithm.algorithm_type": "variant",
    "algorithm.repeat_times": "repeat_times",
    "algorithm.optimizer.lr": "lr",
    "algorithm.sample_strategy": "variant and loss",
    "algorithm.sample_strategy_args": "expert_data_ratio",
    "algorithm.policy_loss_fn": "loss and variant",
    "algorithm.policy_loss_fn_args.mu_warmup_steps": "mu_warmup_steps",
    "algorithm.policy_loss_fn_args.mu_decay_steps": "mu_decay_steps",
    "algorithm.policy_loss_fn_args.mu_peak": "mu_peak",
    "algorithm.policy_loss_fn_args.mu_valley": "mu_valley",
    "algorithm.policy_loss_fn_args.enable_phi_function": "enable_phi_function",
    "algorithm.policy_loss_fn_args.usual_rows": "batch_size and repeat_times",
    "algorithm.policy_loss_fn_args.expert_rows": "expert_data_ratio",
    "algorithm.policy_loss_fn_args.data_parallel_size": "the cluster's GPUs",
    "algorithm.policy_loss_fn_args.train_batch_size_usual": "batch_size and repeat_times",
    "algorithm.policy_loss_fn_args.train_batch_size_expert": "expert_data_ratio",
    "algorithm.policy_loss_fn_args.ngpus_trainer": "the cluster's GPUs",
    "algorithm.policy_loss_fn_args.use_dynamic_bsz": "loss",
    "algorithm.policy_loss_fn_args.ppo_mini_batch_size": "loss",
    "algorithm.policy_loss_fn_args.ppo_micro_batch_size_per_gpu": "loss",
    "buffer.batch_size": "batch_size",
    "buffer.train_batch_size": "batch_size, repeat_times and expert_data_ratio",
    "buffer.total_steps": "total_steps",
    "buffer.total_epochs": "total_steps and data.epochs",
    "buffer.explorer_input.taskset.path": "data.out",
    "buffer.trainer_input.auxiliary_buffers.expert.total_epochs": "total_steps",
    "buffer.trainer_input.auxiliary_buffers.expert.schema_type": "variant",
    "buffer.trainer_input.auxiliary_buffers.expert.path": "data.out",
    "synchronizer.sync_method": "variant and cluster",
    "cluster.ray_address": "cluster.ray_address",
    "cluster.node_num": "cluster.node_num",
    "cluster.gpu_per_node": "cluster.gpu_per_node",
    "explorer.rollout_model.engine_num": "cluster.engine_num",
    "explorer.rollout_model.tensor_parallel_size": "cluster.tensor_parallel_size",
    "model.model_path": "model.path",
    "model.trust_remote_code": "model.trust_remote_code",
    "model.max_model_len": "model.max_model_len",
    "model.max_prompt_tokens": "model.max_prompt_tokens",
    "model.max_response_tokens": "model.max_response_tokens",
    "monitor.monitor_type": "monitor",
    "monitor.monitor_args": "monitor",
    "trainer.total_steps": "total_steps",
    "trainer.ulysses_sequence_parallel_size": "cluster.ulysses_sequence_parallel_size",
    "trainer.max_token_len_per_gpu": "cluster.max_token_len_per_gpu",
    "trainer.save_interval": "cluster.save_interval",
}

# Keys of Trinity that no key of this package changes, and why.
FIXED = {"synchronizer.sync_style": "strictly on-policy training: new weights after every step"}

# Keys of Trinity that add a term to the loss when they are not "none".
KL_LOSS = "algorithm.kl_loss_fn"
EXTRA_TERMS = (KL_LOSS, "algorithm.entropy_loss_fn")

# Names of older Trinity configurations, wherever they stand, and the key of ours that replaces them.
RENAMED = {
    "runner_num": "cluster.runner_per_model",
    "trainer_config_path": "trinity.trainer.trainer_config, or the keys of cluster",
    "sft_warmup_dataset": "data, whose expert rows become Trinity's auxiliary buffer",
    "sft_warmup_steps": "variant=sft_then_grpo",
    "task_selector": "trinity.buffer.explorer_input.taskset.data_selector",
    "warmup_style": "trinity.algorithm.optimizer.lr_scheduler_type",
    "use_token_level_loss_in_sft": "trinity.algorithm.loss_agg_mode",
    "fsdp_config": "cluster.param_offload and cluster.optimizer_offload",
    "actor_grad_clip": "trinity.algorithm.optimizer.clip_grad",
    "grad_clip": "trinity.algorithm.optimizer.clip_grad",
    "ppo_mini_batch_size": "batch_size, repeat_times and expert_data_ratio",
    "ppo_micro_batch_size": "cluster.max_token_len_per_gpu",
    "ppo_micro_batch_size_per_gpu": "cluster.max_token_len_per_gpu",
    "ppo_max_token_len_per_gpu": "cluster.max_token_len_per_gpu",
}
# any other key that starts so
RENAMED_PREFIX = ("ppo_", "the keys of cluster, or of trinity.trainer")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every leaf; an empty mapping is a leaf."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{path}.")
        else:
            yield path, value


def lookup(tree: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or None."""
    node: Any = tree
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node


def merge_hand_set(
    derived: dict[str, Any], hand_set: Mapping[str, Any], *, reference_model: bool = True
) -> dict[str, Any]:
    """`derived` with `hand_set` laid over it, at the top level and in every stage that has the section.

    Args:
        reference_model: whether the engine keeps one, as a KL loss needs.

    Raises:
        ConfigError: an old name, a value that contradicts a derived one, or a KL loss without a reference model.
    """
    for path, value in flatten(hand_set):
        _refuse_old_names(path)
        _refuse_contradiction(derived, path, value)
        if path == KL_LOSS and value != "none" and not reference_model:
            raise ConfigError(
                f"the local engine keeps no reference model, so it has no KL loss ({value!r})",
                f"trinity.{path}",
                "set it to none, as in the CHORD paper, or run on a GPU cluster",
            )
    merged = _overlay(derived, hand_set)
    for stage in merged.get("stages", []):
        stage.update(_overlay(stage, {key: value for key, value in hand_set.items() if key in stage}))
    return merged


def extra_term_warnings(hand_set: Mapping[str, Any]) -> list[str]:
    """A line for each hand-set term of the loss that stands outside of L = (1 - μ)·GRPO + μ·SFT."""
    set_by_hand = {path: value for path, value in flatten(hand_set) if path in EXTRA_TERMS}
    return [
        f"trinity.{path}={_short(value)} adds a term to the loss outside of the (1 - μ) and μ weighting"
        for path, value in set_by_hand.items()
        if value != "none"
    ]


def old_name(path: str) -> tuple[str, str] | None:
    """The first part of a dotted path that is a name of an older Trinity, and what replaces it."""
    for key in path.split("."):
        new = RENAMED.get(key) or (RENAMED_PREFIX[1] if key.startswith(RENAMED_PREFIX[0]) else None)
        if new is not None:
            return key, new
    return None


def _refuse_old_names(path: str) -> None:
    found = old_name(path)
    if found is not None and not path.startswith("algorithm.policy_loss_fn_args."):
        raise ConfigError(
            f"trinity.{path}: {found[0]!r} is a name that Trinity 0.6 no longer reads",
            f"trinity.{path}",
            f"use {found[1]}",
        )


def _refuse_contradiction(derived: Mapping[str, Any], path: str, value: Any) -> None:
    for known, decided_by in [*DECIDED_BY.items(), *FIXED.items()]:
        if path == known or path.startswith(f"{known}."):
            expected = lookup(derived, path)
            if value != expected:
                raise ConfigError(
                    f"trinity.{path}={_short(value)} contradicts {path}={_short(expected)}, which "
                    f"follows from {decided_by}",
                    f"trinity.{path}",
                    "leave it out" if known in FIXED else f"leave it out and change {decided_by}",
                )
        elif known.startswith(f"{path}."):
            raise ConfigError(
                f"trinity.{path}={_short(value)} would replace the whole section, {known} included",
                f"trinity.{path}",
                f"set single keys below trinity.{path}",
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
