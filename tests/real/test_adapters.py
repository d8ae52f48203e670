"""Adapters (LoRA): trained by verl, handed over as files, served by vLLM, merged at the end."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from conftest import REAL, small_policy_change
from running import finish
from safetensors.torch import load_file
from test_modes import check_succeeded

import chord_exp

BASE = Path(chord_exp.__file__).parent / "tiny" / "model" / "model.safetensors"
RANK, ALPHA = 8, 32


def test_adapters_are_trained_served_at_every_step_and_merged(tmp_path: Path) -> None:
    # of three steps the last rollouts come from the second adapters under one name; so large a learning rate shows
    # an engine that answers from older ones, or from rows that it cached with them
    words = [f"model.lora.rank={RANK}", f"model.lora.alpha={ALPHA}", "lr=1e-2", "total_steps=3"]
    run, output = finish(tmp_path / "run", *REAL, *words, "cluster.save_interval=3")
    check_succeeded(run, output)
    assert run.series("rollout/model_version") == {1: 0, 2: 1, 3: 2}
    assert small_policy_change(run)
    # of the frozen model nothing was written between
    assert list(run.folder.glob("checkpoints/*/*/global_step_*/actor/model.safetensors")) == []
    actor = run.weights(3).parent.parent
    adapter, merged, base = (
        load_file(actor / "lora_adapter" / "adapter_model.safetensors"),
        load_file(run.weights(3)),
        load_file(BASE),
    )
    assert json.loads((actor / "lora_adapter" / "adapter_config.json").read_text())["r"] == RANK
    assert merged.keys() == base.keys()
    changed = 0
    for name, weight in base.items():
        key = f"base_model.model.{name.removesuffix('.weight')}.lora_{{}}.weight"
        expected = weight.float()
        if key.format("A") in adapter:
            low_rank = adapter[key.format("B")].float() @ adapter[key.format("A")].float()
            changed += int(low_rank.abs().max() > 0)
            expected = expected + ALPHA / RANK * low_rank
        torch.testing.assert_close(merged[name].float(), expected, rtol=2**-6, atol=1e-4)
    assert changed > 0
