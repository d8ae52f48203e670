"""The exact losses as Trinity plug-ins: registry, arguments, fields, pickling, refusals, metric reduction."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from loss_harness import Case, RowsBuffer, result_of, sample_batch, train_step, trinity_loss
from trinity.algorithm import POLICY_LOSS_FN, SAMPLE_STRATEGY
from trinity.common.experience import Experience
from verl.utils.metric import Metric

from chord_exp.plugins.loss import ExactCHORDLoss, ExactGRPOLoss, ExactSFTLoss, reduce_micro_batch_metrics
from chord_exp.plugins.sample_strategy import TokenCountSampleStrategy

pytestmark = pytest.mark.filterwarnings("ignore")

CHORD = {
    "usual_rows": 3,
    "expert_rows": 1,
    "data_parallel_size": 1,
    "mu_warmup_steps": 2,
    "mu_decay_steps": 4,
    "mu_peak": 0.6,
    "mu_valley": 0.1,
    "clip_range": 0.2,
}
GRPO = {"usual_rows": 4, "data_parallel_size": 1, "clip_range": 0.2}
SFT = {"expert_rows": 4, "data_parallel_size": 1}
LOSSES = [(ExactCHORDLoss, CHORD), (ExactGRPOLoss, GRPO), (ExactSFTLoss, SFT)]


@pytest.mark.parametrize(("cls", "args"), LOSSES)
def test_trinity_finds_and_pickles_the_loss_by_dotted_path(cls: type, args: dict[str, Any]) -> None:
    path = f"chord_exp.plugins.loss.{cls.__name__}"
    assert POLICY_LOSS_FN.get(path) is cls
    wrapped = pickle.loads(pickle.dumps(trinity_loss(path, args, "seq-mean-token-mean")))
    assert wrapped.policy_loss_fn.geometry == cls(**args).geometry
    assert wrapped.policy_loss_fn.select_keys == cls(**args).select_keys


@pytest.mark.parametrize(("cls", "args"), LOSSES)
def test_default_args_are_the_constructors_and_the_sizes_must_be_given(cls: type, args: dict[str, Any]) -> None:
    defaults = cls.default_args()
    assert defaults["loss_agg_mode"] == "seq-mean-token-mean"
    assert not {"usual_rows", "expert_rows", "data_parallel_size", "clip_range", "backend"} & set(defaults)
    with pytest.raises(ValueError, match="_rows is missing"):
        cls(**defaults)
    cls(**defaults | args)


def test_select_keys_name_the_fields_each_loss_reads() -> None:
    sizes = {"dp_size", "global_batch_size"}
    rows = {"old_log_probs", "response_mask", "advantages"}
    assert set(ExactCHORDLoss(**CHORD).select_keys) == rows | sizes | {"expert_mask", "step"}
    assert set(ExactGRPOLoss(**GRPO).select_keys) == rows | sizes
    assert set(ExactSFTLoss(**SFT).select_keys) == {"response_mask"} | sizes
    for cls, args in LOSSES:
        assert "tokens_of_term" in cls(**args, loss_agg_mode="token-mean").select_keys


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"usual_rows": None}, "usual_rows is missing"),
        ({"usual_rows": 0}, "usual_rows is 0"),
        ({"expert_rows": -2}, "expert_rows is -2"),
        ({"expert_rows": 2.0}, "expert_rows is 2.0"),
        ({"data_parallel_size": 0}, "data_parallel_size is 0"),
        ({"data_parallel_size": 3}, "4 rows .* data_parallel_size=3"),
        ({"mu_warmup_steps": -1}, "mu_warmup_steps is -1"),
        ({"mu_decay_steps": None}, "mu_decay_steps is None"),
        ({"mu_peak": 1.2}, "mu_peak is 1.2"),
        ({"mu_valley": float("nan")}, "mu_valley is nan"),
        ({"clip_range": None}, "clip_range_low is None"),
        ({"clip_range_high": -0.1}, "clip_range_high is -0.1"),
        ({"cutoff_prob": 0.0}, "cutoff_prob is 0.0"),
        ({"cutoff_prob": 0.5}, "less for phi=pq only"),
        ({"phi": "tanh"}, "phi is 'tanh'"),
        ({"phi": "power"}, "power_alpha is None"),
        ({"phi": "luffy_shaping", "luffy_gamma": 0}, "luffy_gamma is 0"),
        ({"mu_source": "mood"}, "mu_source is 'mood'"),
        ({"loss_agg_mode": "seq-mean-token-sum-norm"}, "cannot be weighted exactly.*token-mean"),
        ({"sft_loss_agg_mode": "mean"}, "sft_loss_agg_mode is 'mean'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ExactCHORDLoss(**CHORD | change)


def test_each_side_can_have_its_own_mode() -> None:
    loss = ExactCHORDLoss(**CHORD, loss_agg_mode="token-mean", sft_loss_agg_mode="seq-mean-token-mean")
    assert (loss.usual.mode, loss.expert.mode) == ("token-mean", "seq-mean-token-mean")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_parallel_size": 2}, "data_parallel_size is 2 but the trainer runs 1"),
        ({"usual_rows": 7}, "is 8 but the trainer steps on 4 rows"),
    ],
)
def test_sizes_that_are_not_the_trainers_are_refused_at_the_first_step(change: dict[str, Any], words: str) -> None:
    loss = trinity_loss("chord_exp.plugins.loss.ExactCHORDLoss", CHORD | change, "seq-mean-token-mean")
    with pytest.raises(ValueError, match=words):
        train_step(Case(usual=3, expert=1), loss)


def test_token_mean_without_token_counts_names_the_sample_strategy() -> None:
    loss = ExactSFTLoss(**SFT, loss_agg_mode="token-mean")
    with pytest.raises(ValueError, match="TokenCountMixSampleStrategy"):
        loss(logprob=torch.zeros(2, 3), action_mask=torch.ones(2, 3, dtype=torch.bool))


def test_rows_of_two_steps_are_refused() -> None:
    row = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="steps 1 to 2"):
        ExactCHORDLoss(**CHORD)(
            logprob=row,
            old_logprob=row,
            action_mask=row.bool(),
            advantages=row,
            expert_mask=torch.tensor([True, False]),
            step=torch.tensor([1, 2]),
        )


def test_cutoff_limits_the_loss_of_sure_expert_tokens() -> None:
    def gradient(cutoff: float) -> torch.Tensor:
        logprob = torch.log(torch.tensor([[0.95, 0.4]])).requires_grad_()
        loss = ExactCHORDLoss(**CHORD, phi="pq", cutoff_prob=cutoff)
        loss(
            logprob=logprob,
            old_logprob=logprob.detach(),
            action_mask=torch.ones(1, 2, dtype=torch.bool),
            advantages=torch.zeros(1, 2),
            expert_mask=torch.tensor([True]),
            step=torch.tensor([2]),
        )[0].backward()
        assert logprob.grad is not None
        return logprob.grad

    assert (gradient(1.0) != 0).tolist() == [[True, True]]
    assert (gradient(0.9) != 0).tolist() == [[False, True]]


def test_sample_strategies_count_the_action_tokens_of_each_side() -> None:
    batch = sample_batch(Case(usual=4, expert=2, shuffle=False)).batch
    tokens = batch["response_mask"].sum(-1)
    assert batch["tokens_of_term"].tolist() == [int(tokens[:4].sum())] * 4 + [int(tokens[4:].sum())] * 2
    for name in ("TokenCountMixSampleStrategy", "TokenCountSampleStrategy"):
        assert SAMPLE_STRATEGY.get(f"chord_exp.plugins.sample_strategy.{name}").__name__ == name


def test_token_counts_follow_the_rows_when_a_batch_is_sampled_again() -> None:
    rows = [Experience(tokens=torch.arange(5), prompt_length=2) for _ in range(2)]
    strategy = object.__new__(TokenCountSampleStrategy)
    strategy.exp_buffer = RowsBuffer(rows)
    result_of(strategy.sample(1))
    strategy.exp_buffer = RowsBuffer(rows[:1])
    sampled, _, _ = result_of(strategy.sample(2))
    assert sampled[0].info["tokens_of_term"] == 3
    assert len(sampled[0].custom_fields) == 1


def test_micro_batch_metrics_add_up_average_or_follow_verls_rule_for_numbers() -> None:
    steps = [
        {"pg_loss": Metric("sum", 1.0), "mu": Metric("mean", 0.3), "kl": 2.0, "len/max": 5, "len/min": 1},
        {"pg_loss": Metric("sum", -0.5), "mu": Metric("mean", 0.3), "kl": 4.0, "len/max": 9, "len/min": 3},
    ]
    reduced = reduce_micro_batch_metrics(steps)
    assert reduced == pytest.approx({"pg_loss": 0.5, "mu": 0.3, "kl": 3.0, "len/max": 9.0, "len/min": 1.0})
    assert all(type(value) is float for value in reduced.values())
    assert steps[0]["pg_loss"].values == [1.0]  # the inputs are left as they were
    assert reduce_micro_batch_metrics([]) == {}


def test_every_name_of_ours_is_a_class_that_python_finds() -> None:
    from importlib import import_module

    from chord_exp.trinity_config import plugin_names

    ours = {value for value in vars(plugin_names).values() if isinstance(value, str) and "plugins." in value}
    ours |= {name for name in plugin_names.EVAL_WORKFLOW_OF if "plugins." in name}
    assert len(ours) >= 12
    for path in ours:
        module, _, name = path.rpartition(".")
        assert isinstance(getattr(import_module(module), name), type)


@pytest.mark.parametrize("mode", ["seq-mean-token-mean", "seq-mean-token-sum"])
def test_the_number_of_calls_of_trinitys_loss_does_not_grow_with_the_rows(mode: str) -> None:
    """Each call of it waits for the device four times."""
    rows = 16
    loss = ExactGRPOLoss(**{**GRPO, "usual_rows": rows}, loss_agg_mode=mode)
    assert loss.usual is not None
    real, calls = loss.usual.loss_fn, []

    def counting(**fields: Any) -> Any:
        calls.append(len(fields["action_mask"]))
        return real(**fields)

    loss.usual.loss_fn = counting
    values = -torch.rand(rows, 5)
    loss(logprob=values, old_logprob=values, action_mask=torch.ones(rows, 5).bool(), advantages=values)
    assert calls == [rows, rows]
