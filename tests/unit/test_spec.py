"""Ranges of single values; each refusal names the value, the key and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from composing import SIZES, compose_spec

from chord_exp.errors import ConfigError


@pytest.fixture(scope="module")
def spec():
    return compose_spec(SIZES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "../x"}, ["../x", "name"]),
        ({"name": "a/b"}, ["a/b", "name"]),
        ({"name": ""}, ["name", "''"]),
        ({"name": ".."}, ["'..'"]),
        ({"name": "x" * 101}, ["100"]),
        ({"project": "/tmp"}, ["/tmp", "project"]),
        ({"total_steps": 0}, ["total_steps=0"]),
        ({"batch_size": -1}, ["batch_size=-1"]),
        ({"repeat_times": 1}, ["repeat_times=1", "2"]),
        ({"expert_data_ratio": 0.0}, ["expert_data_ratio=0.0", "variant=grpo"]),
        ({"expert_data_ratio": 1.0}, ["expert_data_ratio=1.0", "variant=sft"]),
        ({"expert_data_ratio": float("nan")}, ["nan"]),
        ({"lr": 0.0}, ["lr=0.0"]),
        ({"lr": -1e-6}, ["lr=-1e-06"]),
        ({"lr": float("inf")}, ["inf"]),
        ({"mu_peak": 1.2}, ["1.2"]),
        ({"variant": "dpo"}, ["dpo", "sft_then_grpo"]),
        ({"loss": "mine"}, ["mine", "exact", "stock"]),
        ({"variant": "grpo", "phi": "pq"}, ["phi=pq", "variant=grpo"]),
        ({"phi": "tanh"}, ["tanh", "luffy_shaping"]),
        ({"phi": "power", "loss": "stock"}, ["loss=stock", "phi=power"]),
        ({"power_alpha": -1.0}, ["power_alpha=-1.0"]),
        ({"luffy_gamma": 0.0}, ["luffy_gamma=0.0"]),
        ({"mu_source": "mood"}, ["mood", "batch_gate"]),
        ({"mu_source": "reward", "variant": "sft"}, ["mu_source=reward", "variant=sft"]),
        ({"mu_source": "reward", "loss": "stock"}, ["loss=stock", "mu_source=reward"]),
        ({"reward_tau": 1.5}, ["reward_tau=1.5"]),
        ({"sft_lr": 0.0}, ["sft_lr=0.0"]),
        ({"sft_share": 1.0}, ["sft_share=1.0", "variant=sft"]),
        ({"seed": -1}, ["seed=-1"]),
    ],
)
def test_an_experiment_value_out_of_range_is_refused(spec, changes, words):
    with pytest.raises(ConfigError) as refusal:
        replace(spec, **changes)
    assert all(word in str(refusal.value) for word in words)
    assert refusal.value.fix
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("group", "changes", "words"),
    [
        ("model", {"max_model_len": 100}, ["96", "32", "128", "100"]),
        ("model", {"max_prompt_tokens": 0}, ["max_prompt_tokens=0"]),
        ("model", {"temperature": -1.0}, ["temperature=-1.0"]),
        ("model", {"temperature": 0.0}, ["temperature=0.0", "alike"]),
        ("model", {"path": " "}, ["model.path"]),
        ("data", {"expert_ratio": 1.0}, ["expert_ratio=1.0"]),
        ("data", {"eval_interval": 0}, ["eval_interval=0"]),
        ("data", {"workflow": ""}, ["data.workflow"]),
        ("cluster", {"engine": "vllm"}, ["vllm", "local, real_cpu, verl"]),
        ("cluster", {"gpu_memory_utilization": 1.5}, ["1.5"]),
        ("cluster", {"sync_method": "mpi"}, ["mpi", "nccl, memory, checkpoint"]),
        ("cluster", {"attention": "eager"}, ["eager", "auto, sdpa, flash_attention_2"]),
        ("cluster", {"save_interval": 0}, ["save_interval=0"]),
        ("cluster", {"runner_per_model": 0}, ["runner_per_model=0"]),
        ("monitor", {"mode": "cloud"}, ["cloud", "offline"]),
    ],
)
def test_a_group_value_out_of_range_is_refused(spec, group, changes, words):
    with pytest.raises(ConfigError) as refusal:
        replace(getattr(spec, group), **changes)
    assert all(word in str(refusal.value) for word in words)


def test_the_window_is_prompt_and_response_unless_given(spec):
    assert spec.model.window == 128
    assert replace(spec.model, max_model_len=300).window == 300


def test_names_in_other_scripts_are_names(spec):
    assert replace(spec, name="实验-1.2").name == "实验-1.2"


def test_baselines_do_not_ask_for_what_they_do_not_use(spec):
    assert replace(spec, variant="grpo", expert_data_ratio=0.0).uses_expert_rows is False
    assert replace(spec, variant="sft", repeat_times=1).uses_rollouts is False


def test_the_factor_on_expert_tokens_and_the_variant_agree_or_are_refused(spec):
    assert spec.effective_variant == "mu"
    assert replace(spec, phi="pq").effective_variant == "phi"
    assert replace(spec, variant="phi", phi="pq").effective_variant == "phi"
    assert replace(spec, variant="phi", phi="power").effective_variant == "mu-power"
    assert replace(spec, variant="sft", phi="power").effective_variant == "sft-power"
    with pytest.raises(ConfigError, match="variant=phi and phi=none"):
        replace(spec, variant="phi")
