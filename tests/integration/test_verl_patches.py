"""What is mended in verl and in Trinity's worker: memory of the real update loop, counted in forward passes that are
still held; adapters of a real sharded model."""

from __future__ import annotations

import gc
import weakref
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict
from transformers import AutoModelForCausalLM
from trinity.common.config import LoRAConfig
from verl.utils import tensordict_utils as tu

import chord_exp
from chord_exp.engine import lora
from chord_exp.plugins.verl_patches import drop_outputs_of_training, hand_over_adapters_alone
from chord_exp.run_files.checkpoints import ADAPTER_FOLDER
from chord_exp.trinity_config.installed import verl_keeps_outputs

fsdp = pytest.importorskip("verl.workers.engine.fsdp.transformer_impl")
ROWS = 6
TINY = Path(chord_exp.__file__).parent / "tiny" / "model"
ADAPTER = LoRAConfig(name="lora", lora_rank=4, lora_alpha=8)


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


class FakeCoordinator:
    """Trinity's, of which the order of its calls is looked at."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []

    def save_sync(self, save, step, is_state_dict=False):
        save()
        self.calls.append((step, is_state_dict))


class FakeWorker:
    """Trinity's worker as far as it hands weights over."""

    def __init__(self, module):
        self.coordinator = FakeCoordinator()
        self.actor = SimpleNamespace(engine=SimpleNamespace(module=module))
        self.saved_whole = False

    def _get_coordinator(self):
        return self.coordinator

    def save_state_dict(self, local_path, global_step=0):
        self.saved_whole = True

    def _save_lora(self, local_path):
        raise AssertionError("Trinity's own: it swallows what goes wrong")


hand_over_adapters_alone(FakeWorker)
hand_over_adapters_alone(FakeWorker)


def test_trinity_s_worker_has_what_is_mended():
    # the module itself imports vLLM
    text = Path(find_spec("trinity.trainer.verl").origin).with_name("workers.py").read_text("utf-8")
    for part in (
        "class TrinityActorRolloutRefWorker(",
        "def save_state_dict(self, local_path, global_step=0):",
        "def _save_lora(self, local_path: str):",
        "self._save_lora(local_path)",
        "def _get_coordinator(self) -> CheckpointCoordinator:",
        "self.actor.engine",
    ):
        assert part in text, part


def sharded_model_with_adapters():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = lora.add_adapter(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32), ADAPTER)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    expected = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    mesh = init_device_mesh("cpu", (1,))
    for layer in model.get_base_model().model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, expected


def test_adapters_of_a_sharded_model_are_handed_over_alone_and_load_again(one_process, tmp_path):
    model, expected = sharded_model_with_adapters()
    worker = FakeWorker(model)
    worker.save_state_dict(str(tmp_path / "actor"), global_step=3)
    assert worker.coordinator.calls == [(3, True)] and not worker.saved_whole
    assert sorted(path.name for path in (tmp_path / "actor").iterdir()) == [ADAPTER_FOLDER]
    again = lora.add_adapter(
        AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32), ADAPTER, tmp_path / "actor" / ADAPTER_FOLDER
    )
    loaded = again.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items() if ".lora_" in name)


def test_a_model_without_adapters_is_handed_over_as_trinity_does(one_process, tmp_path):
    worker = FakeWorker(AutoModelForCausalLM.from_pretrained(TINY))
    worker.save_state_dict(str(tmp_path / "actor"), global_step=3)
    worker._save_lora(str(tmp_path / "actor"))
    assert worker.saved_whole and not (tmp_path / "actor").exists()


def test_adapters_that_cannot_be_written_fail_the_run(one_process, tmp_path):
    model, _ = sharded_model_with_adapters()
    (tmp_path / "actor").mkdir()
    (tmp_path / "actor" / ADAPTER_FOLDER).write_text("a file where the folder should be")
    with pytest.raises(OSError):
        FakeWorker(model).save_state_dict(str(tmp_path / "actor"), global_step=3)
