"""Memory of verl's real update loop, counted in forward passes that are still held."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from chord_exp.plugins.verl_patches import drop_outputs_of_training
from chord_exp.trinity_config.installed import verl_keeps_outputs

fsdp = pytest.importorskip("verl.workers.engine.fsdp.transformer_impl")
ROWS = 6


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


class Forward:
    """What a forward pass holds; a Python object, whose life can be watched."""


class Logits(torch.autograd.Function):
    """A model whose graph holds a Forward."""

    @staticmethod
    def forward(ctx, weight, held):
        ctx.held = held
        return weight.exp()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def fake_engine_class():
    """verl's update loop around a forward pass that also gives an entropy, which no loss reads."""

    class FakeEngine(fsdp.FSDPEngine):
        ulysses_sequence_parallel_size = 1

        def __init__(self):
            self.weight = torch.nn.Parameter(torch.ones(4))
            self.forwards: list[weakref.ref] = []
            self.alive: list[int] = []

        def get_data_parallel_group(self):
            return None

        def get_data_parallel_size(self):
            return 1

        def forward_step(self, micro_batch, loss_function, forward_only):
            gc.collect()
            self.alive.append(sum(reference() is not None for reference in self.forwards))
            held = Forward()
            self.forwards.append(weakref.ref(held))
            logits = Logits.apply(self.weight, held)
            rows = torch.nested.as_nested_tensor([logits.softmax(-1).log()], layout=torch.jagged)
            return logits.sum(), {"model_output": {"entropy": rows}, "loss": 0.0, "metrics": {}}

    return FakeEngine


def living_forwards(engine) -> list[int]:
    """Forward passes of earlier micro-batches that are still held when each micro-batch of an update starts."""
    batch = TensorDict({"input_ids": torch.ones(ROWS, 4), "loss_mask": torch.ones(ROWS, 4)}, batch_size=[ROWS])
    tu.assign_non_tensor(batch, use_dynamic_bsz=False, micro_batch_size_per_gpu=1)
    engine.forward_backward_batch(batch, None)
    return engine.alive


@pytest.mark.skipif(not verl_keeps_outputs(), reason="verl drops them itself")
def test_memory_of_an_update_does_not_grow_with_its_micro_batches(one_process):
    kept, dropped = fake_engine_class(), fake_engine_class()
    drop_outputs_of_training(dropped)
    drop_outputs_of_training(dropped)
    assert living_forwards(kept()) == list(range(ROWS))
    # the last one only, in the variables of the loop
    assert living_forwards(dropped()) == [0] + [1] * (ROWS - 1)


def test_verl_loads_parameters_and_optimizer_for_an_update_whatever_is_offloaded_between_uses():
    from verl.workers.engine.base import BaseEngineCtx

    class FakeEngine:
        is_param_offload_enabled = is_optimizer_offload_enabled = True

        def to(self, **given):
            self.given = given

    engine = FakeEngine()
    BaseEngineCtx(engine, "train")._context_switch("cuda")
    assert engine.given == {"device": "cuda", "model": True, "optimizer": True, "grad": True}
