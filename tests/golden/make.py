"""Write the golden files: the Trinity configuration of named experiments, flattened, one key a line.

    python tests/golden/make.py

A changed default then shows as a changed line in review. Folders and model are fixed: no path of a machine.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "helpers"))

from composing import FACTS, FOLDERS, compose_spec, to_trinity  # noqa: E402

EXPERIMENTS: dict[str, list[str]] = {
    "default": [],
    "phi": ["variant=phi"],
    "sft": ["variant=sft"],
    "grpo": ["variant=grpo"],
    "sft_then_grpo": ["variant=sft_then_grpo"],
    "stock": ["loss=stock"],
    "seed_full": ["experiment=seed_full"],
    "seed_simple": ["experiment=seed_simple"],
    "compare": ["experiment=compare"],
    "ablate_mu": ["experiment=ablate_mu"],
    "ablate_phi": ["experiment=ablate_phi", "phi=luffy_shaping"],
    "adaptive_mu": ["experiment=adaptive_mu", "mu_source=gac_estimate"],
    "tune_sft_then_grpo": ["experiment=tune_sft_then_grpo", "sft_share=0.25", "sft_lr=1e-3"],
    "tune_batch_lr": ["experiment=tune_batch_lr"],
    "tune_mu": ["experiment=tune_mu"],
    "tune_ratio": ["experiment=tune_ratio"],
    "paper_math_mu": ["experiment=paper_math_mu"],
    "paper_math_phi": ["experiment=paper_math_phi"],
    "paper_tools_mu": ["experiment=paper_tools_mu"],
    "paper_tools_phi": ["experiment=paper_tools_phi"],
    "lora": ["cluster=gpu_2", "model=qwen3_4b", "model.lora.rank=32"],
    "wandb": ["monitor=wandb"],
    "multi_node": ["cluster=multi_node", "model=qwen3_4b"],
}


def leaves(value: Any, path: str = "") -> list[str]:
    """`a.b.0.c = json` for every leaf, in order."""
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in leaves(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [line for index, item in enumerate(value) for line in leaves(item, f"{path}.{index}")]
    return [f"{path} = {json.dumps(value, ensure_ascii=False)}"]


def golden(name: str) -> str:
    """The text of one golden file."""
    spec = compose_spec(EXPERIMENTS[name])
    if Path(spec.model.path).is_absolute():
        # also told to WandB
        data = replace(spec.data, input_dir="/data/raw", out=FACTS.folder)
        spec = replace(spec, data=data, model=replace(spec.model, path=f"/models/{spec.model.name}"))
    return "\n".join(leaves(to_trinity(spec, FACTS, FOLDERS))) + "\n"


if __name__ == "__main__":
    for experiment in EXPERIMENTS:
        (HERE / f"{experiment}.txt").write_text(golden(experiment), encoding="utf-8")
