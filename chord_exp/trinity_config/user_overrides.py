"""Values that a user sets under `trinity:`: merged last, refused where they contradict what is derived.

A value is laid over the top level and over every stage that has its place, and checked against each of them: what is
right for the last stage of sft_then_grpo may turn the first into something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.trinity_config.loss_arguments import ARGUMENTS
from chord_exp.trinity_config.old_names import OLD_NAMES, old_name
from chord_exp.utils.text import did_you_mean

TASKSET = "buffer.explorer_input.taskset"
# name of the buffer of expert rows
EXPERT_BUFFER = "expert"
EXPERT = f"buffer.trainer_input.auxiliary_buffers.{EXPERT_BUFFER}"
EXPERIENCE = "buffer.trainer_input.experience_buffer"
LOSS_ARGUMENTS = "algorithm.policy_loss_fn_args"
ROLLOUT_MODEL = "explorer.rollout_model"

# Derived keys of Trinity and the key of this package that decides them; a section stands for all that is below it.
DERIVED_FROM = {
    "mode": "cluster and variant",
    "name": "name",
    "project": "project",
    "group": "name",
    "checkpoint_root_dir": "hydra.run.dir",
    "continue_from_checkpoint": "resume",
    "stages": "variant",
    "algorithm.algorithm_type": "variant and loss",
    "algorithm.repeat_times": "repeat_times",
    "algorithm.optimizer.lr": "lr and sft_lr",
    "algorithm.sample_strategy": "variant and loss",
    "algorithm.sample_strategy_args": "expert_data_ratio and mu_source",
    "algorithm.policy_loss_fn": "loss and variant",
    f"{LOSS_ARGUMENTS}.mu_warmup_steps": "mu_warmup_steps",
    f"{LOSS_ARGUMENTS}.mu_decay_steps": "mu_decay_steps",
    f"{LOSS_ARGUMENTS}.mu_peak": "mu_peak",
    f"{LOSS_ARGUMENTS}.mu_valley": "mu_valley",
    f"{LOSS_ARGUMENTS}.mu_source": "mu_source",
    f"{LOSS_ARGUMENTS}.phi": "phi",
    f"{LOSS_ARGUMENTS}.power_alpha": "power_alpha",
    f"{LOSS_ARGUMENTS}.focal_gamma": "focal_gamma",
    f"{LOSS_ARGUMENTS}.luffy_gamma": "luffy_gamma",
    f"{LOSS_ARGUMENTS}.enable_phi_function": "phi",
    f"{LOSS_ARGUMENTS}.usual_rows": "batch_size and repeat_times",
    f"{LOSS_ARGUMENTS}.expert_rows": "expert_data_ratio",
    f"{LOSS_ARGUMENTS}.data_parallel_size": "the cluster's GPUs",
    f"{LOSS_ARGUMENTS}.train_batch_size_usual": "batch_size and repeat_times",
    f"{LOSS_ARGUMENTS}.train_batch_size_expert": "expert_data_ratio",
    f"{LOSS_ARGUMENTS}.ngpus_trainer": "the cluster's GPUs",
    f"{LOSS_ARGUMENTS}.use_dynamic_bsz": "loss",
    f"{LOSS_ARGUMENTS}.ppo_mini_batch_size": "loss",
    f"{LOSS_ARGUMENTS}.ppo_micro_batch_size_per_gpu": "loss",
    "buffer.batch_size": "batch_size",
    "buffer.train_batch_size": "batch_size, repeat_times and expert_data_ratio",
    "buffer.total_steps": "total_steps",
    "buffer.total_epochs": "total_steps and data.epochs",
    "buffer.explorer_input.tasksets": "data",
    f"{TASKSET}.path": "data.out",
    f"{TASKSET}.storage_type": "data",
    f"{TASKSET}.split": "data",
    # the expert rows were prepared with this system prompt
    f"{TASKSET}.format.system_prompt": "data.system_prompt",
    f"{TASKSET}.format.prompt_key": "data.prompt_key",
    f"{TASKSET}.format.response_key": "data.answer_key",
    f"{TASKSET}.format.workflow_key": "data.workflow",
    f"{TASKSET}.format.reward_fn_key": "data.reward",
    f"{TASKSET}.default_workflow_type": "data.workflow",
    f"{TASKSET}.default_reward_fn_type": "data.reward",
    f"{TASKSET}.rollout_args.temperature": "model.temperature",
    f"{TASKSET}.workflow_args.judge_model_name": "data.judge_model",
    **{
        f"{buffer}.{key}": decided_by
        for buffer in (EXPERT, EXPERIENCE)
        for key, decided_by in {
            "path": "data.out",
            "storage_type": "variant",
            "schema_type": "variant",
            "split": "data",
            "total_epochs": "total_steps",
            "total_steps": "total_steps",
            "data_selector.seed": "seed",
            "format.prompt_type": "data",
            "format.messages_key": "data.messages_key",
            "format.tools_key": "data",
            "format.enable_concatenated_multi_turn": "data",
            "format.enable_thinking": "model.enable_thinking",
        }.items()
    },
    "synchronizer.sync_method": "cluster.sync_method",
    "cluster.ray_address": "cluster.ray_address",
    "cluster.node_num": "cluster.node_num",
    "cluster.gpu_per_node": "cluster.gpu_per_node",
    "explorer.runner_per_model": "cluster.runner_per_model",
    "explorer.eval_interval": "data.eval_interval",
    f"{ROLLOUT_MODEL}.engine_num": "cluster.engine_num",
    f"{ROLLOUT_MODEL}.tensor_parallel_size": "cluster.tensor_parallel_size",
    f"{ROLLOUT_MODEL}.gpu_memory_utilization": "cluster.gpu_memory_utilization",
    f"{ROLLOUT_MODEL}.dtype": "cluster.dtype",
    f"{ROLLOUT_MODEL}.seed": "seed",
    f"{ROLLOUT_MODEL}.extra_engine_args.device": "cluster.device",
    f"{ROLLOUT_MODEL}.extra_engine_args.threads": "cluster.threads",
    f"{ROLLOUT_MODEL}.extra_engine_args.seed": "seed",
    "model.model_path": "model.path",
    "model.trust_remote_code": "model.trust_remote_code",
    "model.temperature": "model.temperature",
    "model.max_model_len": "model.max_model_len",
    "model.max_prompt_tokens": "model.max_prompt_tokens",
    "model.max_response_tokens": "model.max_response_tokens",
    "model.enable_thinking": "model.enable_thinking",
    "model.lora_configs": "model.lora",
    f"{ROLLOUT_MODEL}.enable_prefix_caching": "model.lora",
    "monitor.monitor_type": "monitor",
    "monitor.monitor_args": "monitor",
    "trainer.total_steps": "total_steps",
    "trainer.ulysses_sequence_parallel_size": "cluster.ulysses_sequence_parallel_size",
    "trainer.max_token_len_per_gpu": "cluster.max_token_len_per_gpu",
    "trainer.save_interval": "cluster.save_interval",
    "trainer.max_checkpoints_to_keep": "cluster.max_checkpoints_to_keep",
    "trainer.param_offload": "cluster.param_offload",
    "trainer.optimizer_offload": "cluster.optimizer_offload",
    "trainer.offload_policy": "cluster.offload_policy",
    "trainer.trainer_config.model.override_config.attn_implementation": "cluster.attention",
}
# Sections with keys that some variants, engines or losses leave to Trinity: there any value does.
_FREE_WHERE_ABSENT = (
    f"{EXPERIENCE}.",
    f"{ROLLOUT_MODEL}.extra_engine_args.",
    f"{ROLLOUT_MODEL}.enable_prefix_caching",
)

# Keys of Trinity that no key of this package changes, and why.
FIXED = {
    "synchronizer.sync_style": "strictly on-policy training: new weights after every step",
    "model.chat_template_path": "the expert rows, to which Trinity does not copy it: write the text itself to "
    "trinity.model.custom_chat_template",
}

# Keys of Trinity that must say the same as another, which Trinity copies to some of them only.
SAME_AS = {
    f"{LOSS_ARGUMENTS}.loss_agg_mode": "algorithm.loss_agg_mode",
    f"{EXPERT}.format.chat_template": "model.custom_chat_template",
    f"{EXPERIENCE}.format.chat_template": "model.custom_chat_template",
    f"{TASKSET}.format.chat_template": "model.custom_chat_template",
    f"{ROLLOUT_MODEL}.chat_template": "model.custom_chat_template",
    **{
        f"{ROLLOUT_MODEL}.{key}": f"model.{key}"
        for key in (
            "model_path",
            "trust_remote_code",
            "temperature",
            "max_model_len",
            "max_prompt_tokens",
            "max_response_tokens",
            "enable_thinking",
        )
    },
}
# of these, the ones that are written: Trinity fills in the others
_COPIED = (f"{LOSS_ARGUMENTS}.loss_agg_mode", f"{EXPERT}.format.chat_template")

# Keys of Trinity that add a term to the loss when they are not "none".
KL_LOSS = "algorithm.kl_loss_fn"
EXTRA_TERMS = (KL_LOSS, "algorithm.entropy_loss_fn")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of every leaf; an empty mapping is a leaf."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{path}.")
        else:
            yield path, value


def lookup(tree: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, or None."""
    node: Any = tree
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node


def merge_user_overrides(
    derived: Mapping[str, Any], overrides: Mapping[str, Any], *, reference_model: bool = True
) -> dict[str, Any]:
    """Return `derived` with `overrides` laid over it, at the top level and in every stage that has their place.

    Args:
        reference_model: whether the engine can keep one, as a KL loss needs.

    Raises:
        ConfigError: an old name, a value that contradicts a derived one of any stage, an argument that no loss of the
            experiment takes, or a KL loss without a reference model.
    """
    stages: list[dict[str, Any]] = derived.get("stages", [])
    # the whole configuration as each stage sees it
    views = [{**derived, **{key: value for key, value in stage.items() if key in derived}} for stage in stages or [{}]]
    names = [f" of stage {stage['stage_name']}" for stage in stages] or [""]
    leaves = dict(flatten(overrides))
    for path, value in leaves.items():
        _refuse_old_names(path)
        if path == KL_LOSS and value != "none" and not reference_model:
            raise ConfigError(
                f"the local engine keeps no reference model, so it has no KL loss ({value!r})",
                f"trinity.{path}",
                "set it to none, as in the CHORD paper, or run on a GPU cluster",
            )
        places = [(view, name) for view, name in zip(views, names, strict=True) if _has_place(view, path)]
        if not places:
            _refuse_without_place(derived, path)
        for view, name in places:
            _refuse_contradiction(view, path, value, name)
    merged = [_overlaid(view, overrides) for view in views]
    for whole, name in zip(merged, names, strict=True):
        _refuse_unequal(whole, leaves, name)
    result = _with_copies(merged[-1])
    if stages:
        parts = [_with_copies(whole) for whole in merged]
        result["stages"] = [
            {key: value if key == "stage_name" else whole[key] for key, value in stage.items()}
            for stage, whole in zip(stages, parts, strict=True)
        ]
    return result


def _overlaid(view: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    return _deep_merge(view, _keep(overrides, lambda path: _has_place(view, path)))


def _with_copies(whole: dict[str, Any]) -> dict[str, Any]:
    """Write what must say the same to where Trinity does not write it itself."""
    for path in _COPIED:
        parent, _, key = path.rpartition(".")
        value = lookup(whole, SAME_AS[path])
        if lookup(whole, parent) is not None and value is not None:
            nested: Any = {key: value}
            for section in reversed(parent.split(".")):
                nested = {section: nested}
            whole = _deep_merge(whole, nested)
    return whole


def extra_term_warnings(overrides: Mapping[str, Any]) -> list[str]:
    """Return a line for each term of the loss that was added outside of L = (1 - μ)·GRPO + μ·SFT."""
    return [
        f"trinity.{path}={_short(value)} adds a term to the loss outside of the (1 - μ) and μ weighting"
        for path, value in flatten(overrides)
        if path in EXTRA_TERMS and value != "none"
    ]


def _has_place(view: Mapping[str, Any], path: str) -> bool:
    """Whether a stage has what a key belongs to: its task set, its expert rows, a loss that takes the argument."""
    section, _, argument = path.rpartition(".")
    if section == LOSS_ARGUMENTS:
        return argument in ARGUMENTS.get(lookup(view, "algorithm.policy_loss_fn"), (argument,))
    return all(lookup(view, owner) is not None for owner in (TASKSET, EXPERT) if path.startswith(f"{owner}."))


def _refuse_without_place(derived: Mapping[str, Any], path: str) -> None:
    section, _, argument = path.rpartition(".")
    if section != LOSS_ARGUMENTS:
        raise ConfigError(f"trinity.{path}: this variant has no such section", f"trinity.{path}", "leave it out")
    name = lookup(derived, "algorithm.policy_loss_fn")
    takes = ARGUMENTS[name]
    old = OLD_NAMES.get(argument)
    hint = f"use {old.ours}" if old else did_you_mean(argument, takes) or f"it takes {', '.join(takes)}"
    raise ConfigError(f"trinity.{path}: {name.rpartition('.')[2]} takes no such argument", f"trinity.{path}", hint)


def _refuse_old_names(path: str) -> None:
    found = old_name(path)
    if found is not None:
        raise ConfigError(
            f"trinity.{path}: {found[0]!r} is a name that Trinity 0.6 no longer reads",
            f"trinity.{path}",
            f"use {found[1]}",
        )


def _refuse_contradiction(view: Mapping[str, Any], path: str, value: Any, where: str) -> None:
    for known, decided_by in [*DERIVED_FROM.items(), *FIXED.items()]:
        if path == known or path.startswith(f"{known}."):
            expected = lookup(view, path)
            if value != expected and not (expected is None and path.startswith(_FREE_WHERE_ABSENT)):
                raise ConfigError(
                    f"trinity.{path}={_short(value)} contradicts {path}={_short(expected)}{where}, which "
                    f"follows from {decided_by}",
                    f"trinity.{path}",
                    "leave it out" if known in FIXED else f"leave it out and change {decided_by}",
                )
        elif known.startswith(f"{path}.") and lookup(view, path) is not None:
            raise ConfigError(
                f"trinity.{path}={_short(value)} would replace the whole section, {known} included",
                f"trinity.{path}",
                f"set single keys below trinity.{path}",
            )


def _refuse_unequal(whole: Mapping[str, Any], leaves: Mapping[str, Any], where: str) -> None:
    """Refuse a value that was set by hand to something else than the key that it must agree with."""
    for path, source in SAME_AS.items():
        if path in leaves and _has_place(whole, path) and leaves[path] != lookup(whole, source):
            raise ConfigError(
                f"trinity.{path}={_short(leaves[path])} and {source}={_short(lookup(whole, source))}{where} must "
                "say the same",
                f"trinity.{path}",
                f"leave it out and set {DERIVED_FROM.get(source, f'trinity.{source}')}",
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keep(tree: Mapping[str, Any], wanted: Callable[[str], bool], prefix: str = "") -> dict[str, Any]:
    """The leaves of a tree that are wanted, by dotted path; sections that lose all of theirs go too."""
    kept: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            if inner := _keep(value, wanted, f"{path}."):
                kept[key] = inner
        elif wanted(path):
            kept[key] = value
    return kept


def _deep_merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _deep_merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
