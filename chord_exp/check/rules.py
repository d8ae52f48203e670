"""All rules over one configuration, and the one line that sums up a clean one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from chord_exp.check.batch import batch_rules, gpu_rules, length_rules
from chord_exp.check.buffers import buffer_rules
from chord_exp.check.mu import mu_rules
from chord_exp.check.names import name_rules
from chord_exp.check.subject import CHORD, ERROR, WARNING, Finding, Rows, Subject
from chord_exp.check.weights import weight_rules
from chord_exp.trinity_config.user_overrides import LOSS_ARGUMENTS


def findings(
    values: Mapping[str, Any], *, verl_legacy: bool, rows: Mapping[str, Rows], known: Collection[str] = ()
) -> list[Finding]:
    """Everything that a configuration gets wrong, errors first.

    Args:
        values: the configuration as Trinity reads it, interpolations resolved.
        verl_legacy: verl < 0.8.
        rows: what is known about the data, by dotted key of its path.
        known: dotted keys of Trinity's schema.
    """
    found = list(name_rules(Subject(values, verl_legacy), known))
    for prefix, subject in _stages(Subject(values, verl_legacy, rows)):
        found += [Finding(one.severity, prefix(one.key), one.what, one.fix) for one in _one_stage(subject)]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.severity != ERROR)


def _one_stage(subject: Subject) -> Iterator[Finding]:
    if subject.get("algorithm.algorithm_type") is None and subject.get("model") is None:
        yield Finding(
            ERROR,
            "algorithm.algorithm_type",
            "there is neither an algorithm type nor a model: this is no whole configuration",
            "join a trainer half with its main file first; the header of the half has the command",
        )
        return
    yield from _basics(subject)
    for rule in (batch_rules, weight_rules, mu_rules, gpu_rules, length_rules, buffer_rules):
        yield from rule(subject)


def _stages(subject: Subject) -> Iterator[tuple[Any, Subject]]:
    """Each stage over the rest, as Trinity runs them, and where its keys stand in the file."""
    stages = [stage for stage in subject.members("stages") if isinstance(stage, Mapping)]
    if not stages:
        yield (lambda key: key), subject
    for index, stage in enumerate(stages):
        sections = {key: value for key, value in stage.items() if value is not None}
        prefix = f"stages.{index}."

        def place(key: str, prefix: str = prefix, own: Collection[str] = tuple(sections)) -> str:
            return f"{prefix}{key}" if key.split(".")[0] in own else key

        values = {**subject.values, **sections}
        rows = {key: subject.rows.get(place(key), fact) for key, fact in subject.rows.items()}
        rows |= {key.removeprefix(prefix): fact for key, fact in subject.rows.items() if key.startswith(prefix)}
        yield place, Subject(values, subject.verl_legacy, rows)


def _basics(subject: Subject) -> Iterator[Finding]:
    kind = subject.get("algorithm.algorithm_type")
    if not subject.is_chord:
        yield Finding(
            WARNING,
            "algorithm.algorithm_type",
            f"algorithm_type is {kind or 'ppo (left out)'}: only names, GPUs, lengths and paths are checked",
            f"write {CHORD} for CHORD",
        )
    if not subject.get("model.model_path"):
        yield Finding(ERROR, "model.model_path", "no model is named", "give a folder or a hub id")
    if subject.get("continue_from_checkpoint", True) is True:
        yield Finding(
            WARNING,
            "continue_from_checkpoint",
            "continue_from_checkpoint is true (Trinity's default): a name that was used before goes on from its last "
            "checkpoint, without a word",
            "write false for a new run",
        )


def summary(values: Mapping[str, Any]) -> str:
    """The sizes of a configuration in one line."""
    subject = Subject(values)
    if not subject.is_chord:
        return f"algorithm_type {subject.get('algorithm.algorithm_type', 'ppo')}"
    ranks = subject.data_parallel_size
    peak, valley = (subject.get(f"{LOSS_ARGUMENTS}.{name}") for name in ("mu_peak", "mu_valley"))
    return (
        f"U={subject.batch_rows - subject.expert_rows}, E={subject.expert_rows}, T={subject.batch_rows}, "
        f"D={ranks if ranks else '?'}, mu {peak} -> {valley}, steps {subject.steps or 'by epochs'}"
    )
