"""Rows of a step, and the GPUs that share them."""

from __future__ import annotations

from collections.abc import Iterator

from chord_exp.check.subject import ERROR, WARNING, Finding, Subject, of_refusal
from chord_exp.errors import ConfigError
from chord_exp.experiment.field_checks import check_window
from chord_exp.experiment.geometry import check_micro_batch, ratio_by_round_trip
from chord_exp.experiment.gpu_split import check_split

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
    if gpus == 1:
        yield Finding(ERROR, "explorer.rollout_model", "engine and trainer share 1 GPU", "use mode: colocate")
        return
    node, sequence = subject.whole("cluster.gpu_per_node", 1), subject.sequence
    try:
        check_split(gpus, node, subject.engine_gpus, sequence)
    except ConfigError as error:
        yield of_refusal(error)


def length_rules(subject: Subject) -> Iterator[Finding]:
    """Tokens of a row against the window and the micro-batch."""
    prompt, response = subject.whole("model.max_prompt_tokens", 0), subject.whole("model.max_response_tokens", 0)
    window = subject.whole("model.max_model_len", 0) or (prompt + response if prompt and response else 0)
    limit = subject.whole("trainer.max_token_len_per_gpu", 0)
    try:
        if prompt and response:
            check_window(prompt, response, window)
        if limit and window:
            check_micro_batch(limit, subject.sequence, window)
    except ConfigError as error:
        yield of_refusal(error)
