"""The peak that PyTorch's FSDPMemTracker sees in one update on fake tensors: no GPU, no memory, seconds."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker, _FSDPRefType
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from tools.check_memory import step

# with FSDP2's CPU offload these live in main memory; the tracker, on a CPU, cannot tell
ON_THE_HOST = ("Sharded Param", "Sharded Grad", "OptState")


class Tracker(FSDPMemTracker):
    """Keeps the peak of what is on the device, and how it was made up."""

    def __init__(self, model: Any, optimizer: Any, host: tuple[str, ...]) -> None:
        super().__init__(model, optimizer)
        self.host = host
        self.peak = 0
        self.at_peak: dict[str, int] = {}

    def _fsdp_param_group_post_backward(self, fsdp_mod: Any, orig: Any) -> Any:
        """As in torch, without its reference to a gradient that is thereby kept alive while it is reduced."""

        def inner(*args: Any, **kwargs: Any) -> None:
            orig(*args, **kwargs)
            for param in fsdp_mod._get_fsdp_state()._fsdp_param_group.fsdp_params:
                if param.sharded_param.grad is not None:
                    self._update_and_maybe_create_winfos(param.sharded_param.grad, _FSDPRefType.SHARDED_GRAD)

        return inner

    def _update_peak_stats(self, peak_state: Any) -> None:
        for parts in self._curr_mem_snap.values():
            named = {getattr(key, "value", str(key)): value for key, value in parts.items()}
            total = named["Total"] - sum(named.get(part, 0) for part in self.host)
            if total > self.peak:
                self.peak, self.at_peak = total, named


def measure(point: step.Point, config: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """Return the peak of one rank, bytes, and its parts as the tracker names them."""
    dist.init_process_group("fake", rank=0, world_size=point.ranks, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (point.ranks,))
        model = step.on_meta(point, config, real=False)
        with step.sequence_parallel(point.sequence), FakeTensorMode():
            optimizer = step.build(model, point, mesh, real=False)
            step.go_to_second_update(model, optimizer)
            tracker = Tracker(model, optimizer, ON_THE_HOST if point.offload_policy else ())
            with tracker:
                step.update(model, optimizer, point, "cpu", real=False)
        return tracker.peak, tracker.at_peak
    finally:
        dist.destroy_process_group()
