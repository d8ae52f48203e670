"""Where mu comes from when not from a schedule: the rules, what they remember, and who tells them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_harness import Case, RowsBuffer, result_of, sample_batch
from trinity.algorithm.sample_strategy.mix_sample_strategy import MixSampleStrategy
from trinity.common.config import BufferConfig
from trinity.common.experience import EID, Experience
from trinity.trainer.trainer import Trainer

from chord_exp.engine.actors import StrictTrainer
from chord_exp.experiment import objective
from chord_exp.plugins import mu_source, token_weight
from chord_exp.plugins.mu_source import MuSource, batch_gate_mu, gac_mu, reward_mu
from chord_exp.plugins.sample_strategy import TokenCountMixSampleStrategy

pytestmark = pytest.mark.filterwarnings("ignore")
GAC = {"gac_alpha": 0.3, "gac_beta": 0.5}


def logged(advantage: float, nll: float, disagreement: float) -> dict[str, float]:
    """Metrics of a step with these two variances, about means of 2 and 3."""
    return {
        "actor/gac/advantage": 2.0,
        "actor/gac/advantage_square": 4.0 + advantage,
        "actor/gac/nll": 3.0,
        "actor/gac/nll_square": 9.0 + nll,
        "actor/gac/disagreement": disagreement,
    }


def test_what_a_configuration_may_choose_is_what_the_plugins_know() -> None:
    assert tuple(objective.PHI_KEYS) == token_weight.PHIS
    assert {phi: keys[0] for phi, keys in objective.PHI_KEYS.items() if keys} == token_weight.NUMBER_OF
    assert (objective.SCHEDULE, *objective.MU_KEYS) == mu_source.MU_SOURCES
    assert objective.MU_RULES.keys() == objective.MU_KEYS.keys()
    for kind, keys in objective.MU_KEYS.items():
        assert set(MuSource(kind, dict.fromkeys(keys, 0.5)).numbers) == set(keys)


def test_mu_by_reward_falls_as_rollouts_earn_and_is_never_negative() -> None:
    assert reward_mu([0.0, 0.0], 0.5) == 0.5
    assert reward_mu([0.0, 0.5], 0.5) == 0.25
    assert reward_mu([1.0, 1.0], 0.5) == 0.0
    assert reward_mu([-3.0, -3.0], 0.5) == 1.0


def test_the_gate_sends_the_share_of_failing_prompts_to_sft() -> None:
    groups = [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]
    assert batch_gate_mu(groups, 0.0) == 0.5
    assert batch_gate_mu(groups, 0.5) == 0.75
    # of one prompt it is the switch of the paper
    assert [batch_gate_mu([one], 0.0) for one in groups] == [1.0, 0.0, 0.0, 1.0]


@given(st.floats(0, 1), *[st.floats(0, 10)] * 3)
def test_the_estimate_is_the_minimum_of_the_mixed_gradient_s_error(alpha: float, d: float, s: float, r: float) -> None:
    def error(mu: float) -> float:
        return (mu - alpha) ** 2 * d + mu**2 * s + (1 - mu) ** 2 * r

    best = gac_mu(alpha, d, s, r)
    assert 0 <= best <= 1
    assert all(error(best) <= error(other) + 1e-9 for other in [k / 50 for k in range(51)])


def test_a_side_without_noise_is_trusted_wholly() -> None:
    assert gac_mu(0.3, 0.0, 0.0, 1.0) == 1.0
    assert gac_mu(0.3, 0.0, 1.0, 0.0) == 0.0
    assert gac_mu(0.3, 0.0, 0.0, 0.0) == 0.3


def test_the_estimate_follows_moving_averages_of_the_steps_before() -> None:
    source = MuSource("gac_estimate", GAC)
    assert source.mu([("prompt", 1.0)]) == 0.3
    source.observe(logged(1.0, 2.0, 4.0))
    assert source.averages == pytest.approx([4.0, 2.0, 1.0])
    assert source.mu([]) == pytest.approx((0.3 * 4 + 1) / 7)
    source.observe(logged(3.0, 2.0, 0.0))
    assert source.averages == pytest.approx([2.0, 2.0, 2.0])
    with pytest.raises(KeyError, match="gac"):
        source.observe({"actor/mu": 0.1})


def test_the_other_rules_read_nothing_that_was_logged() -> None:
    source = MuSource("reward", {"reward_tau": 0.5})
    source.observe({})
    assert source.mu([("a", 0.0), ("a", 0.5)]) == 0.25
    assert MuSource("batch_gate", {"gate_gamma": 0.0}).mu([("a", 0.0), ("b", 1.0), ("a", 0.0)]) == 0.5


@pytest.mark.parametrize(
    ("kind", "numbers", "words"),
    [
        ("mood", {}, "mu_source is 'mood'"),
        ("reward", {}, "reward_tau is None"),
        ("reward", {"reward_tau": 1.5}, "reward_tau is 1.5"),
        ("gac_estimate", {"gac_alpha": 0.5, "gac_beta": True}, "gac_beta is True"),
    ],
)
def test_a_rule_without_its_numbers_is_refused(kind: str, numbers: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MuSource(kind, numbers)


def mixing(rule: dict[str, Any]) -> TokenCountMixSampleStrategy:
    """A sample strategy over two rollouts of one prompt and one expert row."""

    def row(run: int, reward: float) -> Experience:
        made = Experience(tokens=torch.arange(4), prompt_length=2, reward=reward, eid=EID(batch=1, task=0, run=run))
        made.logprobs = made.advantages = torch.zeros(2)
        return made

    strategy = object.__new__(TokenCountMixSampleStrategy)
    strategy.usual_exp_buffer = RowsBuffer([row(0, 0.0), row(1, 0.5)])
    strategy.expert_exp_buffer = RowsBuffer([row(0, 9.0)])
    for buffer in (strategy.usual_exp_buffer, strategy.expert_exp_buffer):
        buffer.state_dict, buffer.load_state_dict = (lambda: {"at": 1}), (lambda state: None)
    strategy.mu_source = MuSource(rule["mu_source"], rule)
    return strategy


def test_the_sample_strategy_writes_one_mu_on_all_rows_from_the_rollouts_alone() -> None:
    rows, _, _ = result_of(mixing({"mu_source": "reward", "reward_tau": 0.5}).sample(1))
    assert [row.info["mu"] for row in rows] == [0.25] * 3
    batch = sample_batch(Case(usual=4, expert=2, rule={"mu_source": "batch_gate", "gate_gamma": 1.0})).batch
    assert batch["mu"].dtype == torch.float64 and batch["mu"].tolist() == [1.0] * 6


def test_the_rule_comes_with_the_strategy_s_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(MixSampleStrategy, "__init__", lambda self, buffer_config, **kwargs: given.append(kwargs))
    arguments = {"expert_data_ratio": 0.25, "sft_dataset_name": "expert"}
    assert TokenCountMixSampleStrategy(BufferConfig(), **arguments).mu_source is None
    strategy = TokenCountMixSampleStrategy(BufferConfig(), **arguments, mu_source="reward", reward_tau=0.7)
    assert strategy.mu_source is not None and strategy.mu_source.numbers == {"reward_tau": 0.7}
    assert all(arguments.items() <= one.items() for one in given)


def test_a_checkpoint_keeps_what_the_estimate_remembers() -> None:
    before, after = mixing({"mu_source": "gac_estimate", **GAC}), mixing({"mu_source": "gac_estimate", **GAC})
    before.observe(logged(1.0, 2.0, 4.0))
    after.load_state_dict(before.state_dict())
    assert after.mu_source.averages == before.mu_source.averages
    assert before.state_dict()["usual_buffer"] == {"at": 1}


def test_the_trainer_tells_the_strategy_what_a_step_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stock_step(self: Any, exps: list[Experience]) -> dict[str, float]:
        return logged(1.0, 2.0, 4.0)

    monkeypatch.setattr(Trainer, "train_step", stock_step)
    strategy = mixing({"mu_source": "gac_estimate", **GAC})
    trainer = object.__new__(StrictTrainer)
    trainer.sample_strategy = strategy
    assert asyncio.run(trainer.train_step([])) == logged(1.0, 2.0, 4.0)
    assert strategy.mu_source.averages == pytest.approx([4.0, 2.0, 1.0])
    trainer.sample_strategy = SimpleNamespace()  # any other has nothing to be told
    asyncio.run(trainer.train_step([]))
