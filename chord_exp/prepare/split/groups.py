"""Which prompt groups are expert, rollout, held-out or test ones. Pure.

A group's place depends on the rank of its seeded hash, never on file order, and a prompt never lies on two sides. Every
stratum (source, kind of answer and language together) is divided alike. In small ones the lowest ranks are taken, which
gives the asked share exactly, up to one group; large ones are cut at a fixed rank, so that adding rows moves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chord_exp.errors import DataError
from chord_exp.utils.split_settings import ALL

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

MAX_EVAL_SHARE = 0.2
"""Held-out prompts never take more than this share of the verifiable ones, nor do test prompts, so that small data
sets keep something to train on."""
LARGE_STRATUM = 20_000
"""Groups from which a stratum is cut at a fixed rank: the share then errs by less than a third of a percent."""
_RANKS = float(1 << 64)


@dataclass(frozen=True)
class Groups:
    """The prompt groups that may leave the SFT side, as columns of shape (groups,).

    Args:
        expert_rows: rows that the group brings to the SFT side; 0 for one that has no response and must be rolled out.
        split_rank: uniform 64-bit rank, for expert against rollout.
        eval_rank: another such rank, for the held-out prompts.
        stratum: number of the stratum.
    """

    expert_rows: Array
    split_rank: Array
    eval_rank: Array
    stratum: Array

    def __len__(self) -> int:
        return len(self.expert_rows)


@dataclass(frozen=True)
class Split:
    """Which groups go where, booleans of shape (groups,), exactly one for each group."""

    expert: Array
    rollout: Array
    held_out: Array
    test: Array


def split_groups(groups: Groups, *, expert_ratio: float, eval_rows: int, test_rows: int = 0) -> Split:
    """Divide the groups.

    Args:
        groups: a group counts with all its rows as expert, with one as a rollout or held-out prompt.
        expert_ratio: expert rows / (expert rows + rollout prompts) to reach.
        eval_rows: prompts to hold out; ALL leaves nothing else.
        test_rows: prompts to hold out besides; they change nothing about which those are.

    Raises:
        DataError: too few groups to fill both sides.
    """
    import numpy as np

    everything, nothing = np.ones(len(groups), bool), np.zeros(len(groups), bool)
    if eval_rows == ALL:
        return Split(expert=nothing, rollout=nothing, held_out=everything, test=nothing)
    held_out = _hold_out(groups, everything, eval_rows)
    test = _hold_out(groups, ~held_out, test_rows)
    rest = ~(held_out | test)
    answered = rest & (groups.expert_rows > 0)
    if rest.sum() < 2 or not answered.any():
        some = "no" if not answered.any() else "1"
        raise DataError(
            f"{some} prompt with a verifiable answer and a response cannot fill an SFT and an RL side",
            fix="add rows with other prompts that end in \\boxed{…}, '#### 42' or 'the answer is 42'",
        )
    expert = np.zeros(len(groups), bool)
    # prompts without a response are rolled out whatever the share
    experts, rollouts = 0, int((rest & ~answered).sum())
    for members in _strata(groups.stratum, answered):
        members = members[np.lexsort((groups.eval_rank[members], groups.split_rank[members]))]
        rows = groups.expert_rows[members]
        if len(members) >= LARGE_STRATUM:
            cut = _cut_at_rank(groups.split_rank[members], rows, expert_ratio)
        else:
            cut = _cut(rows, experts, rollouts, expert_ratio)
        expert[members[:cut]] = True
        experts += int(rows[:cut].sum())
        rollouts += len(members) - cut
    _fill_both_sides(expert, answered, rest, groups)
    return Split(expert, rest & ~expert, held_out, test)


def _strata(stratum: Array, chosen: Array) -> Iterator[Array]:
    """Group numbers of each stratum, large strata first: the small ones then make up for what those miss."""
    import numpy as np

    members = np.flatnonzero(chosen)
    members = members[np.argsort(stratum[members], kind="stable")]
    if not len(members):
        return
    parts = np.split(members, np.flatnonzero(np.diff(stratum[members])) + 1)
    # ties by group number, which follows the hash: names of files decide nothing
    yield from sorted(parts, key=lambda part: (-len(part), part[0]))


def _hold_out(groups: Groups, free: Array, count: int) -> Array:
    """Choose `count` of the free groups, at most MAX_EVAL_SHARE of all."""
    import numpy as np

    held_out = np.zeros(len(groups), bool)
    share = min(count, int(MAX_EVAL_SHARE * len(groups))) / max(int(free.sum()), 1)
    taken, seen = 0, 0
    for members in _strata(groups.stratum, free):
        members = members[np.lexsort((groups.split_rank[members], groups.eval_rank[members]))]
        seen += len(members)
        # the shares of all strata so far add up to the whole number nearest to what was asked
        here = min(len(members), max(0, round(share * seen) - taken))
        held_out[members[:here]] = True
        taken += here
    return held_out


def _cut(rows: Array, experts: int, rollouts: int, ratio: float) -> int:
    """Number of leading groups that brings the expert share of all strata so far closest to `ratio`."""
    import numpy as np

    gained = np.concatenate(([0], np.cumsum(rows))) + experts
    share = gained / np.maximum(gained + rollouts + np.arange(len(rows), -1, -1), 1)
    return int(np.argmin(np.abs(share - ratio)))


def _cut_at_rank(ranks: Array, rows: Array, ratio: float) -> int:
    """Number of leading groups below the rank at which the expert share is `ratio` on average."""
    import numpy as np

    mean = float(rows.mean())
    share = ratio / (mean * (1 - ratio) + ratio)
    return int(np.searchsorted(ranks, np.uint64(min(share * _RANKS, _RANKS - 2048))))


def _fill_both_sides(expert: Array, answered: Array, rest: Array, groups: Groups) -> None:
    """Neither side may be empty: move the one group that is nearest to the border."""
    import numpy as np

    movable = np.flatnonzero(answered)
    if not expert.any():
        expert[movable[np.argmin(groups.split_rank[movable])]] = True
    elif (expert == rest).all():
        expert[movable[np.argmax(groups.split_rank[movable])]] = False
