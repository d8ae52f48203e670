"""A local run that trains adapters: resumed, loaded by others, and on-policy throughout."""

from __future__ import annotations

from pathlib import Path

import torch
from running import finish
from safetensors.torch import load_file

from chord_exp.tiny import __file__ as tiny

RANK = 4
LORA = [f"model.lora.rank={RANK}", "lr=3e-3"]


def test_a_run_with_adapters_trains_no_more_than_them_and_goes_on_from_them(tmp_path: Path) -> None:
    run, output = finish(tmp_path / "run", "total_steps=3", *LORA)
    assert run.process.returncode == 0, output
    again, output = finish(run.folder, "total_steps=4", "resume=true", *LORA)
    assert again.process.returncode == 0, output
    # the rollout model had the merged weights of the step before
    assert max(abs(value) for value in again.series("actor/usual/ppo_kl").values()) < 1e-4
    base = load_file(Path(tiny).parent / "model" / "model.safetensors")
    ranks = set()
    for step in (3, 4):
        merged = load_file(again.weights(step))
        assert merged.keys() == base.keys()
        for name, weight in base.items():
            change = merged[name] - weight
            if change.abs().max() > 1e-6:
                ranks.add(int(torch.linalg.matrix_rank(change, rtol=1e-3)))
    assert ranks and max(ranks) <= RANK
