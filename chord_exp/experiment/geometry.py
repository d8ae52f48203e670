"""Batch arithmetic: everything that must agree and that Trinity does not check.

Names: U usual rows (rollouts) and E expert rows of one step; T = U + E rows of the training batch;
rho = E / T; D the trainer's data-parallel size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, lcm

from chord_exp.errors import ConfigError
from chord_exp.experiment.gpu_split import GpuSplit, split_gpus
from chord_exp.experiment.objective import SCHEDULE
from chord_exp.experiment.schedule import warnings_of as schedule_warnings
from chord_exp.experiment.sections import LORA_RANKS
from chord_exp.experiment.spec import DataFacts, ExperimentSpec

# the highest learning rate that is usual for training all weights, and a sign of one that was meant for that
FULL_TRAINING_LR = 5e-6
# E is rounded to what D allows; more than this share away from what was asked for, the user must decide
MAX_EXPERT_ROWS_OFF = 0.5


@dataclass(frozen=True)
class Batch:
    """Rows of one training step."""

    # U; 0 for SFT
    usual_rows: int
    # E; 0 for GRPO
    expert_rows: int

    @property
    def rows(self) -> int:
        """T, Trinity's train_batch_size."""
        return self.usual_rows + self.expert_rows

    @property
    def expert_data_ratio(self) -> float:
        """rho as Trinity must be told it, so that its ceil(rho·T) is E."""
        return ratio_by_round_trip(self.expert_rows, self.rows)


@dataclass(frozen=True)
class Stage:
    """One Trinity run of an experiment; every variant but sft_then_grpo has one."""

    # chord, sft or grpo
    kind: str
    steps: int
    batch: Batch
    gpus: GpuSplit
    # passes over the expert rows that the steps take, rounded up; 0 without expert rows
    expert_epochs: int
    # passes over the RL prompts that the steps take, rounded up; 0 without rollouts
    prompt_epochs: int
    # tokens of one micro-batch on one trainer GPU
    max_token_len_per_gpu: int
    # checkpoint interval, steps
    save_interval: int
    # evaluation interval, steps
    eval_interval: int


@dataclass(frozen=True)
class Geometry:
    """All derived numbers of an experiment, and what a user should know about them."""

    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]

    @property
    def total_steps(self) -> int:
        """Trainer steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def ratio_by_round_trip(expert_rows: int, rows: int) -> float:
    """The share rho for which Trinity's `ceil(rho * rows)` is exactly `expert_rows`.

    E / T misrounds for some pairs (ceil(0.07 * 100) is 8); half a row less never does.
    """
    exact = expert_rows / rows
    return exact if ceil(exact * rows) == expert_rows else (expert_rows - 0.5) / rows


def stage_kinds(variant: str) -> tuple[str, ...]:
    """The kinds of the stages of a variant, in order."""
    return {"sft": ("sft",), "grpo": ("grpo",), "sft_then_grpo": ("sft", "grpo")}.get(variant, ("chord",))


def derive(spec: ExperimentSpec, facts: DataFacts) -> Geometry:
    """Every number that follows from the specification and the size of the data.

    Raises:
        ConfigError: numbers that cannot agree, with both of them and the fix.
    """
    _check_facts(spec, facts)
    _check_lora(spec)
    kinds = stage_kinds(spec.variant)
    stages = tuple(_stage(spec, facts, kind, kinds) for kind in kinds)
    return Geometry(stages, tuple(_warnings(spec, facts, stages)))


def _stage(spec: ExperimentSpec, facts: DataFacts, kind: str, kinds: tuple[str, ...]) -> Stage:
    gpus = split_gpus(spec.cluster, kind, spec.batch_size * spec.repeat_times)
    batch = _batch(spec, kind, gpus.data_parallel_size)
    _check_rows_of_a_step(spec, facts, batch)
    steps = _steps(spec, facts, kind, kinds, batch)
    return Stage(
        kind=kind,
        steps=steps,
        batch=batch,
        gpus=gpus,
        expert_epochs=ceil(steps * batch.expert_rows / facts.expert_rows) if batch.expert_rows else 0,
        prompt_epochs=ceil(steps * spec.batch_size / facts.rl_rows) if batch.usual_rows else 0,
        max_token_len_per_gpu=_micro_batch_tokens(spec, facts, kind, batch, gpus.data_parallel_size),
        save_interval=min(spec.cluster.save_interval, steps),
        eval_interval=min(spec.data.eval_interval, steps),
    )


def _batch(spec: ExperimentSpec, kind: str, data_parallel_size: int) -> Batch:
    usual = spec.batch_size * spec.repeat_times
    if kind == "grpo":
        _check_divides(spec, data_parallel_size, usual)
        return Batch(usual, 0)
    ideal = usual * spec.expert_data_ratio / (1 - spec.expert_data_ratio)
    if kind == "sft":
        return Batch(0, _nearest_rows(spec, ideal, 0, data_parallel_size))
    if spec.loss == "stock":
        _check_divides(spec, data_parallel_size, usual)
    # verl gives every rank T / D rows; Trinity's own loss also needs D to divide U and E each
    return Batch(usual, _nearest_rows(spec, ideal, usual, data_parallel_size))


def _nearest_rows(spec: ExperimentSpec, ideal: float, usual: int, data_parallel_size: int) -> int:
    """The number of expert rows nearest to `ideal` for which D divides the whole batch; at least one."""
    first = -usual % data_parallel_size or data_parallel_size
    lower = first + max(0, int((ideal - first) // data_parallel_size)) * data_parallel_size
    expert = min((lower, lower + data_parallel_size), key=lambda rows: (abs(rows - ideal), rows))
    if abs(expert - ideal) > MAX_EXPERT_ROWS_OFF * ideal:
        counted = spec.batch_size * spec.repeat_times
        raise ConfigError(
            f"expert_data_ratio={spec.expert_data_ratio} of a step with {counted} rollouts is "
            f"{ideal:.2f} expert rows; with "
            f"{data_parallel_size} trainer ranks to share the batch the nearest possible number is {expert}",
            "expert_data_ratio",
            f"set expert_data_ratio={expert / (counted + expert):.4g}, or raise batch_size",
        )
    return expert


def _check_divides(spec: ExperimentSpec, data_parallel_size: int, usual: int) -> None:
    if usual % data_parallel_size == 0:
        return
    up = spec.batch_size
    while up * spec.repeat_times % data_parallel_size:
        up += 1
    remedy = f"set batch_size={up}" + (", or loss=exact" if spec.uses_chord else "")
    raise ConfigError(
        f"batch_size={spec.batch_size} x repeat_times={spec.repeat_times} = {usual} rollouts a step "
        "cannot be shared evenly "
        f"by {data_parallel_size} trainer ranks, so loss={spec.loss} cannot weigh them exactly",
        "batch_size",
        remedy,
    )


def _steps(spec: ExperimentSpec, facts: DataFacts, kind: str, kinds: tuple[str, ...], batch: Batch) -> int:
    if spec.total_steps is not None:
        if len(kinds) == 1:
            return spec.total_steps
        if spec.total_steps < len(kinds):
            raise ConfigError(
                f"total_steps={spec.total_steps} is fewer than the {len(kinds)} stages of variant={spec.variant}",
                "total_steps",
                f"give {len(kinds)} or more",
            )
        first = min(spec.total_steps - 1, max(1, int(spec.total_steps * spec.sft_share)))
        return first if kind == kinds[0] else spec.total_steps - first
    rows, taken = (facts.expert_rows, batch.expert_rows) if kind == "sft" else (facts.rl_rows, spec.batch_size)
    return max(1, spec.data.epochs * rows // taken)


def _micro_batch_tokens(
    spec: ExperimentSpec, facts: DataFacts, kind: str, batch: Batch, data_parallel_size: int
) -> int:
    """Token limit of a micro-batch on one GPU; verl fails in the worker when a row is longer."""
    sequence, window = spec.cluster.ulysses_sequence_parallel_size, spec.model.window
    given = spec.cluster.max_token_len_per_gpu
    limit = ceil(2 * window / sequence) if given is None else given
    check_micro_batch(limit, sequence, window)
    whole_rank = ceil(batch.rows / data_parallel_size * window / sequence)
    if spec.loss == "stock" and kind != "chord" and limit < whole_rank:
        raise ConfigError(
            f"loss=stock sums Trinity's {kind} loss over micro-batches: it is exact only when a rank "
            "takes its "
            f"{batch.rows // data_parallel_size} rows of up to {window} tokens at once, {whole_rank} "
            "tokens a GPU, "
            f"and the limit is {limit}",
            "loss",
            f"use loss=exact, or cluster.max_token_len_per_gpu={whole_rank} where the memory allows it",
        )
    longest = facts.expert_tokens_max
    if spec.cluster.engine != "local" and kind != "grpo" and longest is not None and longest > limit * sequence:
        raise ConfigError(
            f"the longest expert row has {longest} tokens and a micro-batch holds {limit * sequence}: "
            "training would die on it",
            "cluster.max_token_len_per_gpu",
            f"set it to {ceil(longest / sequence)} or more, or take such rows out of the data",
        )
    return limit


def check_micro_batch(limit: int, sequence: int, window: int) -> None:
    """Refuse a micro-batch of `limit` tokens on each of `sequence` GPUs that cannot hold one row of the window."""
    if limit * sequence < window:
        raise ConfigError(
            f"cluster.max_token_len_per_gpu={limit} x ulysses_sequence_parallel_size={sequence} = {limit * sequence} "
            f"tokens cannot hold one row of up to {window} tokens (model.max_model_len): the worker fails on it",
            "cluster.max_token_len_per_gpu",
            f"set it to {ceil(window / sequence)} or more, or to null",
        )


def _check_facts(spec: ExperimentSpec, facts: DataFacts) -> None:
    needed = [("expert rows", facts.expert_rows)] if spec.uses_expert_rows else []
    needed += [("RL prompts", facts.rl_rows)] if spec.uses_rollouts else []
    for what, rows in needed:
        if rows < 1:
            raise ConfigError(
                f"the prepared data has {rows} {what}, and variant={spec.variant} trains on them",
                facts.folder,
                "change data.expert_ratio, add data, or use another variant",
            )
    if facts.prompt_tokens_max is not None and facts.prompt_tokens_max >= spec.model.window:
        raise ConfigError(
            f"the longest prompt has {facts.prompt_tokens_max} tokens and the model's window is {spec.model.window}",
            "model.max_model_len",
            "raise model.max_prompt_tokens and model.max_model_len, or shorten the prompts",
        )


def _check_lora(spec: ExperimentSpec) -> None:
    """What vLLM and Trinity's weight synchronisation ask of adapters."""
    rank, cluster = spec.model.lora.rank, spec.cluster
    if rank is None or not spec.serves_adapters:
        return
    if rank not in LORA_RANKS:
        raise ConfigError(
            f"model.lora.rank={rank}: vLLM serves adapters of rank {', '.join(map(str, LORA_RANKS))}",
            "model.lora.rank",
            f"use {min(LORA_RANKS, key=lambda known: abs(known - rank))}",
        )
    if cluster.sync_method not in (None, "checkpoint"):
        raise ConfigError(
            f"cluster.sync_method={cluster.sync_method} and model.lora.rank={rank}: Trinity hands adapters over as "
            "files only",
            "cluster.sync_method",
            "leave it out, or use checkpoint",
        )


def _check_rows_of_a_step(spec: ExperimentSpec, facts: DataFacts, batch: Batch) -> None:
    """A step takes a row once: Trinity's selectors wrap once around the data, and then give fewer rows or none."""
    if facts.assumed:
        return
    if batch.expert_rows > facts.expert_rows:
        most = facts.expert_rows / (batch.usual_rows + facts.expert_rows)
        raise ConfigError(
            f"a step takes E = {batch.expert_rows} expert rows and the data has {facts.expert_rows}",
            "expert_data_ratio",
            f"set expert_data_ratio={most:.4g} or less, raise data.expert_ratio, or lower batch_size"
            if batch.usual_rows
            else "lower batch_size, or raise data.expert_ratio",
        )
    if batch.usual_rows and spec.batch_size > facts.rl_rows:
        raise ConfigError(
            f"a step takes batch_size={spec.batch_size} prompts and the data has {facts.rl_rows} RL prompts",
            "batch_size",
            f"set it to {facts.rl_rows} or less, or add data",
        )


def _warnings(spec: ExperimentSpec, facts: DataFacts, stages: tuple[Stage, ...]) -> list[str]:
    found = []
    model = spec.model
    if facts.assumed:
        found.append(
            f"the data is not there: {facts.expert_rows} expert rows, {facts.rl_rows} RL prompts and "
            f"{facts.eval_rows} "
            "evaluation prompts are assumed"
        )
    longest = facts.prompt_tokens_max
    if spec.uses_rollouts and longest is not None and longest > model.max_prompt_tokens:
        found.append(
            f"the longest prompt has {longest} tokens: prompts over model.max_prompt_tokens="
            f"{model.max_prompt_tokens} earn nothing and teach nothing"
        )
    longest = facts.expert_tokens_max
    if spec.uses_expert_rows and longest is not None and longest > model.window:
        found.append(
            f"the longest expert row has {longest} tokens, more than the window of {model.window} that "
            "memory was planned for: Trinity trains on it whole"
        )
    if spec.uses_expert_rows and model.temperature != 1:
        found.append(
            f"model.temperature={model.temperature}: the trainer divides its logits by it, those of expert rows too"
        )
    if spec.serves_adapters and spec.lr <= FULL_TRAINING_LR:
        found.append(
            f"lr={spec.lr:g} is usual for training all weights; adapters (model.lora.rank={model.lora.rank}) want "
            f"about ten times that: lr={10 * spec.lr:g}"
        )
    for stage in stages:
        found += _stage_warnings(spec, stage)
    if spec.cluster.keep_best:
        found += _unscored(stages[-1], facts)
    return found


def _unscored(stage: Stage, facts: DataFacts) -> list[str]:
    """What keeps a checkpoint from being chosen by its held-out score."""
    if not facts.eval_rows:
        return ["cluster.keep_best chooses nothing: no prompts are held out (data.eval_rows)"]
    if lcm(stage.save_interval, stage.eval_interval) > stage.steps:
        return [
            f"cluster.keep_best has no choice: checkpoints are saved every {stage.save_interval} steps, scored every "
            f"{stage.eval_interval}, and only at the end at once (cluster.save_interval, data.eval_interval)"
        ]
    return []


def _stage_warnings(spec: ExperimentSpec, stage: Stage) -> list[str]:
    found: list[str] = []
    batch = stage.batch
    if stage.kind != "chord":
        return found
    asked, got = spec.expert_data_ratio, batch.expert_rows / batch.rows
    if abs(got - asked) > 0.1 * asked:
        found.append(f"expert_data_ratio={asked} becomes {got:.4f}: {batch.expert_rows} of {batch.rows} rows")
    if spec.mu_source != SCHEDULE:
        return found
    return found + [what for _, what in schedule_warnings(spec.mu, stage.steps)]
