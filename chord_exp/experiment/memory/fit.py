"""Whether an experiment fits into its GPUs: who takes how much of which card, and how sure that is.

The shares of a card at which things stop fitting are read off Trinity's table of what runs on an A100-80G and an H20
(docs/memory.md): of 560 settings none ran that is forecast to need more than 1.02 of the card.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from chord_exp.experiment.geometry import Geometry, Stage
from chord_exp.experiment.memory.architecture import Architecture
from chord_exp.experiment.memory.engine import BESIDE_TORCH, EngineSetup, fixed, kv_tokens, most_kv_tokens
from chord_exp.experiment.memory.terms import GIB, Phase, Term
from chord_exp.experiment.memory.trainer import TrainerSetup, outside, peak
from chord_exp.experiment.spec import ExperimentSpec

# of a card: up to here PyTorch's allocator copes, its fragments included
COMFORTABLE = 0.86
# and up to here with PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
WITH_SEGMENTS = 0.98
# from here on it is refused: what the forecast may be wrong by lies between
REFUSED = 1.04

FITS, NEEDS_SEGMENTS, EDGE, TOO_MUCH, UNKNOWN = "fits", "fits with expandable segments", "at the edge", "too much", ""
SEGMENTS = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"


@dataclass(frozen=True)
class Machine:
    """What a forecast must know besides the experiment."""

    # sizes of the model; None for one that the forecast does not know
    architecture: Architecture | None
    # memory of a GPU, GiB; None where nobody said
    card_gib: float | None = None
    # flash-attn is installed
    flash_attention: bool = False
    # verl keeps every micro-batch's outputs until an update ends, and nothing of ours mends that
    keeps_outputs: bool = False
    # keys set by hand under trinity: that the forecast does not follow
    not_followed: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainerUse:
    """The peak of a trainer GPU."""

    peak: Phase
    # what no tracker sees
    outside: tuple[Term, ...]
    # bytes that it may take; None where the card is not known
    room: float | None

    @property
    def size(self) -> float:
        """Bytes in all."""
        return self.peak.size + sum(term.size for term in self.outside)

    @property
    def verdict(self) -> str:
        """How it fits."""
        if self.room is None:
            return UNKNOWN
        limits = ((COMFORTABLE, FITS), (WITH_SEGMENTS, NEEDS_SEGMENTS), (REFUSED, EDGE))
        return next((word for limit, word in limits if self.size <= limit * self.room), TOO_MUCH)


@dataclass(frozen=True)
class EngineUse:
    """A GPU of an inference engine."""

    terms: tuple[Term, ...]
    # tokens that the KV cache holds; None where the card is not known
    kv_tokens: int | None
    # the same if nothing but weights were there
    most_kv_tokens: int | None
    # tokens of the longest row
    window: int

    @property
    def size(self) -> float:
        """Bytes without the KV cache."""
        return sum(term.size for term in self.terms)

    @property
    def verdict(self) -> str:
        """vLLM refuses to start where one row does not fit."""
        if self.kv_tokens is None or self.most_kv_tokens is None:
            return UNKNOWN
        if self.most_kv_tokens < self.window:
            return TOO_MUCH
        return FITS if self.kv_tokens >= self.window else EDGE


@dataclass(frozen=True)
class StageUse:
    """One stage of an experiment on its GPUs."""

    stage: Stage
    trainer: TrainerUse
    # None without rollouts
    engine: EngineUse | None

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Of trainer and engine."""
        return (self.trainer.verdict, *([self.engine.verdict] if self.engine else []))


def use_of(spec: ExperimentSpec, geometry: Geometry, machine: Machine) -> tuple[StageUse, ...]:
    """Return what each stage takes; empty where nothing is forecast: without GPUs, or for a model of unknown sizes."""
    if spec.cluster.engine != "verl" or machine.architecture is None:
        return ()
    return tuple(_stage_use(spec, stage, machine, machine.architecture) for stage in geometry.stages)


def micro_batch_tokens(spec: ExperimentSpec, stage: Stage) -> int:
    """Return the most tokens that a micro-batch puts on one GPU: no more than the rank has rows."""
    sequence, window = spec.cluster.ulysses_sequence_parallel_size, spec.model.window
    rows = ceil(stage.batch.rows / stage.gpus.data_parallel_size)
    return min(stage.max_token_len_per_gpu, ceil(rows * window / sequence))


def trainer_setup(spec: ExperimentSpec, stage: Stage, machine: Machine, architecture: Architecture) -> TrainerSetup:
    """Return what the trainer's peak depends on."""
    cluster = spec.cluster
    flash = cluster.attention == "flash_attention_2" or (cluster.attention == "auto" and machine.flash_attention)
    rows = stage.batch.rows / stage.gpus.data_parallel_size
    kept = rows * spec.model.window / cluster.ulysses_sequence_parallel_size
    return TrainerSetup(
        architecture,
        gpus=stage.gpus.trainer,
        tokens=micro_batch_tokens(spec, stage),
        sequence=cluster.ulysses_sequence_parallel_size,
        offload_policy=cluster.offload_policy,
        lora_rank=spec.model.lora.rank or 0,
        lora_targets=spec.model.lora.target_modules,
        # Ulysses shares rows in flash attention only; Trinity's own loss needs flash-attn to pad rows
        flash=flash or cluster.ulysses_sequence_parallel_size > 1 or spec.loss == "stock",
        kept_tokens=kept if machine.keeps_outputs and spec.loss == "stock" else 0,
    )


def engine_setup(spec: ExperimentSpec, architecture: Architecture) -> EngineSetup:
    """Return what an engine's memory depends on."""
    cluster = spec.cluster
    return EngineSetup(
        architecture,
        tensor_parallel=cluster.tensor_parallel_size,
        utilization=cluster.gpu_memory_utilization,
        width=4 if cluster.dtype == "float32" else 2,
        window=spec.model.window,
        adapters=adapter_parameters(spec, architecture),
    )


def adapter_parameters(spec: ExperimentSpec, architecture: Architecture) -> int:
    """Return the parameters of LoRA's adapters; 0 without."""
    lora = spec.model.lora
    return architecture.layers * architecture.lora_parameters(lora.rank or 0, lora.target_modules)


def _stage_use(spec: ExperimentSpec, stage: Stage, machine: Machine, architecture: Architecture) -> StageUse:
    card = None if machine.card_gib is None else machine.card_gib * GIB
    setup = trainer_setup(spec, stage, machine, architecture)
    room = card
    if card is not None and stage.gpus.mode == "colocate":
        room = card * (1 - spec.cluster.gpu_memory_utilization) - BESIDE_TORCH
    trainer = TrainerUse(peak(setup), outside(setup), room)
    if not stage.batch.usual_rows:
        return StageUse(stage, trainer, None)
    of_engine = engine_setup(spec, architecture)
    engine = EngineUse(
        fixed(of_engine),
        None if card is None else kv_tokens(of_engine, card),
        None if card is None else most_kv_tokens(of_engine, card),
        spec.model.window,
    )
    return StageUse(stage, trainer, engine)


def worst(uses: tuple[StageUse, ...]) -> str:
    """Return the worst verdict of all stages."""
    order = (FITS, UNKNOWN, NEEDS_SEGMENTS, EDGE, TOO_MUCH)
    found = [verdict for use in uses for verdict in use.verdicts]
    return max(found, key=order.index, default=UNKNOWN)
