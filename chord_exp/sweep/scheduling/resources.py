"""Who holds what: a trial is admitted with everything it will ever ask for, or not at all.

A trial is itself an application of many processes that each ask for GPUs. Two that were let in with half of what they
need would wait for each other forever.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Footprint:
    """Everything a trial takes while it runs."""

    # GPUs in all
    gpus: int = 0
    # CPU cores in all
    cpus: float = 1.0
    # memory in all, GiB; 0 where it does not count
    memory: float = 0.0
    # machines that these are spread over evenly
    nodes: int = 1
    # whether its processes ask a Ray cluster for them, rather than a private Ray in the process of the trial
    joins: bool = False

    @property
    def per_node(self) -> tuple[float, float, float]:
        """GPUs, CPU cores and GiB on each of its machines."""
        return self.gpus / self.nodes, self.cpus / self.nodes, self.memory / self.nodes

    def __str__(self) -> str:
        parts = [f"{self.gpus} GPU{'s' * (self.gpus != 1)}"] if self.gpus else []
        parts.append(f"{self.cpus:g} CPU{'s' * (self.cpus != 1)}")
        if self.memory:
            parts.append(f"{self.memory:.1f} GiB")
        where = f" on {self.nodes} machines" if self.nodes > 1 else ""
        return ", ".join(parts) + where


@dataclass(frozen=True)
class Node:
    """What a machine has to give."""

    name: str
    gpus: int = 0
    cpus: float = 1.0
    # GiB
    memory: float = 0.0


@dataclass(frozen=True)
class Reservation:
    """Machines that are kept for a trial until what still runs on them has ended."""

    footprint: Footprint
    # names of the machines
    places: tuple[str, ...]


@dataclass
class _Free:
    gpus: float
    cpus: float
    memory: float

    def holds(self, gpus: float, cpus: float, memory: float) -> bool:
        # sums of fractions must not keep a machine from being filled
        slack = 1e-9
        return self.gpus + slack >= gpus and self.cpus + slack >= cpus and self.memory + slack >= memory

    def change(self, share: tuple[float, float, float], sign: int) -> None:
        self.gpus += sign * share[0]
        self.cpus += sign * share[1]
        self.memory += sign * share[2]


@dataclass
class Ledger:
    """What the machines have and what the admitted trials hold."""

    nodes: Sequence[Node]
    # GPUs that all trials together may hold; None: all there are
    max_gpus: int | None = None
    # trials at once; None: as many as fit
    max_concurrent: int | None = None
    _free: dict[str, _Free] = field(init=False, repr=False)
    _held: dict[Hashable, tuple[Footprint, tuple[str, ...]]] = field(init=False, default_factory=dict, repr=False)
    _gpus: int = field(init=False, default=0)
    _others: tuple[Footprint, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        self.resize(self.nodes)

    @property
    def gpus_held(self) -> int:
        """GPUs that the admitted trials hold together."""
        return self._gpus

    def resize(self, nodes: Sequence[Node]) -> None:
        """Machines came or went; what admitted trials hold stays theirs."""
        self.nodes = tuple(nodes)
        self._free = {node.name: _Free(node.gpus, node.cpus, node.memory) for node in nodes}
        for footprint, places in self._held.values():
            for place in places:
                if place in self._free:
                    self._free[place].change(footprint.per_node, -1)
        for footprint in self._others:
            for place in self._free_places(footprint) or self._any_places(footprint):
                self._free[place].change(footprint.per_node, -1)

    def set_others(self, footprints: Sequence[Footprint]) -> None:
        """Enter what other sweeps hold, in place of what was entered before. It does not count towards the limits."""
        self._others = tuple(footprints)
        self.resize(self.nodes)

    def never(self, footprint: Footprint) -> str:
        """Why a trial could not start even on empty machines; empty if it could."""
        if self.max_gpus is not None and footprint.gpus > self.max_gpus:
            return f"it takes {footprint} and max_gpus is {self.max_gpus}"
        gpus, cpus, memory = footprint.per_node
        fitting = sum(_Free(node.gpus, node.cpus, node.memory).holds(gpus, cpus, memory) for node in self.nodes)
        if fitting >= footprint.nodes:
            return ""
        return f"it takes {footprint}, and there is {describe(self.nodes)}"

    def fits(self, footprint: Footprint, kept: Reservation | None = None) -> bool:
        """Whether a trial could start now; with `kept`, without putting off the trial of that reservation."""
        return self._places(footprint, kept) is not None

    def take(self, key: Hashable, footprint: Footprint, kept: Reservation | None = None) -> bool:
        """Admit a trial if it fits."""
        places = self._places(footprint, kept)
        if places is None:
            return False
        self._hold(key, footprint, places)
        return True

    def reserve(self, footprint: Footprint) -> Reservation | None:
        """Machines to keep for a trial that does not fit now: those with most room; None where it never will.

        Once what runs on them now has ended it can start, if whatever starts until then is admitted beside it.
        """
        share = footprint.per_node
        able = [node.name for node in self.nodes if _Free(node.gpus, node.cpus, node.memory).holds(*share)]
        if len(able) < footprint.nodes or self.never(footprint):
            return None
        return Reservation(footprint, self._roomiest(able)[: footprint.nodes])

    def holds(self, kept: Reservation) -> bool:
        """Whether the machines of a reservation are all still there."""
        return all(place in self._free for place in kept.places)

    def adopt(self, key: Hashable, footprint: Footprint) -> None:
        """Enter a trial that runs already, whether or not it fits."""
        self._hold(key, footprint, self._free_places(footprint) or self._any_places(footprint))

    def release(self, key: Hashable) -> None:
        """A trial ended."""
        footprint, places = self._held.pop(key)
        self._gpus -= footprint.gpus
        for place in places:
            if place in self._free:
                self._free[place].change(footprint.per_node, +1)

    def _hold(self, key: Hashable, footprint: Footprint, places: tuple[str, ...]) -> None:
        self._held[key] = (footprint, places)
        self._gpus += footprint.gpus
        for place in places:
            self._free[place].change(footprint.per_node, -1)

    def _places(self, footprint: Footprint, kept: Reservation | None) -> tuple[str, ...] | None:
        if not self._within_limits(footprint.gpus, self._gpus, len(self._held)):
            return None
        if kept is not None:
            # what runs on the kept machines ends before the trial that they are kept for starts
            beside = [held.gpus for held, places in self._held.values() if not set(places) & set(kept.places)]
            if not self._within_limits(footprint.gpus + kept.footprint.gpus, sum(beside), len(beside) + 1):
                return None
        return self._free_places(footprint, () if kept is None else kept.places)

    def _within_limits(self, gpus: int, gpus_held: int, trials: int) -> bool:
        if self.max_concurrent is not None and trials >= self.max_concurrent:
            return False
        return self.max_gpus is None or gpus_held + gpus <= self.max_gpus

    def _any_places(self, footprint: Footprint) -> tuple[str, ...]:
        """Machines for what runs already, whatever they have left: those with most."""
        return self._roomiest(self._free)[: footprint.nodes]

    def _roomiest(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=lambda name: (-self._free[name].gpus, -self._free[name].cpus)))

    def _free_places(self, footprint: Footprint, kept: Sequence[str] = ()) -> tuple[str, ...] | None:
        share = footprint.per_node
        fitting = [
            (free.gpus, free.cpus, name) for name, free in self._free.items() if name not in kept and free.holds(*share)
        ]
        if len(fitting) < footprint.nodes:
            return None
        # the fullest machines that still fit: the empty ones are kept for trials that need them whole
        return tuple(name for _, _, name in sorted(fitting)[: footprint.nodes])


def describe(nodes: Sequence[Node]) -> str:
    """The machines in a few words."""
    if not nodes:
        return "no machine"
    kinds = dict.fromkeys((node.gpus, node.cpus, node.memory) for node in nodes)
    said = []
    for gpus, cpus, memory in kinds:
        count = sum((node.gpus, node.cpus, node.memory) == (gpus, cpus, memory) for node in nodes)
        said.append(f"{count} machine{'s' * (count != 1)} of {Footprint(gpus, cpus, memory)}")
    return " and ".join(said)
