"""Adapters: what Trinity is told of them, and that merged weights are the model that was trained."""

from __future__ import annotations

import pytest
import torch
from composing import FACTS, FOLDERS, compose_spec, to_trinity
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trinity.common.config import LoRAConfig

from chord_exp.engine import lora
from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import derive
from chord_exp.experiment.memory.architecture import by_name
from chord_exp.experiment.memory.fit import FITS, Machine, use_of
from chord_exp.run_files.checkpoints import ADAPTER_FOLDER

ADAPTER = LoRAConfig(name="lora", lora_rank=4, lora_alpha=8)
GPUS = ["cluster=gpu_2", "model=qwen3_4b", "model.lora.rank=32"]
TOKENS = torch.tensor([[5, 9, 40, 17, 3]])


def config_of(*overrides: str) -> dict:
    return to_trinity(compose_spec(list(overrides)), FACTS, FOLDERS)


def test_without_a_rank_trinity_hears_nothing_of_adapters():
    config = config_of("cluster=gpu_2")
    assert "lora_configs" not in config["model"] and "enable_prefix_caching" not in config["explorer"]["rollout_model"]
    assert config["trainer"]["save_hf_checkpoint"] == "last"


def test_on_gpus_adapters_are_handed_over_as_files_and_cached_for_no_later_step():
    config = config_of(*GPUS)
    (adapter,) = config["model"]["lora_configs"]
    assert (adapter["lora_rank"], adapter["lora_alpha"], adapter["target_modules"]) == (32, 32, "all-linear")
    assert config["synchronizer"]["sync_method"] == "checkpoint"
    assert config["explorer"]["rollout_model"]["enable_prefix_caching"] is False
    assert config["trainer"]["save_hf_checkpoint"] == "never"


def test_the_local_engine_hands_over_merged_weights():
    config = config_of("model.lora.rank=4")
    assert config["synchronizer"]["sync_method"] == "memory"
    assert config["trainer"]["save_hf_checkpoint"] == "last"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.lora.rank=24", "use 16"),
        ("cluster.sync_method=nccl", "files only"),
        ("model.lora.rank=0", "below 1"),
        ("model.lora.target_modules='*.q_proj'", "no regular expression"),
        ("trinity.explorer.rollout_model.enable_prefix_caching=true", "follows from model.lora"),
    ],
)
def test_what_cannot_work_with_adapters_is_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        config_of(*GPUS, override)


def test_a_learning_rate_for_all_weights_is_pointed_out():
    assert any("lr=1e-05" in warning for warning in derive(compose_spec(GPUS), FACTS).warnings)
    assert not any("lr=" in warning for warning in derive(compose_spec([*GPUS, "lr=1e-5"]), FACTS).warnings)


@pytest.fixture
def base() -> str:
    return compose_spec([]).model.path


def load(folder) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def trained(base: str):
    """A model whose adapters do something."""
    torch.manual_seed(1)
    model = lora.add_adapter(load(base), ADAPTER)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    return model.eval()


def test_new_adapters_change_nothing_and_are_all_that_is_trained(base):
    model = lora.add_adapter(load(base), ADAPTER)
    torch.testing.assert_close(model(TOKENS).logits, load(base)(TOKENS).logits)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names and all(".lora_" in name for name in names)


def test_merged_weights_have_the_names_of_the_model_and_give_what_was_trained(base):
    model, plain = trained(base), load(base)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        merged = lora.merged_weights(model)
    assert set(merged) == set(plain.state_dict())
    plain.load_state_dict(merged)
    torch.testing.assert_close(plain(TOKENS).logits, model(TOKENS).logits, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain(TOKENS).logits, load(base)(TOKENS).logits)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_checkpoint_with_adapters_becomes_one_that_loads_without_them(base, tmp_path):
    model = trained(base)
    model.save_pretrained(tmp_path / ADAPTER_FOLDER)
    lora.merge_checkpoint(base, tmp_path)
    written = load_file(tmp_path / "huggingface" / "model.safetensors")
    with torch.no_grad():
        merged = lora.merged_weights(model)
    # in the number format of the model's own files
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}
    for name, tensor in written.items():
        torch.testing.assert_close(tensor.float(), merged[name], rtol=2**-7, atol=1e-6)
    assert load(tmp_path / "huggingface")(TOKENS).logits.isfinite().all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["huggingface", ADAPTER_FOLDER]


def test_a_checkpoint_without_adapters_is_left_alone(base, tmp_path):
    lora.merge_checkpoint(base, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_adapters_go_on_from_a_folder(base, tmp_path):
    model = trained(base)
    model.save_pretrained(tmp_path)
    again = lora.add_adapter(load(base), ADAPTER, tmp_path)
    torch.testing.assert_close(again.eval()(TOKENS).logits, model(TOKENS).logits)
    assert any(parameter.requires_grad for parameter in again.parameters())


def test_one_small_gpu_has_adapters_their_learning_rate_and_room_by_the_forecast():
    spec = compose_spec(["cluster=gpu_1_small", "model=qwen3_1_7b"])
    assert (spec.model.lora.rank, spec.lr, spec.cluster.gpu_memory_gib) == (32, 1e-5, 24)
    machine = Machine(by_name("Qwen/Qwen3-1.7B"), card_gib=24)
    (use,) = use_of(spec, derive(spec, FACTS), machine)
    assert use.stage.gpus.mode == "colocate" and set(use.verdicts) == {FITS}
    assert to_trinity(spec, FACTS, FOLDERS)["synchronizer"]["sync_method"] == "checkpoint"
