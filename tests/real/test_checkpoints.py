"""A checkpoint is the model that was trained, in each of its forms."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from conftest import RecordedRun
from full_batch import log_probabilities, rollouts
from prepared_kinds import TINY
from running import TIMEOUT
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from chord_exp.engine import real_cpu


def folder(recorded: RecordedRun, step: int) -> Path:
    """A checkpoint of the run's trainer."""
    (found,) = recorded.run.folder.glob(f"checkpoints/*/*/global_step_{step}")
    return found


def shards(step: Path) -> dict[str, torch.Tensor]:
    """The weights of the ranks, put together."""
    parts = [torch.load(file, weights_only=False) for file in sorted((step / "actor").glob("model_world_*.pt"))]
    assert len(parts) == 2
    return {name: torch.cat([getattr(part[name], "_local_tensor", part[name]) for part in parts]) for name in parts[0]}


def model_of(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A model in float32 with the given weights."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(TINY), dtype=torch.float32)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    # weights that are tied may be stored once
    assert not unexpected and set(missing) <= set(model.all_tied_weights_keys)
    return model.eval()


def test_the_engine_answers_with_the_weights_that_the_trainer_saved(two_ranks: RecordedRun) -> None:
    """verl rounds them to bfloat16 on their way, whatever the trainer and the engine compute in."""
    trained = shards(folder(two_ranks, 1))
    model = model_of({name: tensor.to(torch.bfloat16).float() for name, tensor in trained.items()})
    rows = rollouts(two_ranks.database)
    second_step = rows[len(rows) // 2 :]
    for row in second_step:
        with torch.no_grad():
            logp, mask = log_probabilities(model, row)
        torch.testing.assert_close(logp[mask], row.logprobs[mask], rtol=0, atol=1e-4)


def test_the_hugging_face_folder_loads_and_gives_the_trainers_logits(two_ranks: RecordedRun) -> None:
    step = folder(two_ranks, 2)
    saved = step / "actor" / "huggingface"
    assert json.loads((two_ranks.run.folder / "run.json").read_text())["checkpoint"] == str(saved)
    model = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32).eval()
    trained = shards(step)
    stored = {tensor.dtype for tensor in load_file(saved / "model.safetensors").values()}
    (dtype,) = stored
    expected = model_of({name: tensor.to(dtype).float() for name, tensor in trained.items()})
    ids = AutoTokenizer.from_pretrained(saved)("1+1=", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, expected(ids).logits)


def test_trinity_convert_makes_a_model_of_a_sharded_checkpoint(two_ranks: RecordedRun, tmp_path: Path) -> None:
    source = folder(two_ranks, 1)
    assert not (source / "actor" / "huggingface" / "model.safetensors").exists()
    copied = Path(shutil.copytree(source, tmp_path / source.name))
    done = subprocess.run(
        [Path(sys.executable).with_name("trinity"), "convert", "-c", copied, "-b", TINY],
        env={**os.environ, **real_cpu.ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    model = AutoModelForCausalLM.from_pretrained(copied / "actor" / "huggingface", dtype=torch.bfloat16)
    trained = shards(source)
    for name, tensor in trained.items():
        torch.testing.assert_close(model.state_dict()[name], tensor.to(torch.bfloat16), rtol=0, atol=0)
