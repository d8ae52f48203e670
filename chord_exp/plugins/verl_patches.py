"""Faults of verl, and of Trinity's worker for it, mended in that worker, where our losses are made after both were
imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chord_exp.run_files.checkpoints import ADAPTER_FOLDER
from chord_exp.trinity_config.installed import verl_keeps_outputs

ENGINE = "verl.workers.engine.fsdp.transformer_impl"
WORKER = "trinity.trainer.verl.workers"
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
    if verl_keeps_outputs():
        drop_outputs_of_training(engine.FSDPEngineWithLMHead)
    worker = sys.modules.get(WORKER)
    if worker is not None:
        hand_over_adapters_alone(worker.TrinityActorRolloutRefWorker)


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


def hand_over_adapters_alone(worker_class: Any) -> None:
    """Have Trinity's worker write LoRA adapters for the engines and nothing else, and fail where it cannot.

    Trinity 0.6 gathers and writes the whole model at every step, of which the engines read nothing, and then adapters;
    what goes wrong there it only logs, and the engines go on with old ones.
    """
    save_state_dict = worker_class.save_state_dict
    if getattr(save_state_dict, "adapters_alone", False):
        return

    def handing_over(self: Any, local_path: str, global_step: int = 0) -> None:
        import torch

        if not hasattr(self.actor.engine.module, "peft_config"):
            save_state_dict(self, local_path, global_step)
            return
        save: Callable[[], None] = partial(self._save_lora, local_path)
        if torch.distributed.get_rank() == 0:
            self._get_coordinator().save_sync(save, global_step, is_state_dict=True)
        else:
            save()

    def save_adapters(self: Any, local_path: str) -> None:
        import torch

        model = self.actor.engine.module
        if hasattr(model, "peft_config"):
            write_adapters(model, Path(local_path, ADAPTER_FOLDER))
            torch.distributed.barrier()

    handing_over.adapters_alone = True  # type: ignore[attr-defined]
    worker_class.save_state_dict = handing_over
    worker_class._save_lora = save_adapters


def write_adapters(model: Any, folder: Path) -> None:
    """Gather the adapters of a sharded `PeftModel` on every rank and write peft's folder on the first."""
    import torch
    from peft.utils.save_and_load import get_peft_model_state_dict
    from safetensors.torch import save_file
    from verl.utils.device import get_device_id

    whole = {}
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            shard = parameter.detach()
            # parameters that are kept in CPU memory between uses are gathered on the device
            gathered = shard.to(get_device_id()).full_tensor() if hasattr(shard, "full_tensor") else shard
            whole[name] = gathered.cpu().contiguous()
    if torch.distributed.get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(get_peft_model_state_dict(model, state_dict=whole), folder / "adapter_model.safetensors")
        model.peft_config["default"].save_pretrained(str(folder))
