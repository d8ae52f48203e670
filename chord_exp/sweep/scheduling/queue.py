"""The order in which waiting trials start."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from chord_exp.sweep.scheduling.resources import Footprint, Node, Reservation, ResourcePool
from chord_exp.sweep.scheduling.trial import Trial

STRICT, BACKFILL = "strict", "backfill"
ORDERS = (STRICT, BACKFILL)
# how often, at most, the machines can be filled with others before the trial whose turn it is; then some are kept
ROUNDS = 2


def default_patience(nodes: Sequence[Node]) -> int:
    """Return how many trials fill the machines `ROUNDS` times: of one GPU each, of one core where there are no GPUs."""
    gpus, cpus = sum(node.gpus for node in nodes), sum(node.cpus for node in nodes)
    return ROUNDS * round(gpus or cpus)


@dataclass
class _Turn:
    """The trial whose turn it is, and how often others went before it."""

    number: int = -1
    passed: int = 0
    reservation: Reservation | None = None


class Queue:
    """Waiting trials by number.

    `strict` starts them in that order. `backfill` lets a later one go first while the one whose turn it is does not
    fit. After `patience` of them machines are kept for it: what runs there ends, nothing new starts there, and it
    starts. So none starves, and the other machines do not stand idle meanwhile.

    Trials are kept by footprint, of which a sweep has few: a decision costs the same for ten and for ten thousand.
    """

    def __init__(self, order: str = BACKFILL, patience: int = 0) -> None:
        self.order, self.patience = order, patience
        self._waiting: dict[Footprint, list[tuple[int, Trial]]] = {}
        self._gone: set[int] = set()
        self._turn = _Turn()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def trials(self) -> list[Trial]:
        """Return all that wait."""
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

    def pop(self, pool: ResourcePool) -> tuple[Trial, Reservation | None] | None:
        """Take out the next trial to start, with the machines that it must not take; None if none may start now."""
        heads = sorted(self._heads(), key=lambda trial: trial.number)
        if not heads:
            return None
        first = heads[0]
        if self._turn.number != first.number:
            self._turn = _Turn(first.number)
        if pool.fits(first.footprint):
            return self._take(first), None
        if self.order == STRICT:
            return None
        reservation = self._reserve(pool, first)
        for trial in heads[1:]:
            if pool.fits(trial.footprint, reservation):
                self._turn.passed += 1
                return self._take(trial), reservation
        return None

    def _reserve(self, pool: ResourcePool, first: Trial) -> Reservation | None:
        """Keep machines for the trial whose turn it is, once enough others have gone before it."""
        turn = self._turn
        if turn.passed >= self.patience and (turn.reservation is None or not pool.has(turn.reservation)):
            turn.reservation = pool.reserve(first.footprint)
        return turn.reservation

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
