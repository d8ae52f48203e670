"""A verl >= 0.8 step on a CPU for the loss tests: real collation, splitter, loss wrapper, metric reduction.

Only the network and the process group are replaced: the policy is a table of bigram logits in float64, and
the D data-parallel ranks run one after another, their gradients averaged.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import strategies as st
from trinity.algorithm.policy_loss_fn.chord_policy_loss import mu_schedule_function
from trinity.algorithm.policy_loss_fn.ppo_policy_loss import PPOPolicyLossFn
from trinity.algorithm.utils import aggregate_loss
from trinity.common.config import AlgorithmConfig
from trinity.common.experience import EID, Experience
from trinity.trainer.verl.losses import TrinityPolicyLoss
from trinity.trainer.verl.utils import to_data_proto
from verl import DataProto
from verl.utils import tensordict_utils as tu
from verl.utils.metric import Metric, reduce_metrics
from verl.utils.py_functional import append_to_dict, rename_dict
from verl.workers.engine.utils import postprocess_batch_func, prepare_micro_batches
from verl.workers.utils.padding import left_right_2_no_padding, no_padding_2_padding

from chord_exp.plugins.mu_source import MuSource
from chord_exp.plugins.sample_strategy import TokenCountMixSampleStrategy, TokenCountSampleStrategy

VOCABULARY = 11
CLIP = 0.2
PHI_NUMBERS = {"power_alpha": 2.0, "focal_gamma": 1.5, "luffy_gamma": 0.3}
PLAIN_PHI: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": torch.ones_like,
    "pq": lambda p: p - p * p,
    "power": lambda p: p * p,
    "focal": lambda p: (1 - p) * (1 - p).sqrt(),
    "luffy_shaping": lambda p: 0.3 * p / (p * p + 0.6 * p + 0.09),
}
"""The factors with PHI_NUMBERS, written out."""


class RowsBuffer:
    """Stands for a Trinity buffer reader: hands out the given rows."""

    def __init__(self, rows: list[Experience]) -> None:
        self.rows = rows

    async def read(self, **_: Any) -> list[Experience]:
        return self.rows


def result_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Result of a coroutine that never waits, without the cost of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("the coroutine waited")


@dataclass
class Case:
    """One batch and one way to split it.

    `micro_batch_rows` None means dynamic batches of `token_budget` tokens (at least the longest row).
    """

    usual: int
    expert: int
    ranks: int = 1
    micro_batch_rows: int | None = 1
    token_budget: int = 1
    mode: str = "seq-mean-token-mean"
    step: int = 1
    mu: dict[str, Any] = field(
        default_factory=lambda: {
            "mu_warmup_steps": 0, "mu_decay_steps": 0, "mu_peak": 0.5, "mu_valley": 0.5,
        }
    )  # fmt: skip
    phi: str = "none"
    # mu_source and its numbers, in place of the schedule
    rule: dict[str, Any] | None = None
    seed: int = 0
    shuffle: bool = True
    max_response: int = 7

    @property
    def rows(self) -> int:
        return self.usual + self.expert

    @property
    def rewards(self) -> list[list[float]]:
        """Of each prompt its rollouts', two a prompt or one."""
        each = [float((7 * index + self.seed) % 3 == 0) for index in range(self.usual)]
        return [each[first : first + 2] for first in range(0, self.usual, 2)]


@st.composite
def cases(draw: st.DrawFn, *, usual: bool = True, expert: bool = True) -> Case:
    """Any geometry whose rows D divides, any split of it, both sides as asked for."""
    ranks = draw(st.integers(1, 4))
    per_rank = draw(st.integers(1, 6))
    rows = max(ranks * per_rank, ranks * 2 if usual and expert else 1)
    expert_rows = draw(st.integers(1, rows - 1)) if usual and expert else (rows if expert else 0)
    local = rows // ranks
    return Case(
        usual=rows - expert_rows,
        expert=expert_rows,
        ranks=ranks,
        micro_batch_rows=draw(st.sampled_from([None] + [n for n in range(1, local + 1) if local % n == 0])),
        token_budget=draw(st.integers(1, 60)),
        mode=draw(st.sampled_from(["token-mean", "seq-mean-token-mean", "seq-mean-token-sum"])),
        step=draw(st.integers(1, 30)),
        mu={
            "mu_warmup_steps": draw(st.integers(0, 10)),
            "mu_decay_steps": draw(st.integers(0, 20)),
            "mu_peak": draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])),
            "mu_valley": draw(st.sampled_from([0.0, 0.05, 0.5])),
        },
        phi=draw(st.sampled_from(list(PLAIN_PHI))),
        seed=draw(st.integers(0, 10_000)),
        shuffle=draw(st.booleans()),
        max_response=draw(st.integers(1, 12)),
    )


def policy(case: Case) -> torch.Tensor:
    generator = torch.Generator().manual_seed(case.seed)
    table = torch.randn(VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64)
    return table.requires_grad_()


def sample_batch(case: Case) -> DataProto:
    """Rows as Trinity's trainer would collate them: through the sample strategies and `to_data_proto`."""
    generator = torch.Generator().manual_seed(case.seed + 1)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def row() -> Experience:
        prompt, response = draw(1, 5), draw(1, case.max_response)
        tokens = torch.randint(0, VOCABULARY, (prompt + response,), generator=generator)
        made = Experience(tokens=tokens, prompt_length=prompt, reward=0.0)
        made.logprobs = -torch.rand(response, generator=generator) * 4
        made.advantages = torch.randn(1, generator=generator).expand(response).clone()
        # tool output and padding inside a response are no action tokens; some rows have none at all
        made.action_mask = torch.rand(response, generator=generator) < 0.8
        return made

    usual, expert = [row() for _ in range(case.usual)], [row() for _ in range(case.expert)]
    for index, reward in enumerate(chain.from_iterable(case.rewards)):
        usual[index].reward, usual[index].eid = reward, EID(batch=case.step, task=index // 2, run=index % 2)
    if usual and expert:
        mix = object.__new__(TokenCountMixSampleStrategy)
        mix.usual_exp_buffer, mix.expert_exp_buffer = RowsBuffer(usual), RowsBuffer(expert)
        if case.rule is not None:
            mix.mu_source = MuSource(case.rule["mu_source"], case.rule)
        experiences, _, _ = result_of(mix.sample(case.step))
    else:
        plain = object.__new__(TokenCountSampleStrategy)
        plain.exp_buffer = RowsBuffer(usual + expert)
        experiences, _, _ = result_of(plain.sample(case.step))
    batch = to_data_proto(experiences, 0, None, logging.getLogger(__name__))
    batch.batch["old_log_probs"] = batch.batch["rollout_log_probs"]
    if case.shuffle:
        batch.reorder(torch.randperm(case.rows, generator=generator))
    return batch


def unpad_input(padded: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Packed tokens (total, 1), their flat positions (total,) and row offsets (rows + 1,)."""
    positions = attention_mask.flatten().nonzero().flatten()
    offsets = torch.nn.functional.pad(attention_mask.sum(-1).cumsum(0), (1, 0))
    return padded.flatten(0, 1)[positions], positions, offsets


def no_padding(batch: DataProto, case: Case, ranks: int) -> Any:
    """One rank's TensorDict, with what Trinity's `_update_actor` and verl's engine put beside the rows."""
    # verl takes this one function from flash_attn, which needs a GPU to build
    with patch("verl.workers.utils.padding.unpad_input", unpad_input):
        data = left_right_2_no_padding(tu.get_tensordict(batch.batch.to_dict()))
    longest = int(data["input_ids"].offsets().diff().max())
    tu.assign_non_tensor(
        data,
        global_batch_size=case.rows,
        dp_size=ranks,
        sp_size=1,
        use_dynamic_bsz=case.micro_batch_rows is None,
        max_token_len_per_gpu=max(case.token_budget, longest),
        micro_batch_size_per_gpu=case.micro_batch_rows or 1,
    )
    return data


def log_probs(table: torch.Tensor, data: Any) -> torch.Tensor:
    ids = data["input_ids"].values().long()
    values = torch.log_softmax(table[ids], -1).gather(-1, ids.roll(-1).unsqueeze(-1)).squeeze(-1)
    return torch.nested.nested_tensor_from_jagged(values, offsets=data["input_ids"].offsets())


def trinity_loss(policy_loss_fn: str, args: dict[str, Any], mode: str) -> TrinityPolicyLoss:
    """The callable that verl's engine gets, with KL and entropy terms off."""
    return TrinityPolicyLoss(
        AlgorithmConfig(
            policy_loss_fn=policy_loss_fn,
            policy_loss_fn_args=args,
            kl_loss_fn="none",
            kl_loss_fn_args={},
            entropy_loss_fn="none",
            entropy_loss_fn_args={"entropy_coef": 0.0},
            loss_agg_mode=mode,
        )
    )


def train_step(case: Case, loss_fn: TrinityPolicyLoss) -> tuple[torch.Tensor, dict[str, float], int]:
    """Gradient, logged metrics and micro-batches a rank of one verl >= 0.8 step."""
    batch = sample_batch(case)
    ranks = [no_padding(part, case, case.ranks) for part in batch.chunk(case.ranks)]
    # verl's ranks agree on the largest number of micro-batches
    most = max(len(prepare_micro_batches(data)[0]) for data in ranks) if len(ranks) > 1 else None
    gradients, outputs = [], []
    for data in ranks:
        table = policy(case)
        micro_batches, indices = prepare_micro_batches(data, min_num_micro_batch=most)
        rank_outputs = []
        for micro_batch in micro_batches:
            loss, metrics = loss_fn(model_output={"log_probs": log_probs(table, micro_batch)}, data=micro_batch)
            loss.backward()
            rank_outputs.append({"loss": loss.detach().item(), "metrics": metrics})
        gradients.append(table.grad)
        outputs.append(postprocess_batch_func(rank_outputs, indices, data))
    return torch.stack(gradients).mean(0), logged(outputs), len(micro_batches)


def logged(outputs: list[dict[str, Any]]) -> dict[str, float]:
    """Reduce rank outputs as verl's TrainingWorker and Trinity's trainer do."""
    gathered = {key: [output["metrics"][key] for output in outputs] for key in outputs[0]["metrics"]}
    flat: dict[str, Any] = {
        key: Metric.aggregate_dp(values) if isinstance(values[0], Metric) else list(chain.from_iterable(values))
        for key, values in gathered.items()
    }
    flat["loss"] = sum(sum(output["loss"]) for output in outputs) / len(outputs)
    metrics: dict[str, Any] = {}
    append_to_dict(metrics, flat)
    return {key: float(value) for key, value in reduce_metrics(rename_dict(metrics, "actor/")).items()}


def full_batch(case: Case) -> tuple[torch.Tensor, dict[str, float]]:
    """Gradient and true metrics of the objective: the whole batch at once, with Trinity's own terms."""
    table = policy(case)
    data = no_padding(sample_batch(case), case, 1)
    logprob = no_padding_2_padding(log_probs(table, data), data)
    mask, advantages, old = data["response_mask"].bool(), data["advantages"], data["old_log_probs"]
    is_expert = torch.full((case.rows,), case.usual == 0)
    if case.usual and case.expert:
        is_expert = data["expert_mask"]
    values: dict[str, float] = {}
    terms: dict[str, torch.Tensor] = {}
    if case.usual:
        rows = ~is_expert
        ppo = PPOPolicyLossFn(clip_range=CLIP, loss_agg_mode=case.mode)

        def call(chosen: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
            return ppo(logprob=logprob[chosen], old_logprob=old[chosen], action_mask=mask[chosen],
                       advantages=advantages[chosen])  # fmt: skip

        terms["usual"], metrics = call(rows)
        if case.mode != "token-mean":
            each = [call(torch.tensor([index]))[1] for index in rows.nonzero().flatten().tolist()]
            metrics = {name: math.fsum(one[name] for one in each) / len(each) for name in metrics}
        values |= {f"actor/usual/{name}": value for name, value in metrics.items()}
    if case.expert:
        weighted = -logprob * PLAIN_PHI[case.phi](logprob.detach().exp())
        terms["expert"] = aggregate_loss(weighted[is_expert], mask[is_expert], loss_agg_mode=case.mode)
        name = "sft_loss" if case.phi == "none" else "sft_phi_loss"
        values |= {f"actor/expert/{name}": terms["expert"].item()}
    if case.usual and case.expert:
        mu = mu_schedule_function(case.step, *case.mu.values()) if case.rule is None else plain_mu(case)
    else:
        mu = 1.0 if case.expert else 0.0
    if case.rule is not None and case.rule["mu_source"] == "gac_estimate":
        values |= plain_gac(logprob.detach(), mask, advantages, is_expert, PLAIN_PHI[case.phi])
    loss = sum(
        ((1 - mu) if side == "usual" else mu) * term for side, term in terms.items()
    )  # fmt: skip
    loss.backward()
    return table.grad, values | {"actor/loss": loss.item(), "actor/mu": mu}


def plain_gac(
    logprob: torch.Tensor, mask: torch.Tensor, advantages: torch.Tensor, is_expert: torch.Tensor, phi: Any
) -> dict[str, float]:
    """What gac_estimate reads of a batch, row by row."""
    advantage, nll, disagreement = [], [], []
    for row in range(len(mask)):
        kept = mask[row]
        own = torch.zeros_like(advantages[row]) if is_expert[row] else advantages[row]
        apart = (own - phi(logprob[row].exp()))[kept] ** 2
        disagreement.append(float(apart.mean()) if kept.any() else 0.0)
        side, value = (nll, -logprob[row]) if is_expert[row] else (advantage, own)
        side.append(float(value[kept].mean()) if kept.any() else 0.0)

    def mean(numbers: list[float]) -> float:
        return math.fsum(numbers) / len(numbers)

    return {
        "actor/gac/advantage": mean(advantage),
        "actor/gac/advantage_square": mean([one**2 for one in advantage]),
        "actor/gac/nll": mean(nll),
        "actor/gac/nll_square": mean([one**2 for one in nll]),
        "actor/gac/disagreement": mean(disagreement),
    }


def plain_mu(case: Case) -> float:
    """The mu of the case's rule at a first step, written out."""
    assert case.rule is not None
    every = list(chain.from_iterable(case.rewards))
    if case.rule["mu_source"] == "reward":
        return max(0.0, case.rule["reward_tau"] - sum(every) / len(every))
    if case.rule["mu_source"] == "batch_gate":
        failing = [group for group in case.rewards if sum(group) / len(group) <= case.rule["gate_gamma"]]
        return len(failing) / len(case.rewards)
    return case.rule["gac_alpha"]


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Distance in units of the wanted gradient's length; of 1e-9 when that is zero."""
    return float((got - want).norm() / max(float(want.norm()), 1e-9))
