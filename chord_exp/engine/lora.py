"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft: made, merged into the weights that others load, kept beside them.

A checkpoint `global_step_N/actor/` of a model with adapters holds `lora_adapter/` (peft's folder, which vLLM loads) and
`huggingface/` with the merged weights, which anyone loads.
"""

from __future__ import annotations

import gc
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from chord_exp.run_files.checkpoints import ADAPTER_FOLDER, HF_FOLDER

# peft's name for the only adapter of a model
_NAME = "default"


def adapter_of(config: Any) -> Any | None:
    """Return Trinity's settings of the adapter that a configuration asks for, or None where all weights are trained."""
    configs = config.model.lora_configs
    return configs[0] if configs else None


def add_adapter(model: Any, adapter: Any, start: Path | None = None) -> Any:
    """Freeze a model and put adapters beside its weights.

    Args:
        adapter: Trinity's `LoRAConfig`.
        start: peft's folder of the adapters to go on with; None for new ones, which change nothing yet (B = 0).

    Returns:
        The model as a `peft.PeftModel`.
    """
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model

    if start is not None:
        return PeftModel.from_pretrained(model, str(start), is_trainable=True)
    settings = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=adapter.lora_rank,
        lora_alpha=adapter.lora_alpha,
        target_modules=adapter.target_modules,
        exclude_modules=adapter.exclude_modules,
        bias="none",
    )
    return get_peft_model(model, settings)


def merged_weights(model: Any) -> dict[str, Tensor]:
    """Return the state dict of a model with its adapters merged in: W + alpha / r · BA under the names of W.

    The model itself stays as it is: merging and taking out again would wear its weights.
    """
    from peft.tuners.lora import Linear

    plain = model.get_base_model()
    added = {
        f"{name}.base_layer.weight": layer.get_delta_weight(_NAME)
        for name, layer in plain.named_modules()
        if isinstance(layer, Linear)
    }
    return {
        name.replace(".base_layer", ""): tensor + added[name] if name in added else tensor
        for name, tensor in plain.state_dict().items()
        if ".lora_" not in name
    }


def merge_checkpoint(base: str | Path, actor_dir: Path, *, trust_remote_code: bool = False) -> None:
    """Write the merged weights of a checkpoint into its Hugging Face folder, as verl leaves them out.

    Takes the memory of the model once, in the number format of its own files.

    Args:
        base: the model that the adapters were trained beside.
        actor_dir: `global_step_N/actor` of the checkpoint; without adapters nothing is done.

    Raises:
        OSError: it cannot be written; no half of it stays.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter, target = actor_dir / ADAPTER_FOLDER, actor_dir / HF_FOLDER
    if not adapter.is_dir():
        return
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto", trust_remote_code=trust_remote_code)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    draft = actor_dir / "merged.part"
    try:
        merged.save_pretrained(draft)
        target.mkdir(exist_ok=True)
        for file in draft.iterdir():
            file.replace(target / file.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        del model, merged
        gc.collect()
