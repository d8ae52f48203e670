"""From a specification to Trinity-RFT 0.6's configuration; the only place that knows Trinity's key names.

`to_trinity` returns plain, fully resolved values in a fixed order: Trinity parses YAML with OmegaConf, which
would interpolate any `${...}` left in it.
What a user sets under `trinity:` is merged last (`chord_exp.trinity_config.user_overrides`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import Geometry, Stage
from chord_exp.experiment.spec import ClusterSpec, DataFacts, ExperimentSpec
from chord_exp.trinity_config.plugin_names import (
    BOXED_WORKFLOW,
    CHORD_ALGORITHM,
    CHORD_LOSS,
    EVAL_WORKFLOW_OF,
    GRPO_ALGORITHM,
    GRPO_LOSS,
    JUDGE_WORKFLOW,
    MIX_SAMPLE_STRATEGY,
    RUN_MONITOR,
    SAMPLE_STRATEGY,
    SFT_LOSS,
)
from chord_exp.trinity_config.rows import EVAL, REWARD_KEY, RL, SFT, SPLIT, TOOLS_KEY, WORKFLOW_KEY
from chord_exp.trinity_config.user_overrides import KL_LOSS, flatten, merge_user_overrides
from chord_exp.trinity_config.wandb_config import wandb_args

EXPERT_BUFFER = "expert"
TASKSET = "prompts"
EVAL_TASKSET = "eval"
# a loss is the mean over all tokens of a side, as in CHORD's objective; Trinity's own loss classes see one micro-batch
# at a time and can weigh rows exactly, but not tokens
LOSS_MEAN = {"exact": "token-mean", "stock": "seq-mean-token-mean"}

# PPO's clipping range, as in the upstream mix_chord example
CLIP_RANGE = 0.2
# AdamW as in arXiv 2508.11408; the weight decay and clipping are Trinity's own defaults, written out
BETAS = [0.9, 0.999]
WEIGHT_DECAY = 0.01
CLIP_GRAD = 1.0
# rows wait in memory between explorer and trainer; one step's worth is far below it
QUEUE_CAPACITY = 10000
# a step that takes longer than this has hung, seconds
STEP_TIMEOUT = 3600


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
    """The Trinity configuration of an experiment, ready for YAML.

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
        "algorithm": _algorithm(spec, stage, verl_legacy),
        "buffer": _buffer(spec, facts, stage),
        "explorer": _explorer(spec, facts, stage),
        "trainer": _trainer(spec, stage, attention),
    }


def _sync_method(spec: ExperimentSpec, stage: Stage) -> str:
    if stage.gpus.mode == "train":
        # no engine to reach: Trinity's own choice for SFT
        return "checkpoint"
    if spec.cluster.sync_method is not None:
        return spec.cluster.sync_method
    return "memory" if spec.cluster.engine == "local" or stage.gpus.mode == "colocate" else "nccl"


def _monitor(spec: ExperimentSpec, geometry: Geometry, folders: Folders) -> dict[str, Any]:
    if folders.metrics_path is None:
        return {"monitor_type": "wandb" if spec.monitor.wandb else "tensorboard"}
    return {
        "monitor_type": RUN_MONITOR,
        "monitor_args": {
            "metrics_path": folders.metrics_path,
            "wandb": wandb_args(spec, geometry) if spec.monitor.wandb else None,
            "tensorboard_dir": f"{folders.checkpoint_root}/tensorboard" if spec.monitor.tensorboard else None,
        },
    }


def _algorithm(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> dict[str, Any]:
    algorithm: dict[str, Any] = {
        "algorithm_type": _algorithm_type(spec, stage.kind),
        "repeat_times": spec.repeat_times if stage.batch.usual_rows else 1,
        "optimizer": {
            "lr": spec.lr,
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
        "loss_agg_mode": LOSS_MEAN[spec.loss],
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
            },
        }
    return {"sample_strategy": SAMPLE_STRATEGY if exact else "default", "sample_strategy_args": {}}


def _policy_loss(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> dict[str, Any]:
    name, args = (_exact_loss if spec.loss == "exact" else _stock_loss)(spec, stage, verl_legacy)
    # Trinity does not merge arguments with defaults: what is left out is missing in the worker
    return {"policy_loss_fn": name, "policy_loss_fn_args": args}


def _mu_args(spec: ExperimentSpec) -> dict[str, Any]:
    return {
        "mu_warmup_steps": spec.mu_warmup_steps,
        "mu_decay_steps": spec.mu_decay_steps,
        "mu_peak": spec.mu_peak,
        "mu_valley": spec.mu_valley,
        "enable_phi_function": spec.enable_phi_function,
    }


def _exact_loss(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> tuple[str, dict[str, Any]]:
    batch, clip = stage.batch, {"clip_range": CLIP_RANGE}
    sizes = {"usual_rows": batch.usual_rows, "expert_rows": batch.expert_rows}
    common = {"data_parallel_size": stage.gpus.data_parallel_size, "loss_agg_mode": LOSS_MEAN["exact"]}
    if stage.kind == "chord":
        return CHORD_LOSS, {**_mu_args(spec), **clip, **sizes, **common}
    if stage.kind == "grpo":
        return GRPO_LOSS, {**clip, "usual_rows": batch.usual_rows, **common}
    return SFT_LOSS, {"expert_rows": batch.expert_rows, **common}


def _stock_loss(spec: ExperimentSpec, stage: Stage, verl_legacy: bool) -> tuple[str, dict[str, Any]]:
    batch, ranks = stage.batch, stage.gpus.data_parallel_size
    common = {"loss_agg_mode": LOSS_MEAN["stock"]}
    if stage.kind == "grpo":
        return "ppo", {"clip_range": CLIP_RANGE, **common}
    if stage.kind == "sft":
        return "sft", common
    sizes = {
        "ngpus_trainer": ranks,
        "train_batch_size_usual": batch.usual_rows,
        "train_batch_size_expert": batch.expert_rows,
    }
    if verl_legacy:
        # verl < 0.8 scales each micro-batch by its share of the batch, and the class undoes that from these
        batching = {
            "use_dynamic_bsz": True,
            "ppo_mini_batch_size": batch.rows,
            "ppo_micro_batch_size_per_gpu": 1,
        }
    else:
        # verl >= 0.8 sums micro-batches; with these the class weighs b rows by b·D/U and b·D/E, whatever
        # the batching
        batching = {"use_dynamic_bsz": False, "ppo_mini_batch_size": 1, "ppo_micro_batch_size_per_gpu": 1}
    return "mix_chord", {**_mu_args(spec), "clip_range": CLIP_RANGE, **batching, **sizes, **common}


def _side(facts: DataFacts, side: str) -> dict[str, Any]:
    return {"storage_type": "file", "path": f"{facts.folder}/{side}", "split": SPLIT}


def _expert_format(spec: ExperimentSpec, facts: DataFacts) -> dict[str, Any]:
    return {
        "prompt_type": "messages",
        "messages_key": spec.data.messages_key,
        "tools_key": TOOLS_KEY,
        # without it, only the last assistant turn of a conversation is trained
        "enable_concatenated_multi_turn": facts.multi_turn,
        "enable_thinking": spec.model.enable_thinking,
    }


def _expert_rows(spec: ExperimentSpec, facts: DataFacts, stage: Stage) -> dict[str, Any]:
    """A buffer of expert rows that lasts for all steps: Trinity ends the training when it runs out."""
    buffer: dict[str, Any] = {
        "name": EXPERT_BUFFER,
        **_side(facts, SFT),
        "schema_type": "sft",
        "format": _expert_format(spec, facts),
        "data_selector": {"selector_type": "shuffle", "seed": spec.data.seed},
        "total_epochs": stage.expert_epochs,
    }
    if facts.assumed:
        # the epochs rest on a guess; a number of steps does not
        buffer["total_steps"] = stage.steps
    return buffer


def _taskset(
    spec: ExperimentSpec, facts: DataFacts, name: str, side: str, workflow: str, temperature: float
) -> dict[str, Any]:
    """A reader of prompts. A row's own workflow and reward win unless the user has set one for all; `workflow` is for
    rows without."""
    data = spec.data
    taskset: dict[str, Any] = {
        "name": name,
        **_side(facts, side),
        "format": {
            "prompt_key": data.prompt_key,
            "response_key": data.answer_key,
            "system_prompt": data.system_prompt,
            "workflow_key": "" if data.workflow else WORKFLOW_KEY,
            "reward_fn_key": "" if data.reward else REWARD_KEY,
        },
        "rollout_args": {"temperature": temperature, "logprobs": 0},
        "default_workflow_type": workflow,
        "default_reward_fn_type": data.reward,
    }
    if not data.workflow and not {JUDGE_WORKFLOW, EVAL_WORKFLOW_OF[JUDGE_WORKFLOW]}.isdisjoint(facts.scored_by):
        if not data.judge_model:
            raise ConfigError(
                "the data has free text for a judge model and data.judge_model is not set",
                "data.judge_model",
                "name a model of the OpenAI-compatible API at OPENAI_BASE_URL, or prepare with data.free_text=none",
            )
        taskset["workflow_args"] = {
            "judge_model_name": data.judge_model,
            "judge_api_base_url_env": "OPENAI_BASE_URL",
            "judge_api_key_env": "OPENAI_API_KEY",
        }
    return taskset


def _rollout_taskset(spec: ExperimentSpec, facts: DataFacts) -> dict[str, Any]:
    workflow = spec.data.workflow or BOXED_WORKFLOW
    return _taskset(spec, facts, TASKSET, RL, workflow, spec.model.temperature)


def _eval_taskset(spec: ExperimentSpec, facts: DataFacts) -> dict[str, Any]:
    """Greedy, so that two evaluations of one model agree; sampled like the rollouts where the workflow has no twin.
    Rows of eval/ name twins."""
    chosen = spec.data.workflow or BOXED_WORKFLOW
    twin = EVAL_WORKFLOW_OF.get(chosen)
    workflow, temperature = (twin, 0.0) if twin else (chosen, spec.model.temperature)
    return {**_taskset(spec, facts, EVAL_TASKSET, EVAL, workflow, temperature), "repeat_times": 1}


def _buffer(spec: ExperimentSpec, facts: DataFacts, stage: Stage) -> dict[str, Any]:
    trainer_input: dict[str, Any] = {}
    if stage.kind == "sft":
        trainer_input["experience_buffer"] = _expert_rows(spec, facts, stage)
    else:
        trainer_input["experience_buffer"] = {
            "name": "experience_buffer",
            "storage_type": "queue",
            "capacity": max(QUEUE_CAPACITY, 2 * stage.batch.rows),
            "max_read_timeout": STEP_TIMEOUT,
        }
    if stage.kind == "chord":
        trainer_input["auxiliary_buffers"] = {EXPERT_BUFFER: _expert_rows(spec, facts, stage)}
    buffer: dict[str, Any] = {
        "batch_size": spec.batch_size,
        "train_batch_size": stage.batch.rows,
        "total_epochs": max(stage.prompt_epochs, stage.expert_epochs if stage.kind == "sft" else 1),
        "total_steps": stage.steps,
        "trainer_input": trainer_input,
    }
    explorer_input: dict[str, Any] = {}
    if stage.batch.usual_rows:
        explorer_input["taskset"] = _rollout_taskset(spec, facts)
    if facts.eval_rows:
        explorer_input["eval_tasksets"] = [_eval_taskset(spec, facts)]
    if explorer_input:
        buffer["explorer_input"] = explorer_input
    return buffer


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
    if stage.gpus.mode == "colocate":
        # Ray counts two GPUs on the one: the engine and the trainer are each to see the real one
        rollout["cuda_visible_devices"] = "0"
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
        "eval_on_startup": facts.eval_rows > 0,
        "rollout_model": rollout,
    }


def _trainer(spec: ExperimentSpec, stage: Stage, attention: str | None) -> dict[str, Any]:
    cluster = spec.cluster
    trainer: dict[str, Any] = {
        "trainer_type": "verl",
        "trainer_strategy": "fsdp2",
        "total_steps": stage.steps,
        "save_interval": stage.save_interval,
        "save_hf_checkpoint": "last",
        "max_checkpoints_to_keep": cluster.max_checkpoints_to_keep,
        "use_dynamic_bsz": True,
        "max_token_len_per_gpu": stage.max_token_len_per_gpu,
        "ulysses_sequence_parallel_size": cluster.ulysses_sequence_parallel_size,
        "param_offload": cluster.param_offload,
        "optimizer_offload": cluster.optimizer_offload,
    }
    if verl := _verl_sections(cluster, attention):
        trainer["trainer_config"] = verl
    return trainer


def _verl_sections(cluster: ClusterSpec, attention: str | None) -> dict[str, Any]:
    """What verl's own configuration must say: its attention, and on a CPU bfloat16 only where it was asked for."""
    sections: dict[str, Any] = {}
    if attention is not None:
        sections["model"] = {"override_config": {"attn_implementation": attention}}
    if cluster.engine == "real_cpu" and cluster.dtype == "float32":
        for part in ("actor", "ref"):
            sections[part] = {"fsdp_config": {"mixed_precision": {"param_dtype": "fp32"}}}
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
