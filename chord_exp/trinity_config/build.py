"""From a specification to Trinity-RFT 0.6's configuration.

`to_trinity` returns plain, fully resolved values in a fixed order: Trinity parses YAML with OmegaConf, which
would interpolate any `${...}` left in it.
What a user sets under `trinity:` is merged last (`chord_exp.trinity_config.user_overrides`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from chord_exp.experiment.geometry import Geometry, Stage
from chord_exp.experiment.sections import ClusterSpec
from chord_exp.experiment.spec import DataFacts, ExperimentSpec
from chord_exp.trinity_config.algorithm import algorithm_section, row_by_row
from chord_exp.trinity_config.buffers import STEP_TIMEOUT, buffer_section
from chord_exp.trinity_config.plugin_names import RUN_MONITOR
from chord_exp.trinity_config.tracker_config import tracker_args
from chord_exp.trinity_config.user_overrides import merge_user_overrides

# of trinity.utils.monitor.MONITOR
TRINITY_MONITORS = ("wandb", "mlflow", "swanlab")
# in verl's own sections, for micro-batches of one row
ONE_ROW = {
    "actor": {"ppo_micro_batch_size_per_gpu": 1},
    "ref": {"log_prob_micro_batch_size_per_gpu": 1},
    "rollout": {"log_prob_micro_batch_size_per_gpu": 1},
}


@dataclass(frozen=True)
class Folders:
    """Absolute paths that a run uses."""

    # Trinity writes below <checkpoint_root>/<project>/<name>
    checkpoint_root: str
    # metrics.jsonl; None for Trinity's own TensorBoard monitor, which needs nothing of this package
    metrics_path: str | None


def to_trinity(
    spec: ExperimentSpec,
    facts: DataFacts,
    geometry: Geometry,
    folders: Folders,
    *,
    verl_legacy: bool = False,
    flash_attention: bool = False,
) -> dict[str, Any]:
    """Return the Trinity configuration of an experiment, ready for YAML.

    Args:
        facts: folder and sizes of the prepared data.
        geometry: what `derive` makes of the two.
        folders: absolute paths.
        verl_legacy: verl < 0.8 is installed, which scales losses itself and has sections of its own.
        flash_attention: flash-attn is installed; matters to cluster.attention=auto only.

    Raises:
        ConfigError: numbers that cannot agree, or a `trinity:` value that contradicts them.
    """
    config = _common(spec, geometry, folders)
    attention = None if verl_legacy else _attention(spec, flash_attention)
    sections = [_stage_sections(spec, facts, stage, verl_legacy, attention) for stage in geometry.stages]
    if len(sections) == 1:
        config.update(sections[0])
    else:
        # each stage replaces these sections whole; the last one stands at the top level for a reader
        config.update(sections[-1])
        config["stages"] = [
            {"stage_name": stage.kind, **section} for stage, section in zip(geometry.stages, sections, strict=True)
        ]
    return merge_user_overrides(config, spec.trinity, reference_model=spec.cluster.engine != "local")


def _common(spec: ExperimentSpec, geometry: Geometry, folders: Folders) -> dict[str, Any]:
    model, cluster = spec.model, spec.cluster
    return {
        "mode": geometry.stages[-1].gpus.mode,
        "project": spec.project,
        "group": "",
        "name": spec.name,
        "checkpoint_root_dir": folders.checkpoint_root,
        # Trinity's default silently goes on in a used folder
        "continue_from_checkpoint": spec.resume,
        # its GPU check finds no GPU on the head node and may wait for a key press
        "ignore_validator_suggestions": True,
        "model": {
            "model_path": model.path,
            "trust_remote_code": model.trust_remote_code,
            "temperature": model.temperature,
            "max_model_len": model.window,
            "max_prompt_tokens": model.max_prompt_tokens,
            "max_response_tokens": model.max_response_tokens,
            "enable_prompt_truncation": True,
            "enable_thinking": model.enable_thinking,
            **_adapters(spec),
        },
        # all explicit: Trinity starts Ray to find out what is left out, and may change the mode
        "cluster": {
            "ray_address": cluster.ray_address,
            "node_num": cluster.node_num,
            "gpu_per_node": cluster.gpu_per_node,
        },
        "synchronizer": {
            "sync_method": _sync_method(spec, geometry.stages[-1]),
            # strict on-policy: new weights after every step
            "sync_style": "fixed",
            "sync_interval": 1,
            "sync_timeout": STEP_TIMEOUT,
        },
        # rollouts are kept as JSON lines by the experience queue; a second copy in a database is only slower
        "data_processor": {"experience_pipeline": {"save_input": False}},
        "monitor": _monitor(spec, geometry, folders),
        "log": {"level": "INFO"},
    }


def _adapters(spec: ExperimentSpec) -> dict[str, Any]:
    lora = spec.model.lora
    if lora.rank is None:
        return {}
    adapter = {"name": "lora", "lora_rank": lora.rank, "lora_alpha": lora.alpha, "target_modules": lora.target_modules}
    return {"lora_configs": [adapter]}


def _attention(spec: ExperimentSpec, flash_attention: bool) -> str | None:
    """The attention that verl is told to use; None for its own choice, flash-attn.

    loss=stock is for clusters without this package: verl 0.8 needs flash-attn there in any case, to pad rows.
    """
    cluster = spec.cluster
    if cluster.engine == "local":
        return None
    if cluster.attention != "auto":
        return cluster.attention
    if cluster.engine == "real_cpu":
        return "sdpa"
    needs_flash = cluster.ulysses_sequence_parallel_size > 1 or spec.loss == "stock"
    return None if flash_attention or needs_flash else "sdpa"


def _stage_sections(
    spec: ExperimentSpec, facts: DataFacts, stage: Stage, verl_legacy: bool, attention: str | None
) -> dict[str, Any]:
    """The sections that differ from stage to stage; Trinity's StageConfig has exactly these."""
    return {
        "mode": stage.gpus.mode,
        "algorithm": algorithm_section(spec, stage, verl_legacy),
        "buffer": buffer_section(spec, facts, stage),
        "explorer": _explorer(spec, facts, stage),
        "trainer": _trainer(spec, stage, attention, row_by_row(spec, stage, verl_legacy)),
    }


def _sync_method(spec: ExperimentSpec, stage: Stage) -> str:
    if stage.gpus.mode == "train":
        # no engine to reach: Trinity's own choice for SFT
        return "checkpoint"
    if spec.cluster.sync_method is not None:
        return spec.cluster.sync_method
    if spec.serves_adapters:
        # vLLM loads adapters from the trainer's checkpoint folders
        return "checkpoint"
    return "memory" if spec.cluster.engine == "local" or stage.gpus.mode == "colocate" else "nccl"


def _monitor(spec: ExperimentSpec, geometry: Geometry, folders: Folders) -> dict[str, Any]:
    if folders.metrics_path is None:
        tracker = spec.monitor.tracker
        return {"monitor_type": tracker if tracker in TRINITY_MONITORS else "tensorboard"}
    return {
        "monitor_type": RUN_MONITOR,
        "monitor_args": {
            "metrics_path": folders.metrics_path,
            "tracker": tracker_args(spec, geometry) if spec.monitor.tracker else None,
            "tensorboard_dir": f"{folders.checkpoint_root}/tensorboard" if spec.monitor.tensorboard else None,
        },
    }


def _explorer(spec: ExperimentSpec, facts: DataFacts, stage: Stage) -> dict[str, Any]:
    cluster = spec.cluster
    rollout: dict[str, Any] = {
        "engine_type": "vllm",
        "engine_num": max(1, stage.gpus.engine_num),
        "tensor_parallel_size": cluster.tensor_parallel_size,
        "gpu_memory_utilization": cluster.gpu_memory_utilization,
        "dtype": cluster.dtype,
        "seed": spec.seed,
    }
    if spec.serves_adapters:
        # vLLM tells adapters apart by name, and each step's has the same: it would take old rows for new ones
        rollout["enable_prefix_caching"] = False
    if cluster.engine == "local":
        rollout["extra_engine_args"] = {
            "device": cluster.device,
            "threads": cluster.threads,
            "seed": spec.seed,
        }
    if cluster.engine == "real_cpu":
        # what CUDA graphs are for is not there
        rollout["enforce_eager"] = True
    return {
        "runner_per_model": cluster.runner_per_model,
        "eval_interval": stage.eval_interval,
        "eval_on_startup": facts.eval_rows + facts.test_rows > 0,
        "rollout_model": rollout,
    }


def _trainer(spec: ExperimentSpec, stage: Stage, attention: str | None, one_row: bool) -> dict[str, Any]:
    cluster = spec.cluster
    trainer: dict[str, Any] = {
        "trainer_type": "verl",
        "trainer_strategy": "fsdp2",
        "total_steps": stage.steps,
        "save_interval": stage.save_interval,
        # of a model with adapters verl writes names that nobody loads; the launcher merges them into its weights
        "save_hf_checkpoint": "never" if spec.serves_adapters else "last",
        # where the best are kept, too, the run's process drops the others: Trinity knows no scores
        "max_checkpoints_to_keep": 0 if cluster.keep_best else cluster.max_checkpoints_to_keep,
        "use_dynamic_bsz": not one_row,
        "max_token_len_per_gpu": stage.max_token_len_per_gpu,
        "ulysses_sequence_parallel_size": cluster.ulysses_sequence_parallel_size,
        "param_offload": cluster.param_offload,
        "optimizer_offload": cluster.optimizer_offload,
        "offload_policy": cluster.offload_policy,
    }
    if verl := _verl_sections(cluster, attention, one_row):
        trainer["trainer_config"] = verl
    return trainer


def _verl_sections(cluster: ClusterSpec, attention: str | None, one_row: bool) -> dict[str, Any]:
    """What verl's own configuration must say: its attention, the size of fixed micro-batches, on a CPU bfloat16 only
    where it was asked for."""
    sections: dict[str, Any] = {part: dict(sizes) for part, sizes in ONE_ROW.items()} if one_row else {}
    if attention is not None:
        sections["model"] = {"override_config": {"attn_implementation": attention}}
    if cluster.engine == "real_cpu" and cluster.dtype == "float32":
        for part in ("actor", "ref"):
            sections.setdefault(part, {})["fsdp_config"] = {"mixed_precision": {"param_dtype": "fp32"}}
    return sections


def to_yaml(config: dict[str, Any]) -> str:
    """A configuration as YAML that Trinity reads back unchanged: `${` in a text is escaped from OmegaConf."""
    return yaml.safe_dump(_escaped(config), sort_keys=False, allow_unicode=True, width=110)


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("${", "\\${")
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value
