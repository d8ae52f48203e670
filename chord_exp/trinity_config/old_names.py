"""Names of older Trinity configurations, wherever they stand, and what replaces them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class OldName:
    """One name that is gone."""

    # the key of this package, or below its `trinity:`, that replaces it
    ours: str
    # the key of a Trinity file that replaces it; empty where that is another matter
    trinity: str = ""
    # what became of it
    what: str = "is gone"
    # a file with it fails or trains something else
    fails: bool = True


OLD_NAMES: Mapping[str, OldName] = {
    "runner_num": OldName("cluster.runner_per_model", "explorer.runner_per_model", "is read no longer", fails=False),
    "trainer_config_path": OldName(
        "trinity.trainer.trainer_config, or the keys of cluster",
        "trainer (param_offload, max_token_len_per_gpu, ...), trainer.trainer_config and algorithm.optimizer",
        "names a separate training file, which is read no longer",
    ),
    "sft_warmup_dataset": OldName(
        "data, whose expert rows become Trinity's auxiliary buffer",
        "buffer.trainer_input.auxiliary_buffers.NAME and sample_strategy_args.sft_dataset_name: NAME",
        "is the old place of the expert rows",
    ),
    "sft_warmup_steps": OldName("variant=sft_then_grpo", "stages: one of algorithm_type sft, then one of grpo"),
    "task_selector": OldName(
        "trinity.buffer.explorer_input.taskset.data_selector", "data_selector", "is deprecated", fails=False
    ),
    "warmup_style": OldName(
        "trinity.algorithm.optimizer.lr_scheduler_type", "lr_scheduler_type", "is deprecated", fails=False
    ),
    "use_token_level_loss_in_sft": OldName(
        "trinity.algorithm.loss_agg_mode", "sft_loss_agg_mode", "is gone, and fails in the trainer's worker"
    ),
    "actor_grad_clip": OldName("trinity.algorithm.optimizer.clip_grad", "algorithm.optimizer.clip_grad"),
    "grad_clip": OldName("trinity.algorithm.optimizer.clip_grad"),
    "fsdp_config": OldName(
        "cluster.param_offload and cluster.optimizer_offload; the rest below trinity.trainer.trainer_config.actor",
        "trainer.param_offload and trainer.optimizer_offload; the rest below trainer.trainer_config.actor",
        "is verl's own section",
    ),
    "actor_rollout_ref": OldName(
        "trinity.trainer.trainer_config",
        "trainer and algorithm.optimizer; give `trinity run` the main file",
        "is verl's own section, of a training file that Trinity reads no longer",
    ),
    "ppo_mini_batch_size": OldName("batch_size, repeat_times and expert_data_ratio"),
    "ppo_micro_batch_size": OldName("cluster.max_token_len_per_gpu"),
    "ppo_micro_batch_size_per_gpu": OldName("cluster.max_token_len_per_gpu"),
    "ppo_max_token_len_per_gpu": OldName("cluster.max_token_len_per_gpu"),
}
# any other key that starts so
_PPO = OldName("the keys of cluster, or of trinity.trainer")
# sections that Trinity hands on, with verl's own names or the arguments of a class in them
_HANDED_ON = ("trainer.trainer_config.", "algorithm.policy_loss_fn_args.")


def is_handed_on(path: str) -> bool:
    """Whether a dotted key, of a stage too, is read by something else than Trinity's configuration."""
    return any(section in path for section in _HANDED_ON)


def old_name(path: str) -> tuple[str, str] | None:
    """Return the first part of a dotted path that is an old name, and the key of this package that replaces it."""
    if is_handed_on(path):
        return None
    for key in path.split("."):
        old = OLD_NAMES.get(key) or (_PPO if key.startswith("ppo_") else None)
        if old is not None:
            return key, old.ours
    return None
