"""What a real run trained on and what it made of it, against one full-batch computation in plain torch."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM

CLIP = 0.2
MU = 0.5
BETA_1 = 0.9


def rollouts(database: Path) -> list[Any]:
    """Return the experiences of all steps in the order of their writing."""
    from trinity.common.experience import Experience

    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        holds = {t: {row[1] for row in connection.execute(f"pragma table_info('{t}')")} for t in tables}
        (table,) = [t for t in tables if "experience_bytes" in holds[t]]
        rows = connection.execute(f"select experience_bytes from '{table}' order by id").fetchall()
    return [Experience.deserialize(blob) for (blob,) in rows]


def first_expert_rows(config_path: Path) -> list[Any]:
    """Return the expert rows of the first step, read by Trinity's own reader of the run's own configuration."""
    from trinity.buffer import get_buffer_reader
    from trinity.common.config import load_config

    config = load_config(str(config_path))
    config.checkpoint_root_dir = str(config_path.parent / "read_again")
    config.check_and_update()
    buffer = config.buffer.trainer_input.auxiliary_buffers["expert"]
    sizes = config.algorithm.policy_loss_fn_args
    buffer.batch_size = sizes.get("expert_rows") or sizes["train_batch_size_expert"]
    return asyncio.run(get_buffer_reader(buffer).read())


def first_gradient(checkpoint: Path) -> torch.Tensor:
    """Return the gradient of the first update, flat, from the first moments in the shards of all ranks.

    After one step of AdamW the first moment is (1 - beta_1) times the gradient.
    """
    shards = [torch.load(file, weights_only=False) for file in sorted((checkpoint / "actor").glob("optim_world_*.pt"))]
    count = len(shards[0]["state"])
    moments = [[shard["state"][index]["exp_avg"] for shard in shards] for index in range(count)]
    whole = [torch.cat([getattr(part, "_local_tensor", part) for part in parts]) for parts in moments]
    return torch.cat([moment.flatten() for moment in whole]) / (1 - BETA_1)


@dataclass
class _Side:
    """The sums of one side of the batch."""

    tokens: list[torch.Tensor] = field(default_factory=list)

    def mean(self, by_row: bool) -> torch.Tensor:
        return torch.stack([row.mean() for row in self.tokens]).mean() if by_row else torch.cat(self.tokens).mean()


@dataclass(frozen=True)
class FullBatch:
    """The two terms, the loss and its gradient (flat) of one batch."""

    usual: float
    expert: float
    loss: float
    gradient: torch.Tensor
    # largest difference between the engine's log-probability of a token and this model's
    disagreement: float


def first_batch(config_path: Path, database: Path, phi: bool = False, by_row: bool = False) -> FullBatch:
    """Compute the first step of a run from its configuration and its rollouts, at mu = 0.5."""
    config = yaml.safe_load(config_path.read_text())
    usual = config["buffer"]["batch_size"] * config["algorithm"]["repeat_times"]
    rows = rollouts(database)[:usual]
    return compute(config["model"]["model_path"], rows, first_expert_rows(config_path), MU, phi, by_row)


def compute(
    model_path: str, rows: Iterable[Any], experts: Iterable[Any], mu: float, phi: bool, by_row: bool
) -> FullBatch:
    """Compute L = (1 - mu) GRPO + mu SFT of a batch one row at a time, in float32 with eager attention.

    Args:
        by_row: each row weighs alike (loss=stock), not each token (loss=exact).
    """
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="eager")
    usual, expert, disagreement = _Side(), _Side(), 0.0
    for row in rows:
        logp, mask = log_probabilities(model, row)
        old = row.logprobs[mask]
        disagreement = max(disagreement, float((logp[mask] - old).abs().max()))
        advantage = row.advantages[mask]
        ratio = torch.exp(logp[mask] - old)
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        usual.tokens.append(torch.maximum(-advantage * ratio, -advantage * clipped))
    for row in experts:
        logp, mask = log_probabilities(model, row)
        p = logp[mask].detach().exp()
        expert.tokens.append(-logp[mask] * (p * (1 - p) if phi else 1.0))
    pg, sft = usual.mean(by_row), expert.mean(by_row)
    loss = (1 - mu) * pg + mu * sft
    loss.backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    return FullBatch(pg.item(), sft.item(), loss.item(), gradient, disagreement)


def log_probabilities(model: Any, row: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each response token, and which of them count."""
    logits = model(input_ids=row.tokens[None].long()).logits[0].float()
    all_of_them = torch.log_softmax(logits, -1)[:-1].gather(1, row.tokens[1:, None].long())[:, 0]
    response = all_of_them[row.prompt_length - 1 :]
    return response, row.action_mask.bool()
