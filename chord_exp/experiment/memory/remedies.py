"""Overrides that make an experiment need less memory, cheapest in speed first; each is checked as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import derive
from chord_exp.experiment.memory.fit import EDGE, TOO_MUCH, Machine, StageUse, use_of, worst
from chord_exp.experiment.spec import DataFacts, ExperimentSpec

# of the adapters that are proposed
LORA_RANK = 32
# what still needs a remedy
BAD = (EDGE, TOO_MUCH)


@dataclass(frozen=True)
class Remedy:
    """Overrides, and what the experiment takes with them."""

    # as typed on the command line
    overrides: tuple[str, ...]
    # what they cost
    costs: str
    uses: tuple[StageUse, ...]

    @property
    def fits(self) -> bool:
        """Whether it then fits."""
        return worst(self.uses) not in BAD


def remedies(spec: ExperimentSpec, facts: DataFacts, machine: Machine) -> Iterator[Remedy]:
    """Yield what helps, cheapest in speed first: single overrides, then several at once."""
    for changes, costs in _candidates(spec):
        changed = _changed(spec, changes)
        if changed is None or changed == spec:
            continue
        try:
            geometry = derive(changed, facts)
        except ConfigError:
            continue
        words = tuple(f"{key}={_word(value)}" for key, value in changes.items())
        yield Remedy(words, costs, use_of(changed, geometry, machine))


def cheapest(spec: ExperimentSpec, facts: DataFacts, machine: Machine) -> Remedy | None:
    """Return the cheapest remedy that makes everything fit, or that helps where it fits or the card is not known.

    None where nothing does.
    """
    now = use_of(spec, derive(spec, facts), machine)
    enough = worst(now) not in BAD
    helping = (one for one in remedies(spec, facts, machine) if (_most(one.uses) < _most(now) if enough else one.fits))
    return next(helping, None)


def _most(uses: tuple[StageUse, ...]) -> float:
    return max(use.trainer.size for use in uses)


def _candidates(spec: ExperimentSpec) -> Iterator[tuple[dict[str, Any], str]]:
    cluster, window = spec.cluster, spec.model.window
    row = "cluster.max_token_len_per_gpu"
    sequence = cluster.ulysses_sequence_parallel_size
    one_row: dict[str, Any] = {row: ceil(window / sequence)}
    more: dict[str, Any] = {"cluster.engine_num": 1}
    offload: dict[str, Any] = {"cluster.offload_policy": True}
    shared = [size for size in (2, 4, 8) if size > sequence]
    yield one_row, "smaller micro-batches, a little slower"
    if cluster.engine_num != 1:
        yield more, "more GPUs train, fewer make rollouts"
        yield {**more, **one_row}, "more GPUs train, fewer make rollouts"
    for size in shared if cluster.attention != "sdpa" else []:
        ulysses: dict[str, Any] = {"cluster.ulysses_sequence_parallel_size": size}
        yield {**ulysses, row: None}, "GPUs share each row; needs flash-attn"
        yield {**ulysses, row: ceil(window / size)}, "GPUs share each row; needs flash-attn"
    for size in (2, 4, 8):
        if size > cluster.tensor_parallel_size:
            yield {"cluster.tensor_parallel_size": size}, "GPUs share an engine"
    yield offload, "the optimizer runs on the CPU, slow"
    yield {**offload, **one_row}, "the optimizer runs on the CPU, slow"
    yield {**offload, **one_row, **more}, "the optimizer runs on the CPU, slow"
    for size in shared if cluster.attention != "sdpa" else []:
        both = {"cluster.ulysses_sequence_parallel_size": size, row: ceil(window / size)}
        yield {**offload, **both}, "the optimizer runs on the CPU, slow"
    if not spec.model.uses_lora:
        adapters: dict[str, Any] = {"model.lora.rank": LORA_RANK}
        yield adapters, "trains adapters: another experiment, which wants ten times the lr"
        yield {**adapters, **one_row}, "trains adapters: another experiment, which wants ten times the lr"


def _changed(spec: ExperimentSpec, changes: dict[str, Any]) -> ExperimentSpec | None:
    """The specification with some keys changed; None where a value is refused."""
    try:
        for key, value in changes.items():
            spec = _set(spec, key.split("."), value)
    except ConfigError:
        return None
    return spec


def _set(owner: Any, path: list[str], value: Any) -> Any:
    """A frozen dataclass with one field changed, at any depth."""
    name, *below = path
    return replace(owner, **{name: _set(getattr(owner, name), below, value) if below else value})


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
