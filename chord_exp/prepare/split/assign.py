"""Which row goes where: without duplicates, by prompt group, each side in the order of a hash.

Works on whole columns (numpy), so that a million rows take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chord_exp.prepare.columns import LAST_ONLY, RL_ONLY, SEVERAL_TURNS, Columns
from chord_exp.prepare.rejects import CONFLICTING, SFT_ONLY, SHARED_PROMPT
from chord_exp.prepare.rows.script import LANGUAGES
from chord_exp.prepare.split.groups import Groups, split_groups
from chord_exp.prepare.split.near_duplicates import Part, near_duplicates
from chord_exp.trinity_config.rows import EVAL, RL, SFT, TEST
from chord_exp.utils.split_settings import SplitSettings

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

REASONS = ("", *SFT_ONLY)
"""What a number in the column `reason` means."""
_KINDS_AND_LANGUAGES = 256 * len(LANGUAGES)


@dataclass
class Assignment:
    """Where every usable row went.

    Args:
        sides: row numbers of each side, in writing order: by the hash of the row, so mixed well and the same for any
            file order. Trinity reads expert rows as they lie.
        exact: row numbers of exact duplicates.
        near: row numbers of near duplicates.
        same_prompt: row numbers left out because a rollout or held-out prompt needs to stand there only once.
        late_rejects: row numbers that turned out to have no place, with the reason for the list of rejects.
        reason: why a row may not leave the SFT side, a number into REASONS; shape (rows,).
        multi_turn: every answer of a conversation is trained, not the last alone.
    """

    sides: dict[str, Array]
    exact: Array
    near: Array
    same_prompt: Array
    late_rejects: list[tuple[str, Array]]
    reason: Array
    multi_turn: bool


class Assigner:
    """Takes the columns through the steps one by one; `free` tells whether there is anything to split."""

    def __init__(self, columns: Columns, mentions: bytes, parts: Sequence[Part], settings: SplitSettings) -> None:
        import numpy as np

        self._np = np
        self._settings = settings
        self._columns = columns
        names = ("digest_high", "digest_low", "rank", "group_high", "group_low", "value", "reason", "flags")
        loaded = columns.load(*names)
        self._rank, self._value, self._flags = loaded["rank"], loaded["value"], loaded["flags"]
        self.reason = loaded["reason"]
        self.exact = self._exact_duplicates(loaded.pop("digest_high"), loaded.pop("digest_low"))
        self.near = self._near_duplicates(parts)
        self._alive = np.ones(len(columns), bool)
        self._alive[self.exact] = False
        self._alive[self.near] = False
        self._group(loaded.pop("group_high"), loaded.pop("group_low"), mentions)
        self._pin_to_sft()

    def _exact_duplicates(self, high: Array, low: Array) -> Array:
        """Of two duplicates the one that may be rolled out stays, else the one with the smaller hash."""
        np = self._np
        order = np.lexsort((self._rank, self.reason != 0, low, high))
        high, low = high[order], low[order]
        return np.sort(order[1:][(high[1:] == high[:-1]) & (low[1:] == low[:-1])])

    def _near_duplicates(self, parts: Sequence[Part]) -> Array:
        np = self._np
        if self._settings.near_dedup is None:
            return np.empty(0, np.int64)
        found = near_duplicates(parts, self._rank, self._value, self._settings.near_dedup)
        found[self.exact] = False
        return np.flatnonzero(found)

    def _group(self, high: Array, low: Array, mentions: bytes) -> None:
        """Number the prompt groups; `mentioned` are those that a later turn of some conversation asks."""
        np = self._np
        rows = len(high)
        later = np.frombuffer(mentions, "<u8").reshape(-1, 2)
        high, low = np.concatenate([high, later[:, 0]]), np.concatenate([low, later[:, 1]])
        order = np.lexsort((low, high))
        new = np.concatenate(([True], (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)))[: len(order)]
        number = np.empty(len(order), np.uint32)
        number[order] = np.cumsum(new, dtype=np.uint32) - 1
        first = order[new]
        self._split_rank, self._eval_rank = high[first], low[first]
        self._group_of, self._mentioned = number[:rows], number[rows:]

    def _pin_to_sft(self) -> None:
        """Mark the rows whose prompt group keeps them on the SFT side."""
        np = self._np
        count = len(self._split_rank)
        given = self._value != 0
        lowest, highest = np.full(count, np.iinfo(np.uint64).max, np.uint64), np.zeros(count, np.uint64)
        np.minimum.at(lowest, self._group_of[given], self._value[given])
        np.maximum.at(highest, self._group_of[given], self._value[given])
        conflicting = (highest != 0) & (lowest != highest)
        bound = np.zeros(count, bool)
        bound[self._mentioned] = True
        bound[self._group_of[self._alive & (self.reason != 0)]] = True
        free = self.reason == 0
        self.reason[free & conflicting[self._group_of]] = REASONS.index(CONFLICTING)
        self.reason[free & ~conflicting[self._group_of] & bound[self._group_of]] = REASONS.index(SHARED_PROMPT)
        # what has no response cannot stay on the SFT side
        rl_only = (self._flags & RL_ONLY) != 0
        self._unplaceable = np.flatnonzero(self._alive & rl_only & (self.reason != 0))
        self._alive[self._unplaceable] = False
        self._free = self._alive & (self.reason == 0)
        self._expert = self._free & ~rl_only

    @property
    def free(self) -> int:
        """Rows that may go to any side."""
        return int(self._free.sum())

    @property
    def experts(self) -> int:
        """Those of them that have a response to imitate."""
        return int(self._expert.sum())

    def reasons(self) -> dict[str, int]:
        """How many rows stay on the SFT side, by reason."""
        counts = self._np.bincount(self.reason[self._alive], minlength=len(REASONS))
        return {reason: int(count) for reason, count in zip(REASONS, counts, strict=True) if reason and count}

    def assign(self, sources: Array) -> Assignment:
        """Split the groups and give every row its side.

        Args:
            sources: number of the source of each input file.

        Raises:
            DataError: too few prompt groups.
        """
        np = self._np
        side = self._sides(sources)
        order = np.argsort(self._rank, kind="stable")
        order = order[self._alive[order]]
        rolled_out = self._free[order] & (side[self._group_of[order]] != _SFT)
        # of several rows with one prompt, the first by hash becomes the rollout; what has no response goes where its
        # group goes, and needs to stand there only once
        once = np.zeros(len(order), bool)
        once[np.flatnonzero(rolled_out)[np.unique(self._group_of[order[rolled_out]], return_index=True)[1]]] = True
        unplaceable = ~rolled_out & ((self._flags[order] & RL_ONLY) != 0)
        surplus = (rolled_out & ~once) | unplaceable
        sft_rows = order[~rolled_out & ~unplaceable]
        asked_side = side[self._group_of[order]]
        sft_rows, late_rejects, multi_turn = self._turns(sft_rows)
        return Assignment(
            sides={
                SFT: sft_rows,
                RL: order[once & (asked_side == _RL)],
                EVAL: order[once & (asked_side == _EVAL)],
                TEST: order[once & (asked_side == _TEST)],
            },
            exact=self.exact,
            near=self.near,
            same_prompt=order[surplus],
            late_rejects=late_rejects,
            reason=self.reason,
            multi_turn=multi_turn,
        )

    def _sides(self, sources: Array) -> Array:
        """The side of each group."""
        np = self._np
        count = len(self._split_rank)
        expert_rows = np.bincount(self._group_of[self._expert], minlength=count)
        members = np.zeros(count, bool)
        members[self._group_of[self._free]] = True
        chosen = np.flatnonzero(members)
        groups = Groups(
            expert_rows[chosen], self._split_rank[chosen], self._eval_rank[chosen], self._strata(sources)[chosen]
        )
        settings = self._settings
        split = split_groups(
            groups,
            expert_ratio=settings.expert_ratio,
            eval_rows=settings.eval_rows,
            test_rows=settings.test_rows,
        )
        side = np.full(count, _SFT, np.uint8)
        side[chosen[split.rollout]] = _RL
        side[chosen[split.held_out]] = _EVAL
        side[chosen[split.test]] = _TEST
        return side

    def _strata(self, sources: Array) -> Array:
        """The stratum of each group: that of its row of lowest rank."""
        np = self._np
        rows = np.flatnonzero(self._free)
        rows = rows[np.argsort(self._rank[rows], kind="stable")[::-1]]
        loaded = self._columns.load("kind", "language")
        source = sources[self._columns.files()[rows]].astype(np.int64)
        kinds = source * _KINDS_AND_LANGUAGES + loaded["kind"][rows] * len(LANGUAGES) + loaded["language"][rows]
        stratum = np.zeros(len(self._split_rank), np.int64)
        # later writes win: the lowest rank comes last
        stratum[self._group_of[rows]] = kinds
        return stratum

    def _turns(self, sft_rows: Array) -> tuple[Array, list[tuple[str, Array]], bool]:
        """Trinity trains every answer of all conversations, or the last of each: rows that forbid what others need
        have no place."""
        flags = self._flags[sft_rows]
        several = (flags & SEVERAL_TURNS) != 0
        last_only = several & ((flags & LAST_ONLY) != 0)
        multi_turn = bool((several & ~last_only).any())
        late_rejects = [("conflicting_truths", self._unplaceable)] if len(self._unplaceable) else []
        if multi_turn and last_only.any():
            late_rejects.append(("untrained_turn", sft_rows[last_only]))
            sft_rows = sft_rows[~last_only]
        return sft_rows, late_rejects, multi_turn


_SFT, _RL, _EVAL, _TEST = 0, 1, 2, 3
