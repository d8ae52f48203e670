"""The peak of a real update on GPUs, by CUDA's caching allocator."""

from __future__ import annotations

import gc
import os
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from tools.check_memory import step


def measure(point: step.Point, config: dict[str, Any]) -> int:
    """Return the most that was allocated on this rank's GPU, bytes."""
    if not dist.is_initialized():
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
        for name, value in alone.items():
            os.environ.setdefault(name, value)
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    mesh = init_device_mesh("cuda", (point.ranks,))
    model = step.on_meta(point, config, real=True)
    optimizer = step.build(model, point, mesh, real=True)
    step.go_to_second_update(model, optimizer)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step.update(model, optimizer, point, "cuda", real=True)
    torch.cuda.synchronize()
    found = torch.cuda.max_memory_allocated()
    del model, optimizer
    gc.collect()
    torch.cuda.empty_cache()
    return found
