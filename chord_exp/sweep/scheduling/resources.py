"""What the machines have and who holds it: a trial is admitted with everything it will ever ask for, or not at all.

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
    node_names: tuple[str, ...]


@dataclass
class _Free:
    gpus: float
    cpus: float
    memory: float

    def fits(self, gpus: float, cpus: float, memory: float) -> bool:
        # sums of fractions must not keep a machine from being filled
        slack = 1e-9
        return self.gpus + slack >= gpus and self.cpus + slack >= cpus and self.memory + slack >= memory

    def change(self, share: tuple[float, float, float], sign: int) -> None:
        self.gpus += sign * share[0]
        self.cpus += sign * share[1]
        self.memory += sign * share[2]


@dataclass
class ResourcePool:
    """What the machines have and what the admitted trials hold."""

    nodes: Sequence[Node]
    # GPUs that all trials together may hold; None: all there are
    max_gpus: int | None = None
    # trials at once; None: as many as fit
    max_concurrent: int | None = None
    _free: dict[str, _Free] = field(init=False, repr=False)
    _held: dict[Hashable, tuple[Footprint, tuple[str, ...]]] = field(init=False, default_factory=dict, repr=False)
    _gpus: int = field(init=False, default=0)
    _external: tuple[Footprint, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        self.resize(self.nodes)

    @property
    def gpus_held(self) -> int:
        """GPUs that the admitted trials hold together."""
        return self._gpus

    def resize(self, nodes: Sequence[Node]) -> None:
        """Take other machines in place of those so far; what admitted trials hold stays theirs."""
        self.nodes = tuple(nodes)
        self._free = {node.name: _Free(node.gpus, node.cpus, node.memory) for node in nodes}
        for footprint, names in self._held.values():
            for name in names:
                if name in self._free:
                    self._free[name].change(footprint.per_node, -1)
        for footprint in self._external:
            for name in self._free_nodes(footprint) or self._roomiest_nodes(footprint):
                self._free[name].change(footprint.per_node, -1)

    def set_external(self, footprints: Sequence[Footprint]) -> None:
        """Enter what other sweeps hold, in place of what was entered before. It does not count towards the limits."""
        self._external = tuple(footprints)
        self.resize(self.nodes)

    def why_unschedulable(self, footprint: Footprint) -> str:
        """Return why a trial could not start even on empty machines; empty if it could."""
        if self.max_gpus is not None and footprint.gpus > self.max_gpus:
            return f"it takes {footprint} and max_gpus is {self.max_gpus}"
        gpus, cpus, memory = footprint.per_node
        fitting = sum(_Free(node.gpus, node.cpus, node.memory).fits(gpus, cpus, memory) for node in self.nodes)
        if fitting >= footprint.nodes:
            return ""
        return f"it takes {footprint}, and there is {describe(self.nodes)}"

    def fits(self, footprint: Footprint, reservation: Reservation | None = None) -> bool:
        """Return whether a trial could start now, without putting off the one that a reservation is for."""
        return self._find_nodes(footprint, reservation) is not None

    def take(self, key: Hashable, footprint: Footprint, reservation: Reservation | None = None) -> bool:
        """Admit a trial if it fits."""
        names = self._find_nodes(footprint, reservation)
        if names is None:
            return False
        self._hold(key, footprint, names)
        return True

    def reserve(self, footprint: Footprint) -> Reservation | None:
        """Choose machines to keep for a trial that does not fit now: those with most room; None where it never will.

        Once what runs on them now has ended it can start, if whatever starts until then is admitted beside it.
        """
        share = footprint.per_node
        able = [node.name for node in self.nodes if _Free(node.gpus, node.cpus, node.memory).fits(*share)]
        if len(able) < footprint.nodes or self.why_unschedulable(footprint):
            return None
        return Reservation(footprint, self._roomiest(able)[: footprint.nodes])

    def has(self, reservation: Reservation) -> bool:
        """Return whether the machines of a reservation are all still there."""
        return all(name in self._free for name in reservation.node_names)

    def adopt(self, key: Hashable, footprint: Footprint) -> None:
        """Enter a trial that runs already, whether or not it fits."""
        self._hold(key, footprint, self._free_nodes(footprint) or self._roomiest_nodes(footprint))

    def release(self, key: Hashable) -> None:
        """Take back what an ended trial held."""
        footprint, names = self._held.pop(key)
        self._gpus -= footprint.gpus
        for name in names:
            if name in self._free:
                self._free[name].change(footprint.per_node, +1)

    def _hold(self, key: Hashable, footprint: Footprint, node_names: tuple[str, ...]) -> None:
        self._held[key] = (footprint, node_names)
        self._gpus += footprint.gpus
        for name in node_names:
            self._free[name].change(footprint.per_node, -1)

    def _find_nodes(self, footprint: Footprint, reservation: Reservation | None) -> tuple[str, ...] | None:
        if not self._within_limits(footprint.gpus, self._gpus, len(self._held)):
            return None
        if reservation is not None:
            # what runs on the kept machines ends before the trial that they are kept for starts
            beside = [held.gpus for held, names in self._held.values() if not set(names) & set(reservation.node_names)]
            if not self._within_limits(footprint.gpus + reservation.footprint.gpus, sum(beside), len(beside) + 1):
                return None
        return self._free_nodes(footprint, () if reservation is None else reservation.node_names)

    def _within_limits(self, gpus: int, gpus_held: int, trials: int) -> bool:
        if self.max_concurrent is not None and trials >= self.max_concurrent:
            return False
        return self.max_gpus is None or gpus_held + gpus <= self.max_gpus

    def _roomiest_nodes(self, footprint: Footprint) -> tuple[str, ...]:
        """Machines for what runs already, whatever they have left: those with most."""
        return self._roomiest(self._free)[: footprint.nodes]

    def _roomiest(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=lambda name: (-self._free[name].gpus, -self._free[name].cpus)))

    def _free_nodes(self, footprint: Footprint, reserved: Sequence[str] = ()) -> tuple[str, ...] | None:
        share = footprint.per_node
        fitting = [
            (free.gpus, free.cpus, name)
            for name, free in self._free.items()
            if name not in reserved and free.fits(*share)
        ]
        if len(fitting) < footprint.nodes:
            return None
        # the fullest machines that still fit: the empty ones are kept for trials that need them whole
        return tuple(name for _, _, name in sorted(fitting)[: footprint.nodes])


def describe(nodes: Sequence[Node]) -> str:
    """Describe machines in a few words."""
    if not nodes:
        return "no machine"
    kinds = dict.fromkeys((node.gpus, node.cpus, node.memory) for node in nodes)
    said = []
    for gpus, cpus, memory in kinds:
        count = sum((node.gpus, node.cpus, node.memory) == (gpus, cpus, memory) for node in nodes)
        said.append(f"{count} machine{'s' * (count != 1)} of {Footprint(gpus, cpus, memory)}")
    return " and ".join(said)
