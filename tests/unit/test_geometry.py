"""Sizes that must agree, and the refusals where they cannot."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from types import SimpleNamespace

import pytest
from composing import FACTS, SIZES, compose_spec
from hypothesis import assume, given
from hypothesis import strategies as st

from chord_exp.errors import ConfigError
from chord_exp.experiment.geometry import derive, ratio_by_round_trip
from chord_exp.experiment.gpu_split import split_gpus
from chord_exp.experiment.spec import DataFacts


@pytest.fixture(scope="module")
def spec():
    return compose_spec(SIZES)


@pytest.fixture(scope="module")
def big():
    return compose_spec(["model=qwen3_4b", "cluster=gpu_8"])


def refusal_of(spec, facts=FACTS) -> str:
    with pytest.raises(ConfigError) as refusal:
        derive(spec, facts)
    assert refusal.value.fix
    return str(refusal.value)


@given(rows=st.integers(1, 5000), data=st.data())
def test_the_ratio_comes_back_as_the_rows_it_was_made_from(rows, data):
    expert = data.draw(st.integers(0, rows))
    assert ceil(ratio_by_round_trip(expert, rows) * rows) == expert


def test_a_plain_division_would_misround():
    assert ceil(7 / 100 * 100) == 8
    assert ceil(ratio_by_round_trip(7, 100) * 100) == 7


@given(
    batch_size=st.integers(1, 64),
    repeat_times=st.integers(2, 16),
    ratio=st.floats(0.02, 0.9),
    gpus=st.integers(1, 16),
    loss=st.sampled_from(["exact", "stock"]),
)
def test_whatever_is_accepted_can_be_shared_by_the_ranks(spec, batch_size, repeat_times, ratio, gpus, loss):
    cluster = replace(spec.cluster, engine="verl", gpu_per_node=gpus, engine_num=None)
    asked = replace(
        spec,
        batch_size=batch_size,
        repeat_times=repeat_times,
        expert_data_ratio=ratio,
        cluster=cluster,
        loss=loss,
    )
    try:
        stage = derive(asked, FACTS).stages[0]
    except ConfigError:
        assume(False)
    batch, ranks = stage.batch, stage.gpus.data_parallel_size
    assert batch.usual_rows == batch_size * repeat_times
    assert batch.rows % ranks == 0
    assert batch.expert_rows >= 1
    assert ceil(batch.expert_data_ratio * batch.rows) == batch.expert_rows
    assert abs(batch.expert_rows - batch.usual_rows * ratio / (1 - ratio)) <= ranks
    if loss == "stock":
        assert batch.usual_rows % ranks == batch.expert_rows % ranks == 0
    assert stage.expert_epochs * FACTS.expert_rows >= stage.steps * batch.expert_rows
    assert (stage.expert_epochs - 1) * FACTS.expert_rows < stage.steps * batch.expert_rows


def test_the_expert_rows_are_the_nearest_that_the_ranks_allow(spec):
    cluster = replace(spec.cluster, engine="verl", gpu_per_node=8, engine_num=4)
    found = {}
    for ratio in (0.2, 0.25, 0.3, 0.5):
        asked = replace(spec, batch_size=32, repeat_times=8, expert_data_ratio=ratio, cluster=cluster)
        found[ratio] = derive(asked, FACTS).stages[0].batch.expert_rows
    assert found == {0.2: 64, 0.25: 84, 0.3: 108, 0.5: 256}


def test_a_share_far_from_what_is_possible_is_refused_with_both_numbers(spec):
    text = refusal_of(replace(spec, expert_data_ratio=0.01))
    assert "expert_data_ratio=0.01" in text and "0.24 expert rows" in text and "expert_data_ratio=0.04" in text


def test_stock_loss_refuses_rollouts_that_the_ranks_cannot_share(big):
    odd = replace(big, loss="stock", batch_size=7, repeat_times=3, cluster=replace(big.cluster, engine_num=4))
    text = refusal_of(odd)
    assert "21 rollouts" in text and "4 trainer ranks" in text and "batch_size=8" in text
    assert derive(replace(odd, loss="exact"), FACTS).stages[0].batch.rows % 4 == 0


def test_stock_baselines_are_refused_where_micro_batches_would_be_summed(big):
    text = refusal_of(replace(big, loss="stock", variant="grpo"))
    assert "loss=exact" in text and "10240" in text
    whole = replace(big.cluster, max_token_len_per_gpu=48 * 5120)
    assert derive(replace(big, loss="stock", variant="grpo", cluster=whole), FACTS)


@pytest.mark.parametrize(
    ("option", "split"),
    [
        ("local", ("both", 1, 1, 1, 1)),
        ("gpu_1", ("colocate", 1, 1, 1, 1)),
        ("gpu_2", ("both", 1, 1, 1, 1)),
        ("gpu_4", ("both", 2, 2, 2, 2)),
        ("gpu_8", ("both", 4, 4, 4, 4)),
        ("multi_node", ("both", 8, 8, 8, 8)),
    ],
)
def test_each_cluster_option_splits_its_gpus(option, split):
    gpus = split_gpus(compose_spec([f"cluster={option}"]).cluster, "chord", 192)
    assert (gpus.mode, gpus.engine_num, gpus.rollout, gpus.trainer, gpus.data_parallel_size) == split


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine_num": 8}, ["8 of 8 GPUs", "at most 7"]),
        ({"engine_num": 4, "tensor_parallel_size": 2}, ["8 of 8 GPUs", "at most 3"]),
        ({"tensor_parallel_size": 12}, ["12", "8"]),
        ({"engine_num": 3, "ulysses_sequence_parallel_size": 2}, ["5", "2"]),
        ({"node_num": 2, "engine_num": 4}, ["12", "8"]),
        ({"node_num": 1, "gpu_per_node": 1, "engine_num": 2}, ["engine_num=2", "1 GPU"]),
        ({"node_num": 1, "gpu_per_node": 1, "tensor_parallel_size": 2}, ["tensor_parallel_size=2", "1 GPU"]),
        ({"node_num": 1, "gpu_per_node": 1, "gpu_memory_utilization": 0.5}, ["0.5", "0.25", "1 GPU"]),
        (
            {"node_num": 1, "gpu_per_node": 1, "gpu_memory_utilization": 0.2, "sync_method": "nccl"},
            ["sync_method=nccl", "memory or checkpoint"],
        ),
        (
            {"attention": "sdpa", "ulysses_sequence_parallel_size": 2},
            ["attention=sdpa", "ulysses_sequence_parallel_size=2", "wrong numbers"],
        ),
    ],
)
def test_gpus_that_cannot_be_split_are_refused(big, changes, words):
    text = refusal_of(replace(big, cluster=replace(big.cluster, **changes)))
    assert all(word in text for word in words)


def test_the_local_engine_refuses_parallel_sizes(spec):
    text = refusal_of(replace(spec, cluster=replace(spec.cluster, tensor_parallel_size=2)))
    assert "tensor_parallel_size=2" in text and "cluster=gpu_4" in text
    text = refusal_of(replace(spec, cluster=replace(spec.cluster, sync_method="nccl")))
    assert "sync_method=nccl" in text and "use memory" in text


def test_sequence_parallelism_lowers_the_data_parallel_size(big):
    cluster = replace(big.cluster, engine_num=4, ulysses_sequence_parallel_size=2)
    assert split_gpus(cluster, "chord").data_parallel_size == 2


def test_sft_gives_every_gpu_to_the_trainer(big):
    stage = derive(replace(big, variant="sft"), FACTS).stages[0]
    assert (stage.gpus.mode, stage.gpus.rollout, stage.gpus.data_parallel_size) == ("train", 0, 8)
    assert (stage.batch.usual_rows, stage.batch.expert_rows) == (0, 64)


def test_two_stages_share_the_steps(spec):
    stages = derive(replace(spec, variant="sft_then_grpo", total_steps=81), FACTS).stages
    assert [(stage.kind, stage.steps) for stage in stages] == [("sft", 40), ("grpo", 41)]
    assert "1 is fewer" in refusal_of(replace(spec, variant="sft_then_grpo", total_steps=1))


def test_steps_come_from_data_and_epochs_when_none_are_given(spec):
    free = replace(spec, total_steps=None, data=replace(spec.data, epochs=2))
    assert derive(free, FACTS).stages[0].steps == 2 * 1380 // 6
    assert derive(replace(free, variant="sft"), FACTS).stages[0].steps == 2 * 520 // 8


def test_rows_that_are_not_there_are_refused(spec):
    assert "0 expert rows" in refusal_of(spec, DataFacts(0, 1380, 100))
    assert "0 RL prompts" in refusal_of(spec, DataFacts(520, 0, 100))
    assert derive(replace(spec, variant="grpo"), DataFacts(0, 1380, 100))


def test_a_step_that_takes_more_rows_than_there_are_is_refused(spec):
    text = refusal_of(spec, DataFacts(7, 1380, 100))
    assert "E = 8 expert rows and the data has 7" in text and "expert_data_ratio=0.2258 or less" in text
    assert derive(replace(spec, expert_data_ratio=0.2258), DataFacts(7, 1380, 100)).stages[0].batch.expert_rows == 7
    assert "batch_size=6 prompts and the data has 5" in refusal_of(spec, DataFacts(520, 5, 100))
    assert derive(replace(spec, variant="grpo"), DataFacts(0, 6, 100))
    assert derive(spec, DataFacts(7, 5, 100, assumed=True))


def test_trinitys_selectors_give_no_step_more_rows_than_there_are():
    selectors = pytest.importorskip("trinity.buffer.selector.selector")
    data, config = SimpleNamespace(dataset_size=10), SimpleNamespace(seed=1)
    shuffled = selectors.ShuffleSelector(data, config)
    assert [len(shuffled.get_indices(18)) for _ in range(2)] == [18, 12]
    in_order = selectors.SequentialSelector(data, config)
    in_order.get_indices(18)
    assert max(in_order.get_indices(18)) >= 10


def test_lengths_that_do_not_fit_are_refused(spec, big):
    assert "300" in refusal_of(spec, DataFacts(520, 1380, 100, prompt_tokens_max=300))
    assert "99000" in refusal_of(big, DataFacts(5000, 20000, 100, expert_tokens_max=99000))
    short = replace(spec.cluster, max_token_len_per_gpu=100)
    text = refusal_of(replace(spec, cluster=short))
    assert "100" in text and "128" in text


@pytest.mark.parametrize(
    ("changes", "facts", "words"),
    [
        ({}, DataFacts(520, 1380, 100, prompt_tokens_max=100), "over model.max_prompt_tokens=96"),
        ({}, DataFacts(520, 1380, 100, expert_tokens_max=200), "200 tokens, more than the window of 128"),
        ({}, DataFacts(520, 1380, 100, assumed=True), "assumed"),
        ({"total_steps": 20}, FACTS, "μ is still"),
        ({"mu_decay_steps": 0}, FACTS, "μ jumps"),
        ({"mu_peak": 0.1, "mu_valley": 0.4}, FACTS, "mu_valley=0.4 is above mu_peak=0.1"),
        ({"batch_size": 1}, FACTS, "expert_data_ratio=0.25 becomes 0.2000"),
    ],
)
def test_what_is_possible_but_hardly_meant_is_a_warning(spec, changes, facts, words):
    assert any(words in warning for warning in derive(replace(spec, **changes), facts).warnings)


def test_a_temperature_that_expert_rows_are_trained_at_too_is_a_warning(spec):
    warm = replace(spec, model=replace(spec.model, temperature=0.5))
    assert any("expert rows too" in warning for warning in derive(warm, FACTS).warnings)
    assert derive(replace(warm, variant="grpo"), FACTS).warnings == ()


def test_the_default_experiment_has_no_warning(spec):
    assert derive(spec, FACTS).warnings == ()
