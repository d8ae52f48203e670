"""Keys that Trinity does not have, no longer reads, or reads without effect."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from chord_exp.check.subject import AUXILIARY, ERROR, WARNING, Finding, Subject
from chord_exp.trinity_config.loss_arguments import ARGUMENTS
from chord_exp.trinity_config.old_names import OLD_NAMES, is_handed_on
from chord_exp.trinity_config.plugin_names import MIX_SAMPLE_STRATEGY
from chord_exp.trinity_config.user_overrides import LOSS_ARGUMENTS
from chord_exp.utils.text import did_you_mean

SAMPLE_ARGUMENTS = ("expert_data_ratio", "sft_dataset_name")
# of our own strategy besides
MU_RULE_ARGUMENTS = ("mu_source", "reward_tau", "gate_gamma", "gac_alpha", "gac_beta")
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
        old = None if is_handed_on(path) else OLD_NAMES.get(last)
        unknown = bool(known) and schema not in known and schema.rpartition(".")[0] in {*parents, ""}
        if old is not None and old.trinity:
            reported.add(path)
            severity = ERROR if unknown or old.fails else WARNING
            yield Finding(severity, path, f"{last} {old.what}", f"use {old.trinity}")
        elif unknown:
            reported.add(path)
            fix = did_you_mean(schema, sorted(known)) or "leave it out"
            yield Finding(ERROR, path, f"Trinity has no key {schema!r}, and refuses the file", fix)
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


def _loss_arguments(subject: Subject) -> Iterator[Finding]:
    if not subject.is_chord:
        return
    takes = ARGUMENTS.get(subject.policy_loss)
    places = [(LOSS_ARGUMENTS, takes, "the trainer's worker fails on it")] if takes else []
    ours = subject.get("algorithm.sample_strategy") == MIX_SAMPLE_STRATEGY
    sampled = SAMPLE_ARGUMENTS + (MU_RULE_ARGUMENTS if ours else ())
    places.append(("algorithm.sample_strategy_args", sampled, "it is passed over in silence"))
    for section, names, effect in places:
        for name in subject.section(section):
            if name not in names:
                old = OLD_NAMES.get(name)
                hint = f"use {old.trinity}" if old and old.trinity else did_you_mean(name, names)
                fix = hint or f"it takes {', '.join(names)}"
                what = old.what if old and old.trinity else f"is no argument: {effect}"
                yield Finding(ERROR, f"{section}.{name}", f"{name} {what}", fix)
