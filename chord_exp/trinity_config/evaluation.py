"""From the Trinity configuration of a training to one that only asks the held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.trinity_config.build import Folders
from chord_exp.trinity_config.plugin_names import RUN_MONITOR

PROJECT = "evaluation"


@dataclass(frozen=True)
class Sampling:
    """One way of asking every prompt."""

    # 0 for the greedy answer
    temperature: float
    # answers a prompt
    answers: int


def held_out(config: dict[str, Any]) -> str | None:
    """Return the prepared folder that a configuration takes its held-out prompts from; None if it has none."""
    tasksets = config["buffer"].get("explorer_input", {}).get("eval_tasksets") or []
    return str(tasksets[-1]["path"]).rpartition("/")[0] if tasksets else None


def as_evaluation(
    config: dict[str, Any],
    name: str,
    folders: Folders,
    samplings: Mapping[str, Sampling],
    *,
    prompts: str,
    all_gpus: bool,
) -> dict[str, Any]:
    """Return a configuration in Trinity's mode `bench` with one task set a way of sampling, by the same workflows,
    rewards, lengths and system prompt.

    Args:
        config: of a training, as `to_trinity` returns it.
        name: of the evaluation's folder below the checkpoints.
        folders: absolute paths of the evaluation's own.
        samplings: by the names that the task sets get.
        prompts: folder of the rows to ask, a side of prepared data.
        all_gpus: no trainer takes a share of the GPUs, so engines may have all.

    Raises:
        ConfigError: the configuration has no evaluation prompts to go by.
    """
    explorer_input = config["buffer"].get("explorer_input", {})
    known = explorer_input.get("eval_tasksets") or []
    if not known:
        raise ConfigError(
            "the training held no prompts out, so nothing says how they are asked",
            "buffer.explorer_input.eval_tasksets",
            "train with data.eval_rows above 0",
        )
    template = {**known[-1], "path": prompts}
    changed = deepcopy({key: value for key, value in config.items() if key != "stages"})
    changed |= {
        "mode": "bench",
        "project": PROJECT,
        "group": "",
        "name": name,
        "checkpoint_root_dir": folders.checkpoint_root,
        "continue_from_checkpoint": True,
        "monitor": {
            "monitor_type": RUN_MONITOR,
            "monitor_args": {"metrics_path": folders.metrics_path, "wandb": None, "tensorboard_dir": None},
        },
    }
    changed["synchronizer"]["sync_method"] = "checkpoint"
    # adapters are merged into the weights that are asked
    changed["model"].pop("lora_configs", None)
    tasksets = [_taskset(template, label, sampling) for label, sampling in samplings.items()]
    changed["buffer"]["explorer_input"] = {"eval_tasksets": tasksets}
    # asked for when all is ready, one model after the other
    changed["explorer"]["eval_on_startup"] = False
    if all_gpus:
        rollout, cluster = changed["explorer"]["rollout_model"], changed["cluster"]
        rollout["engine_num"] = cluster["node_num"] * cluster["gpu_per_node"] // rollout["tensor_parallel_size"]
    return changed


def _taskset(template: dict[str, Any], name: str, sampling: Sampling) -> dict[str, Any]:
    arguments = {**template.get("rollout_args", {}), "temperature": sampling.temperature}
    return {**deepcopy(template), "name": name, "rollout_args": arguments, "repeat_times": sampling.answers}
