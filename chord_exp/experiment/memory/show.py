"""The forecast in words: rows for the plan, and what a run is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from chord_exp.experiment.geometry import Geometry
from chord_exp.experiment.memory.architecture import Architecture
from chord_exp.experiment.memory.costs import checkpoint_bytes, model_bytes, rollout_flops, training_flops
from chord_exp.experiment.memory.fit import (
    EDGE,
    FITS,
    NEEDS_SEGMENTS,
    SEGMENTS,
    TOO_MUCH,
    UNKNOWN,
    EngineUse,
    Machine,
    StageUse,
    TrainerUse,
    adapter_parameters,
)
from chord_exp.experiment.memory.remedies import Remedy
from chord_exp.experiment.memory.terms import GIB, Term
from chord_exp.experiment.spec import ExperimentSpec

Row = tuple[str, str, str]
# terms below this share of a whole are not worth a line
SMALL = 0.01
_SAID = {
    FITS: "fits",
    NEEDS_SEGMENTS: f"fits with {SEGMENTS}, set where Ray starts",
    EDGE: "at the edge of the card: may run out of memory",
    TOO_MUCH: "does not fit",
    UNKNOWN: "cluster.gpu_memory_gib says whether that fits",
}


def gib(size: float) -> str:
    """Return bytes as GiB."""
    return f"{size / GIB:.1f} GiB"


def memory_rows(use: StageUse, machine: Machine, remedy: Remedy | None) -> Iterator[Row]:
    """Yield the plan's lines of one stage."""
    trainer = use.trainer
    room = "" if trainer.room is None else f" of {gib(trainer.room)}"
    yield "a trainer GPU", f"{gib(trainer.size)}{room}", f"at its peak, {trainer.peak.what}: {_SAID[trainer.verdict]}"
    yield from _terms((*trainer.peak.terms, *trainer.outside), trainer.size)
    if use.engine is not None:
        yield from _engine_rows(use.engine)
    largest = trainer.peak.dominating
    yield "largest term", largest.what, f"{largest.size / trainer.size:.0%} of the trainer's peak"
    if remedy is not None:
        yield "cheapest change", " ".join(remedy.overrides), f"{_change(use, remedy)}: {remedy.costs}"
    if machine.not_followed:
        yield "not followed", ", ".join(machine.not_followed), "set by hand: the forecast may be wrong"


def _terms(terms: Iterable[Term], whole: float) -> Iterator[Row]:
    for term in sorted(terms, key=lambda term: -term.size):
        if term.size > SMALL * whole:
            yield f"  {term.what}", gib(term.size), term.formula


def _engine_rows(engine: EngineUse) -> Iterator[Row]:
    if engine.kv_tokens is None:
        yield "an engine's GPU", gib(engine.size), f"and its KV cache; {_SAID[UNKNOWN]}"
    elif engine.kv_tokens <= 0:
        yield "an engine's GPU", gib(engine.size), "more than its share of the card: does not fit"
    else:
        rows = engine.kv_tokens / engine.window
        held = f"KV cache of about {engine.kv_tokens:,} tokens, {rows:,.1f} rows of full length at once"
        yield "an engine's GPU", gib(engine.size), held
    yield from _terms(engine.terms, engine.size)


def _change(use: StageUse, remedy: Remedy) -> str:
    after = next(other for other in remedy.uses if other.stage.kind == use.stage.kind)
    if after.trainer.size != use.trainer.size or use.engine is None or after.engine is None:
        return f"{use.trainer.size / GIB:.1f} -> {gib(after.trainer.size)}"
    return f"engine {use.engine.size / GIB:.1f} -> {gib(after.engine.size)}"


def cost_rows(spec: ExperimentSpec, geometry: Geometry, model: Architecture) -> Iterator[Row]:
    """Yield the plan's lines about arithmetic and disk space."""
    window = spec.model.window
    for stage in geometry.stages:
        of = f" of {stage.kind}" if len(geometry.stages) > 1 else ""
        trained = training_flops(model, stage.batch.rows, window, spec.model.uses_lora)
        made = rollout_flops(model, stage.batch.usual_rows, window)
        parts = f"{trained:.2g} to train (with checkpointing), {made:.2g} to make rollouts"
        yield f"FLOPs a step{of}, at most", f"{trained + made:.2g}", parts
    if spec.cluster.engine == "local":
        return
    one = checkpoint_bytes(model, adapter_parameters(spec, model))
    keeps = spec.cluster.max_checkpoints_to_keep
    yield "disk, a checkpoint", gib(one), "parameters and optimizer, in 32 bits"
    kept = [min(keeps or 10**9, -(-stage.steps // stage.save_interval)) for stage in geometry.stages]
    # the oldest goes once the newest is there
    extra = 1 if keeps else 0
    most = (sum(kept) + extra) * one + model_bytes(model) * len(kept)
    yield "disk, the run, at most", gib(most), "checkpoints kept, one being written, and the trained model"


def time_rows(seconds: Mapping[str, float]) -> Iterator[Row]:
    """Yield where the time of a step went in the run that is resumed; seconds by name."""
    whole = sum(seconds.values())
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        yield name, f"{spent:.2f} s", f"{spent / whole:.0%} of a step"


def warnings_of(uses: Iterable[StageUse]) -> Iterator[str]:
    """Yield what a run is warned of that is not refused."""
    for use in uses:
        yield from _trainer_warnings(use.trainer)
        if use.engine is not None and use.engine.verdict in (EDGE, TOO_MUCH):
            yield (
                f"an inference engine takes {gib(use.engine.size)} without KV cache: a row of "
                f"{use.engine.window} tokens may not fit beside that"
            )


def _trainer_warnings(trainer: TrainerUse) -> Iterator[str]:
    if trainer.room is None or trainer.verdict == FITS:
        return
    what = f"a trainer GPU is forecast to take {gib(trainer.size)} of {gib(trainer.room)}"
    if trainer.verdict == NEEDS_SEGMENTS:
        yield f"{what}: start Ray with {SEGMENTS}, or fragments may not leave enough"
    else:
        yield f"{what}: it may run out of memory"


def refusal(use: StageUse, remedy: Remedy | None) -> tuple[str, str]:
    """Return what does not fit, and what to do."""
    trainer, engine = use.trainer, use.engine
    if trainer.verdict == TOO_MUCH and trainer.room is not None:
        largest = trainer.peak.dominating
        what = (
            f"a trainer GPU would need about {gib(trainer.size)} and has {gib(trainer.room)}; "
            f"{largest.what} take {gib(largest.size)} of it"
        )
    else:
        size = engine.terms[0].size if engine else 0
        what = (
            f"an inference engine's GPU holds weights of {gib(size)} and has no room for one row of full length beside"
        )
    fix = f"use {' '.join(remedy.overrides)} ({_change(use, remedy)})" if remedy else "use more or larger GPUs"
    return what, f"{fix}; action=plan shows all terms, force=true starts it all the same"
