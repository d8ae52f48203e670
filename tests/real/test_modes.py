"""Every variant and every way of sharing GPUs ends well on the real components."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import REAL
from running import Run, finish
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


def check_succeeded(run: Run, output: str) -> None:
    assert run.process.returncode == 0, output
    record = run.record
    assert record["status"] == "succeeded" and record["completed_steps"] == record["planned_steps"]
    assert all(math.isfinite(value) for row in run.rows for value in row.values() if isinstance(value, float))
    assert run.processes() == []


def test_chord_logs_every_documented_metric(two_ranks) -> None:
    check_succeeded(two_ranks.run, two_ranks.output)
    keys = {key for row in two_ranks.run.rows for key in row}
    assert {
        "actor/mu",
        "actor/loss",
        "actor/grad_norm",
        "actor/usual/pg_loss",
        "actor/usual/ppo_kl",
        "actor/usual/pg_clipfrac",
        "actor/expert/sft_loss",
        "rollout/accuracy/mean",
        "rollout/model_version",
    } <= keys


def test_the_engine_has_the_weights_of_the_step_before(two_ranks) -> None:
    assert two_ranks.run.series("rollout/model_version") == {1: 0, 2: 1}


def test_the_checkpoint_is_a_model_that_loads_and_answers(two_ranks) -> None:
    folder = two_ranks.run.weights(2).parent
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("1+1=", return_tensors="pt").input_ids
    assert torch.isfinite(model(ids).logits).all()
    base = json.loads((two_ranks.run.folder / "run.json").read_text())["checkpoint"]
    assert Path(base) == folder


def test_its_weights_are_those_of_the_sharded_checkpoint(two_ranks) -> None:
    actor = two_ranks.run.weights(2).parent.parent
    shards = [torch.load(file, weights_only=False) for file in sorted(actor.glob("model_world_*.pt"))]
    assert len(shards) == 2
    for name, tensor in load_file(actor / "huggingface" / "model.safetensors").items():
        whole = torch.cat([shard[name]._local_tensor for shard in shards])
        torch.testing.assert_close(whole.to(tensor.dtype), tensor)


def test_phi_ends_well(four_ranks) -> None:
    check_succeeded(four_ranks.run, four_ranks.output)


def test_engine_and_trainer_share_one_gpu(one_rank) -> None:
    check_succeeded(one_rank.run, one_rank.output)


def test_sft_then_grpo_ends_well(tmp_path: Path) -> None:
    run, output = finish(tmp_path / "run", *REAL, "variant=sft_then_grpo", "total_steps=4")
    check_succeeded(run, output)


@pytest.mark.parametrize("method", ["memory", "checkpoint"])
def test_weights_go_by_memory_and_by_checkpoint(tmp_path: Path, method: str) -> None:
    run, output = finish(tmp_path / "run", *REAL, f"cluster.sync_method={method}", "total_steps=2")
    check_succeeded(run, output)
    assert all(abs(value) < 2e-3 for value in run.series("actor/usual/ppo_kl").values())


def test_an_engine_of_two_ranks(tmp_path: Path) -> None:
    run, output = finish(
        tmp_path / "run", *REAL, "cluster.tensor_parallel_size=2", "cluster.gpu_per_node=3", "total_steps=2"
    )
    check_succeeded(run, output)
    assert all(abs(value) < 2e-3 for value in run.series("actor/usual/ppo_kl").values())
