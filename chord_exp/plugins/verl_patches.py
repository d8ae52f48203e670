"""Two faults of verl, mended in its own worker, where our losses are made after verl was imported."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.util import find_spec
from typing import Any

ENGINE = "verl.workers.engine.fsdp.transformer_impl"
# the release that keeps outputs; 0.9 drops them itself (verl issues 6696 and 6698)
KEEPS_OUTPUTS = "0.8."
# of flash-attn, in the order that verl hands them out
PADDING = ("index_first_axis", "pad_input", "rearrange", "unpad_input")


def mend_loaded_verl() -> None:
    """Mend verl if this process is a worker of its trainer; safe to call again."""
    engine = sys.modules.get(ENGINE)
    if engine is None:
        return
    # what verl has in its place needs einops, which comes with vLLM
    if find_spec("flash_attn") is None and find_spec("einops") is not None:
        pad_without_flash_attention()
    if metadata.version("verl").startswith(KEEPS_OUTPUTS):
        drop_outputs_of_training(engine.FSDPEngineWithLMHead)


def pad_without_flash_attention() -> None:
    """Have verl pad and unpad rows by plain torch: it imports flash-attn for that, and needs it for nothing else when
    cluster.attention=sdpa."""
    from verl.utils import attention_utils, npu_flash_attn_utils

    functions = tuple(getattr(npu_flash_attn_utils, name) for name in PADDING)
    attention_utils._get_attention_functions = lambda: functions


def drop_outputs_of_training(engine_class: Any) -> None:
    """Let go of a micro-batch's outputs after it: training reads its loss and metrics only.

    verl keeps them until the update ends. What the loss does not read of them, such as the entropy, holds its part of
    the graph and with it the logits: an update's memory grows by every micro-batch.
    """
    forward_step = engine_class.forward_step
    if getattr(forward_step, "drops_outputs", False):
        return

    def dropping(self: Any, micro_batch: Any, loss_function: Any, forward_only: bool) -> tuple[Any, dict[str, Any]]:
        loss, output = forward_step(self, micro_batch, loss_function=loss_function, forward_only=forward_only)
        if not forward_only:
            output.pop("model_output", None)
        return loss, output

    dropping.drops_outputs = True  # type: ignore[attr-defined]
    engine_class.forward_step = dropping
