"""What a GPU has and a CPU lacks, as far as verl and vLLM's weight transfer ask for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

COUNTERS = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")
ACTIONS = ("empty_cache", "reset_peak_memory_stats", "reset_accumulated_memory_stats", "ipc_collect")
TRANSFER_TIMEOUT = timedelta(seconds=600)


def fill(torch: Any) -> None:
    """Give `torch.cpu` the memory counters (0 bytes) and actions (nothing to do) that verl asks of a device.

    A GPU that is there all the same is hidden: verl would choose it.
    """
    cpu = torch.cpu
    torch.cuda.is_available = lambda: False
    for name in COUNTERS:
        _add(cpu, name, lambda *args, **kwargs: 0)
    for name in ACTIONS:
        _add(cpu, name, lambda *args, **kwargs: None)
    # free and total, bytes
    _add(cpu, "mem_get_info", lambda *args: (0, 1))


def _add(module: Any, name: str, function: Any) -> None:
    if not hasattr(module, name):
        setattr(module, name, function)


class NoStream:
    """A CUDA stream where all work is done in order anyway."""

    def synchronize(self) -> None:
        """Return: nothing is under way."""

    def __enter__(self) -> NoStream:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class GlooCommunicator:
    """vLLM's PyNcclCommunicator for CPU tensors: the same rendezvous and ranks, gloo instead of NCCL."""

    def __init__(self, group: Any, device: Any) -> None:
        from torch.distributed import PrefixStore, ProcessGroupGloo

        self.group, self.rank, self.world_size, self.device = group, group.rank, group.world_size, device
        store = PrefixStore("gloo_weights", group.store)
        self.gloo: Any = ProcessGroupGloo(store, group.rank, group.world_size, TRANSFER_TIMEOUT)

    def broadcast(self, tensor: Any, src: int, stream: object = None) -> None:
        """Fill `tensor` on every rank with that of rank `src`."""
        self.gloo.broadcast(tensor, src).wait()

    def destroy(self) -> None:
        """Leave the group."""
        del self.gloo
