"""Which prompt groups are expert, rollout or held-out ones. Pure.

A group's place depends on the rank of its keyed hash, never on file order; a prompt never lies on two sides.
Taking the lowest ranks gives the asked share exactly, up to one group, and when rows are added only groups
near the cut move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chord_exp.errors import DataError

MAX_EVAL_SHARE = 0.2
"""Held-out prompts never take more than this share of the verifiable ones, so that small data sets keep
something to train on."""


@dataclass(frozen=True)
class Split:
    """Group numbers of each side, and the held-out prompts asked for."""

    expert: list[int]
    rollout: list[int]
    held_out: list[int]
    eval_asked: int


def split_groups(
    free_rows: Sequence[int],
    split_rank: Sequence[int],
    eval_rank: Sequence[int],
    *,
    expert_ratio: float,
    eval_rows: int | None,
    eval_ratio: float | None,
) -> Split:
    """Divides the groups that are free to go anywhere.

    Args:
        free_rows: rows of each group that may go to any side; 0 takes the group out. A group counts with all
            its rows as expert, with one as a rollout or held-out prompt.
        split_rank: uniform 64-bit rank of each group, for expert against rollout.
        eval_rank: another such rank, for the held-out prompts.
        expert_ratio: expert rows / (expert rows + rollout prompts) to reach.
        eval_rows, eval_ratio: prompts to hold out, as a number or as a share; one of them is None.

    Raises:
        DataError: fewer than two groups to divide.
    """
    groups = [group for group, rows in enumerate(free_rows) if rows]
    asked = eval_rows if eval_rows is not None else round((eval_ratio or 0) * len(groups))
    held = min(asked, int(MAX_EVAL_SHARE * len(groups)))
    groups.sort(key=lambda group: (eval_rank[group], split_rank[group]))
    held_out, rest = groups[:held], groups[held:]
    if len(rest) < 2:
        raise DataError(
            f"{len(rest)} prompt with a verifiable answer cannot fill an SFT and an RL side",
            fix="add rows with other prompts that end in \\boxed{…}, '#### 42' or 'the answer is 42'",
        )
    rest.sort(key=lambda group: (split_rank[group], eval_rank[group]))
    cut = _cut([free_rows[group] for group in rest], expert_ratio)
    return Split(rest[:cut], rest[cut:], held_out, asked)


def _cut(sizes: list[int], ratio: float) -> int:
    """Number of leading groups that makes the expert share come closest to `ratio`, at least one and not
    all."""
    best, best_error, expert = 1, float("inf"), 0
    for cut in range(1, len(sizes)):
        expert += sizes[cut - 1]
        error = abs(expert / (expert + len(sizes) - cut) - ratio)
        if error >= best_error:
            break
        best, best_error = cut, error
    return best
