"""Rows of a step, and the GPUs that share them."""

from __future__ import annotations

from collections.abc import Iterator

from chord_exp.check.subject import ERROR, WARNING, Finding, Subject
from chord_exp.experiment.geometry import ratio_by_round_trip

RATIO = "algorithm.sample_strategy_args.expert_data_ratio"


def batch_rules(subject: Subject) -> Iterator[Finding]:
    """U, E and T must agree, and D must divide them."""
    if not subject.is_chord:
        return
    usual, expert, rows = subject.usual_rows, subject.expert_rows, subject.batch_rows
    if subject.whole("algorithm.repeat_times", 8) < 2:
        yield Finding(
            ERROR,
            "algorithm.repeat_times",
            f"repeat_times={subject.get('algorithm.repeat_times')} gives no group to compare, so GRPO's advantage is 0",
            "set it to 2 or more",
        )
    if not 0 < subject.expert_ratio < 1 or expert >= rows:
        yield Finding(
            ERROR,
            RATIO,
            f"expert_data_ratio={subject.expert_ratio:g} of train_batch_size={rows} leaves one side empty: "
            f"{expert} expert rows, {rows - expert} rollouts",
            "give a share between 0 and 1, such as 0.25",
        )
        return
    yield from _sum(subject, usual, expert, rows)
    yield from _rounding(subject, expert, rows)
    yield from _ranks(subject, usual, expert, rows)


def _sum(subject: Subject, usual: int, expert: int, rows: int) -> Iterator[Finding]:
    taken = rows - expert
    if taken == usual:
        return
    ratio = subject.expert_ratio
    wanted_expert = max(1, round(usual * ratio / (1 - ratio)))
    wanted = usual + wanted_expert
    given = "is left out, so it is" if not subject.get("buffer.train_batch_size") else "is"
    left = "the rest piles up and grows stale" if taken < usual else "it waits for rows of the next step"
    fix = f"set train_batch_size: {wanted} ({usual} rollouts + {wanted_expert} expert rows)"
    if abs(wanted_expert / wanted - ratio) > 1e-9:
        fix += f" and expert_data_ratio: {ratio_by_round_trip(wanted_expert, wanted):.6g}"
    yield Finding(
        ERROR,
        "buffer.train_batch_size",
        f"train_batch_size {given} {rows}: with expert_data_ratio={ratio:g} the trainer takes {expert} expert rows and "
        f"{taken} rollouts a step, and the explorer makes batch_size x repeat_times = {usual}; {left}, and step counts "
        "of the two drift apart",
        fix,
    )


def _rounding(subject: Subject, expert: int, rows: int) -> Iterator[Finding]:
    exact = subject.expert_ratio * rows
    if expert != round(exact) and abs(exact - round(exact)) < 1e-6:
        meant = round(exact)
        yield Finding(
            ERROR,
            RATIO,
            f"ceil({subject.expert_ratio:g} x {rows}) is {expert} in floating point, not {meant}",
            f"write expert_data_ratio: {ratio_by_round_trip(meant, rows):.6g}",
        )


def _ranks(subject: Subject, usual: int, expert: int, rows: int) -> Iterator[Finding]:
    ranks = subject.data_parallel_size
    if ranks is None or ranks == 1:
        return
    if rows % ranks:
        yield Finding(
            ERROR,
            "buffer.train_batch_size",
            f"train_batch_size={rows} cannot be shared by D={ranks} trainer ranks: verl refuses it",
            f"use a multiple of {ranks}, such as {rows + -rows % ranks}",
        )
    elif usual % ranks or expert % ranks:
        yield Finding(
            WARNING,
            "buffer.train_batch_size",
            f"D={ranks} does not divide U={usual} and E={expert}: Trinity's own loss rounds its sizes down",
            f"use rollouts and expert rows in multiples of {ranks}",
        )


def gpu_rules(subject: Subject) -> Iterator[Finding]:
    """How engines and trainer share the cluster."""
    mode = subject.get("mode", "both")
    if subject.gpus is None:
        yield Finding(
            WARNING,
            "cluster",
            "node_num and gpu_per_node are not both given: Trinity takes the whole Ray cluster, D cannot be checked",
            "write them",
        )
        return
    if mode == "colocate":
        yield from _colocate(subject, subject.gpus)
    elif mode in ("both", "train"):
        yield from _shared(subject, subject.gpus)


def _colocate(subject: Subject, gpus: int) -> Iterator[Finding]:
    if gpus != 1:
        yield Finding(ERROR, "mode", f"mode colocate is for 1 GPU, and the cluster has {gpus}", "use mode: both")
    elif subject.engine_gpus != 1:
        yield Finding(
            ERROR,
            "explorer.rollout_model",
            f"engines ask for {subject.engine_gpus} GPUs of 1",
            "use one engine of 1 GPU",
        )


def _shared(subject: Subject, gpus: int) -> Iterator[Finding]:
    engines, node = subject.engine_gpus, subject.whole("cluster.gpu_per_node", 1)
    trainer, sequence = gpus - engines, subject.whole("trainer.ulysses_sequence_parallel_size", 1)
    taken = f"engines take {engines} of {gpus} GPUs"
    if trainer < 1:
        what = f"{taken} and leave none for the trainer"
        fix = "use mode: colocate" if gpus == 1 else "lower engine_num or tensor_parallel_size"
        yield Finding(ERROR, "explorer.rollout_model", what, fix)
    elif trainer > node and trainer % node:
        yield Finding(
            ERROR,
            "explorer.rollout_model",
            f"{taken} and leave {trainer} for the trainer, which is no whole number of machines of {node}",
            "change engine_num",
        )
    elif sequence > 1 and trainer % sequence:
        yield Finding(
            ERROR,
            "trainer.ulysses_sequence_parallel_size",
            f"{taken} and leave {trainer} for the trainer, which {sequence} does not divide",
            "use a size that divides the trainer's GPUs",
        )


def length_rules(subject: Subject) -> Iterator[Finding]:
    """Tokens of a row against the window and the micro-batch."""
    prompt, response = subject.whole("model.max_prompt_tokens", 0), subject.whole("model.max_response_tokens", 0)
    window = subject.whole("model.max_model_len", 0) or (prompt + response if prompt and response else 0)
    if prompt and response and prompt + response > window:
        yield Finding(
            ERROR,
            "model.max_model_len",
            f"max_prompt_tokens={prompt} + max_response_tokens={response} = {prompt + response} exceeds "
            f"max_model_len={window}",
            f"set it to {prompt + response}",
        )
    limit = subject.whole("trainer.max_token_len_per_gpu", 0)
    sequence = max(1, subject.whole("trainer.ulysses_sequence_parallel_size", 1))
    if limit and window and limit * sequence < window:
        yield Finding(
            ERROR,
            "trainer.max_token_len_per_gpu",
            f"a micro-batch of {limit} x {sequence} tokens cannot hold a row of up to {window}: the worker fails on it",
            f"set it to {-(-window // sequence)} or more",
        )
