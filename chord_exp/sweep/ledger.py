"""Who holds what: a trial is admitted with everything it will ever ask for, or not at all.

A trial is itself an application of many processes that each ask for GPUs. Two that were let in with half of what they
need would wait for each other forever.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
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

    def fits(self, footprint: Footprint) -> bool:
        """Whether a trial could start now."""
        return self._places(footprint) is not None

    def take(self, key: Hashable, footprint: Footprint) -> bool:
        """Admit a trial if it fits."""
        places = self._places(footprint)
        if places is None:
            return False
        self._hold(key, footprint, places)
        return True

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

    def _places(self, footprint: Footprint) -> tuple[str, ...] | None:
        if self.max_concurrent is not None and len(self._held) >= self.max_concurrent:
            return None
        if self.max_gpus is not None and self._gpus + footprint.gpus > self.max_gpus:
            return None
        return self._free_places(footprint)

    def _any_places(self, footprint: Footprint) -> tuple[str, ...]:
        """Machines for what runs already, whatever they have left: those with most."""
        ordered = sorted(self._free, key=lambda name: (-self._free[name].gpus, -self._free[name].cpus))
        return tuple(ordered[: footprint.nodes])

    def _free_places(self, footprint: Footprint) -> tuple[str, ...] | None:
        share = footprint.per_node
        fitting = [(free.gpus, free.cpus, name) for name, free in self._free.items() if free.holds(*share)]
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
