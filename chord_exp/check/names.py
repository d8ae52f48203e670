"""Keys that Trinity does not have, no longer reads, or reads without effect."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from chord_exp.check.subject import AUXILIARY, ERROR, LOSS_ARGUMENTS, STOCK_LOSS, WARNING, Finding, Subject
from chord_exp.check.weights import STOCK_DEFAULTS
from chord_exp.trinity_config.plugin_names import CHORD_LOSS

# arguments of ExactCHORDLoss
EXACT_ARGUMENTS = (
    "mu_warmup_steps",
    "mu_decay_steps",
    "mu_peak",
    "mu_valley",
    "enable_phi_function",
    "clip_range",
    "usual_rows",
    "expert_rows",
    "data_parallel_size",
    "loss_agg_mode",
)
SAMPLE_ARGUMENTS = ("expert_data_ratio", "sft_dataset_name")

# old name: (severity, what happens to it, what to write)
OLD_NAMES: Mapping[str, tuple[str, str, str]] = {
    "runner_num": (WARNING, "is read no longer", "use explorer.runner_per_model"),
    "trainer_config_path": (
        ERROR,
        "names a separate training file, which is read no longer",
        "move its values into trainer (param_offload, max_token_len_per_gpu, ...) and algorithm.optimizer",
    ),
    "sft_warmup_dataset": (
        ERROR,
        "is the old place of the expert rows",
        "use buffer.trainer_input.auxiliary_buffers.NAME and sample_strategy_args.sft_dataset_name: NAME",
    ),
    "sft_warmup_steps": (ERROR, "is gone", "use stages: one of algorithm_type sft, then one of grpo"),
    "task_selector": (WARNING, "is deprecated", "use data_selector"),
    "warmup_style": (WARNING, "is deprecated", "use lr_scheduler_type"),
    "use_token_level_loss_in_sft": (ERROR, "is gone, and fails in the trainer's worker", "use sft_loss_agg_mode"),
    "actor_grad_clip": (ERROR, "is gone", "use algorithm.optimizer.clip_grad"),
    "fsdp_config": (ERROR, "is verl's own section", "use trainer.param_offload and trainer.optimizer_offload"),
    "actor_rollout_ref": (
        ERROR,
        "is verl's own section, of a training file that Trinity reads no longer",
        "use trainer and algorithm.optimizer; give `trinity run` the main file",
    ),
}
NO_EFFECT = {"trainer.grad_clip": "algorithm.optimizer.clip_grad", "trainer.fix_actor_microbatch_loss_scale": ""}


def name_rules(subject: Subject, known: Collection[str]) -> Iterator[Finding]:
    """Unknown, old and idle keys.

    Args:
        known: dotted keys of Trinity's schema, without numbers of list members and names of auxiliary buffers; empty
            when they are not known, and then only old names are reported.
    """
    reported: set[str] = set()
    parents = {key.rpartition(".")[0] for key in known}
    for path in _paths(subject.values):
        if any(path.startswith(f"{done}.") for done in reported):
            continue
        last, schema = path.rpartition(".")[2], _schema_path(path)
        unknown = bool(known) and schema not in known and schema.rpartition(".")[0] in {*parents, ""}
        if last in OLD_NAMES:
            severity, what, fix = OLD_NAMES[last]
            reported.add(path)
            yield Finding(ERROR if unknown else severity, path, f"{last} {what}", fix)
        elif unknown:
            reported.add(path)
            yield Finding(ERROR, path, f"Trinity has no key {schema!r}, and refuses the file", _suggest(schema, known))
    yield from _loss_arguments(subject)
    if not subject.verl_legacy:
        for path, instead in NO_EFFECT.items():
            if subject.get(path) is not None:
                fix = f"use {instead}" if instead else "leave it out"
                yield Finding(WARNING, path, f"{path} has no effect on verl >= 0.8", fix)


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted path of every key, parents first."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        path = f"{prefix}{key}"
        if isinstance(node, Mapping):
            yield path
        yield from _paths(value, f"{path}.")


def _schema_path(path: str) -> str:
    """The path as the schema has it: without list positions and without names of auxiliary buffers."""
    words = [word for word in path.split(".") if not word.isdigit()]
    inside = AUXILIARY.split(".")
    if words[: len(inside)] == inside and len(words) > len(inside):
        del words[len(inside)]
    return ".".join(words)


def _suggest(path: str, known: Collection[str]) -> str:
    parent, _, last = path.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    if near := difflib.get_close_matches(last, siblings, n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    elsewhere = sorted((key for key in known if key.rpartition(".")[2] == last), key=len)
    return f"did you mean {elsewhere[0]}?" if elsewhere else "leave it out"


def _loss_arguments(subject: Subject) -> Iterator[Finding]:
    if not subject.is_chord:
        return
    takes = {STOCK_LOSS: tuple(STOCK_DEFAULTS), CHORD_LOSS: EXACT_ARGUMENTS}.get(subject.policy_loss)
    places = [(LOSS_ARGUMENTS, takes, "the trainer's worker fails on it")] if takes else []
    places.append(("algorithm.sample_strategy_args", SAMPLE_ARGUMENTS, "it is passed over in silence"))
    for section, names, effect in places:
        for name in subject.section(section):
            if name not in names and name not in OLD_NAMES:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
                fix = f"did you mean {near[0]}?" if near else f"it takes {', '.join(names)}"
                yield Finding(ERROR, f"{section}.{name}", f"{name} is no argument: {effect}", fix)
