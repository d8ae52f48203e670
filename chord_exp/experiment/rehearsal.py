"""In which settings a rehearsal by cluster=real_cpu differs from the same experiment on GPUs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One setting."""

    # key of this package, or of Trinity where it follows from the engine
    key: str
    rehearsal: str
    on_gpus: str
    why: str


# values of conf/cluster/real_cpu.yaml against those of gpu_2.yaml, and what the engine decides; tests compare both
DIFFERENCES = (
    Difference("cluster.ray_address", "local", "auto", "a private Ray that believes in as many GPUs as are asked for"),
    Difference("cluster.dtype", "float32", "bfloat16", "few CPUs are fast at bfloat16; the trainer likewise"),
    Difference("attention", "sdpa", "flash_attention_2 where it is installed", "flash-attn is for GPUs"),
    Difference("explorer.rollout_model.enforce_eager", "true", "false", "there are no CUDA graphs"),
    Difference("cluster.gpu_memory_utilization", "0.1", "0.9", "of main memory, which is shared with the trainer"),
    Difference("cluster.engine_num", "1", "null", "one engine, however many GPUs are believed in"),
    Difference("weights", "gloo", "NCCL", "the same code of vLLM and Trinity over another transport"),
)
