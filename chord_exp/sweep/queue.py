"""The order in which waiting trials start."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from chord_exp.sweep.ledger import Footprint
from chord_exp.sweep.trial import Trial

STRICT, BACKFILL = "strict", "backfill"
ORDERS = (STRICT, BACKFILL)
# how many others may start before the trial whose turn it is; then it is waited for
PATIENCE = 16


@dataclass
class _Turn:
    """The trial whose turn it is, and how often others went before it."""

    number: int = -1
    passed: int = 0


class Queue:
    """Waiting trials by number.

    `strict` starts them in that order. `backfill` lets a later one go first while the one whose turn it is does not
    fit, at most `patience` times: after that nothing starts before it, so none starves.

    Trials are kept by footprint, of which a sweep has few: a decision costs the same for ten and for ten thousand.
    """

    def __init__(self, order: str = BACKFILL, patience: int = PATIENCE) -> None:
        self.order, self.patience = order, patience
        self._waiting: dict[Footprint, list[tuple[int, Trial]]] = {}
        self._gone: set[int] = set()
        self._turn = _Turn()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def trials(self) -> list[Trial]:
        """All that wait."""
        return [trial for waiting in self._waiting.values() for number, trial in waiting if number not in self._gone]

    def add(self, trial: Trial) -> None:
        """Let a trial wait; one that was there before takes its old place, since places are numbers."""
        if trial.number in self._gone:
            self._forget(trial.number)
        heapq.heappush(self._waiting.setdefault(trial.footprint, []), (trial.number, trial))
        self._count += 1

    def remove(self, trial: Trial) -> None:
        """Take a waiting trial out."""
        self._gone.add(trial.number)
        self._count -= 1

    def pop(self, fits: Callable[[Footprint], bool]) -> Trial | None:
        """The next trial to start, taken out; None if none may start now.

        Args:
            fits: whether a footprint fits now.
        """
        heads = sorted(self._heads(), key=lambda trial: trial.number)
        if not heads:
            return None
        first = heads[0]
        if self._turn.number != first.number:
            self._turn = _Turn(first.number)
        if fits(first.footprint):
            return self._take(first)
        if self.order == STRICT or self._turn.passed >= self.patience:
            return None
        for trial in heads[1:]:
            if fits(trial.footprint):
                self._turn.passed += 1
                return self._take(trial)
        return None

    def _heads(self) -> list[Trial]:
        """The first waiting trial of each footprint."""
        heads = []
        for footprint in list(self._waiting):
            waiting = self._waiting[footprint]
            while waiting and waiting[0][0] in self._gone:
                self._gone.discard(heapq.heappop(waiting)[0])
            if waiting:
                heads.append(waiting[0][1])
            else:
                del self._waiting[footprint]
        return heads

    def _take(self, trial: Trial) -> Trial:
        heapq.heappop(self._waiting[trial.footprint])
        self._count -= 1
        return trial

    def _forget(self, number: int) -> None:
        for waiting in self._waiting.values():
            waiting[:] = [entry for entry in waiting if entry[0] != number]
            heapq.heapify(waiting)
        self._gone.discard(number)
