"""One update of the trainer, as verl 0.8 does it with FSDP2: the real model, sharding, checkpointing and AdamW.

On a CPU under `FakeTensorMode` it computes nothing and takes seconds; on GPUs it is a real update. What only a GPU
has, flash-attn's two kernels, is stood in for by functions that allocate what its sources do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

FLASH, SDPA = "flash_attention_2", "sdpa"
# transformers would look for a package behind a name with "flash" in it
STAND_IN = "stand_in"
# rows of queries that flash-attn's backward rounds up to
FLASH_BLOCK = 128


@dataclass(frozen=True)
class Point:
    """One setting to measure."""

    # name of a known architecture, such as Qwen3-4B
    model: str
    # layers that it is given; the rest of it is as it is
    layers: int
    # trainer GPUs
    ranks: int
    # tokens of a micro-batch on one GPU
    tokens: int
    # FSDP2's CPU offload
    offload_policy: bool = False
    # rank of LoRA's adapters; 0: all parameters are trained
    lora_rank: int = 0
    # trainer GPUs that share a row
    sequence: int = 1
    # flash_attention_2, with its cross entropy; sdpa, with verl's own
    attention: str = FLASH
    # tokens that it knows; a few, to see what else takes memory. 0: as it is
    vocabulary: int = 0


class FlashAttention(torch.autograd.Function):
    """What flash-attn's varlen kernels allocate (csrc/flash_attn/flash_api.cpp, 2.8), and nothing of what they compute.

    Shapes: q (1, tokens, heads, dim), k and v (1, tokens, kv_heads, dim).
    """

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(q)
        lse = torch.empty(q.shape[2], q.shape[1], dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v, *_ = ctx.saved_tensors
        _, tokens, heads, dim = q.shape
        sum_of_rows = torch.empty(heads, tokens + FLASH_BLOCK, dtype=torch.float32, device=q.device)
        accumulated = torch.empty(tokens + FLASH_BLOCK, heads, dim, dtype=torch.float32, device=q.device)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        if heads != k.shape[2]:
            # one gradient a query head, summed up into dk and dv afterwards
            expanded = torch.empty_like(q), torch.empty_like(q)
            del expanded
        del sum_of_rows, accumulated
        return dq, dk, dv


class FlashCrossEntropy(torch.autograd.Function):
    """What flash-attn's cross entropy allocates: its backward writes over the logits."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        losses = torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
        lse = torch.empty_like(losses)
        ctx.save_for_backward(logits, lse, labels)
        return losses

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, _, _ = ctx.saved_tensors
        return logits, None


def attention_stand_in(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attention as verl's patched flash attention calls it: all-to-all, the kernel, all-to-all back."""
    from verl.models.transformers.monkey_patch import repeat_kv
    from verl.utils.ulysses import (
        gather_heads_scatter_seq,
        gather_seq_scatter_heads,
        get_ulysses_sequence_parallel_world_size,
    )

    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    sequence = get_ulysses_sequence_parallel_world_size()
    if sequence > 1:
        repeats = max(sequence // key.size(2), 1)
        key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
        query, key, value = (gather_seq_scatter_heads(part, seq_dim=1, head_dim=2) for part in (query, key, value))
    out = FlashAttention.apply(query, key, value)
    if sequence > 1:
        out = gather_heads_scatter_seq(out, head_dim=2, seq_dim=1)
    return out, None


AttentionInterface.register(STAND_IN, attention_stand_in)


def on_meta(point: Point, config: dict[str, Any], real: bool) -> nn.Module:
    """Return the model before it has any memory; `real`: flash-attn itself instead of its stand-in."""
    attention = SDPA if point.attention == SDPA else FLASH if real else STAND_IN
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**config), dtype=torch.float32, attn_implementation=attention
        )
        if point.lora_rank:
            model = _with_lora(model, point.lora_rank)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def build(model: nn.Module, point: Point, mesh: DeviceMesh, real: bool) -> torch.optim.Optimizer:
    """Give a model of `on_meta` memory, shard it, and return its optimizer."""
    from verl.utils.fsdp_utils import apply_fsdp2

    _fill(model, mesh.device_type)
    offload = CPUOffloadPolicy(pin_memory=real) if point.offload_policy else None
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=True)
    apply_fsdp2(
        model, {"mesh": mesh, "mp_policy": policy, "offload_policy": offload, "reshard_after_forward": True}, {}
    )
    # on a GPU foreach is AdamW's own choice
    return torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.01, foreach=True)


def _fill(model: nn.Module, device: str) -> None:
    """Replace what is on the meta device; a matrix in two places stays one."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is None:
                continue
            if id(param) not in made:
                empty = torch.full(param.shape, 0.01, dtype=param.dtype, device=device)
                made[id(param)] = nn.Parameter(empty, requires_grad=param.requires_grad)
            module._parameters[name] = made[id(param)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.ones(buffer.shape, dtype=buffer.dtype, device=device)


def _with_lora(model: nn.Module, rank: int) -> nn.Module:
    """Adapters as verl makes them, in bfloat16 as Trinity has them for FSDP2."""
    from peft import LoraConfig, TaskType, get_peft_model

    model.enable_input_require_grads()
    wanted = LoraConfig(task_type=TaskType.CAUSAL_LM, r=rank, lora_alpha=rank, target_modules="all-linear", bias="none")
    model = get_peft_model(model, wanted)
    for param in model.parameters():
        if param.requires_grad:
            param.data = param.data.to(torch.bfloat16)
    return model


def go_to_second_update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer its states and the parameters gradients, as after the first micro-batch of a second update."""
    for param in model.parameters():
        if param.requires_grad:
            param.grad = torch.zeros_like(param)
    # DTensor finds out once how an operation is sharded, on tensors of full size that a tracker would count
    clip(model)
    optimizer.step()


def update(model: nn.Module, optimizer: torch.optim.Optimizer, point: Point, device: str, real: bool) -> None:
    """Do one more micro-batch, forward and backward, and the optimizer's step, in verl's order."""
    from verl.utils.torch_functional import logprobs_from_logits_v2

    ids = torch.ones(1, point.tokens, dtype=torch.long, device=device)
    # two rows, packed
    position_ids = (torch.arange(point.tokens, device=device) % (point.tokens // 2)).unsqueeze(0)
    temperature = torch.ones(point.tokens, dtype=torch.float32, device=device)
    mask: dict[str, Any] | None = None
    if not real:
        # whether rows are packed depends on values, which fake tensors have not
        mask = {"full_attention": None}
    if not real and point.attention == SDPA:
        # the one that transformers makes for packed rows
        mask = {"full_attention": torch.ones(1, 1, point.tokens, point.tokens, dtype=torch.bool, device=device)}
    with torch.autocast(device, dtype=torch.bfloat16):
        output = model(input_ids=ids, position_ids=position_ids, attention_mask=mask, use_cache=False)
        logits = output.logits.squeeze(0)
        logits.div_(temperature.clamp(min=1e-8).unsqueeze(-1).to(logits.dtype))
        if point.attention == SDPA:
            log_probs = logprobs_from_logits_v2(logits, ids[0])
        elif real:
            from verl.utils.torch_functional import logprobs_from_logits

            log_probs = logprobs_from_logits(logits, ids[0], inplace_backward=True)
        else:
            log_probs = -FlashCrossEntropy.apply(logits, ids[0])
        loss = log_probs.float().mean()
    del output, logits, log_probs
    loss.backward()
    clip(model)
    optimizer.step()


def clip(model: nn.Module) -> None:
    """Clip gradients as verl's `fsdp2_clip_grad_norm_`, without its move of the norm to a GPU."""
    from torch.nn.utils.clip_grad import _clip_grads_with_norm_, _get_total_norm

    parameters = list(model.parameters())
    norm = _get_total_norm([param.grad for param in parameters if param.grad is not None], 2.0, False, True)
    _clip_grads_with_norm_(parameters, 1.0, norm, True)


@contextmanager
def sequence_parallel(size: int) -> Iterator[None]:
    """Let verl's attention share rows between `size` ranks."""
    from verl.utils.ulysses import set_ulysses_sequence_parallel_group

    if size == 1:
        yield
        return
    group = dist.new_group(list(range(size)))
    set_ulysses_sequence_parallel_group(group)
    try:
        yield
    finally:
        set_ulysses_sequence_parallel_group(None)
