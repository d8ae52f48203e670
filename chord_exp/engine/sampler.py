"""Sampling one prompt group: n responses of one prompt, in one batch, reproducibly."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


@dataclass(frozen=True)
class SamplingParams:
    """How to draw tokens. `temperature` 0 is greedy; `top_p` 1 and `top_k` -1 switch their filters off."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    max_tokens: int = 1
    min_tokens: int = 0


@dataclass(frozen=True)
class Response:
    """One sampled response: `tokens` [length] with its end token if one was drawn, `logprobs` [length] under the
    distribution that was sampled from, and whether it ended by itself."""

    tokens: Tensor
    logprobs: Tensor
    finished: bool


def rollout_seed(seed: int, model_version: int, prompt: Sequence[int]) -> int:
    """The seed of one prompt group.

    It depends on what is sampled (run seed, weights, prompt) and not on when or where, so a resumed run draws the
    same tokens as one that was never stopped.
    """
    text = f"{seed}|{model_version}|{','.join(map(str, prompt))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


def _filtered(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Mask all but the `top_k` likeliest tokens, then all beyond cumulative probability `top_p`; logits [n, vocab]."""
    if 0 < top_k < logits.shape[-1]:
        smallest_kept = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, float("-inf"))
    if top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        probability = ordered.softmax(dim=-1)
        beyond = probability.cumsum(dim=-1) - probability >= top_p
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), float("-inf"))
    return logits


@torch.inference_mode()
def sample_group(
    model: PreTrainedModel,
    prompt: Sequence[int],
    params: SamplingParams,
    end_tokens: Collection[int],
    seed: int,
) -> list[Response]:
    """Draw `params.n` responses to one prompt.

    The prompt is run once and its key-value cache shared out, as an inference server does. A group is always computed
    in a batch of its own, so its numbers do not depend on what else is being sampled.

    Args:
        model: a causal language model in eval mode.
        prompt: token ids [prompt_length].
        end_tokens: token ids that end a response.
        seed: see `rollout_seed`.
    """
    device = model.device
    generator = torch.Generator(device=device).manual_seed(seed)
    ends = torch.tensor(sorted(end_tokens), device=device)
    ids = torch.tensor([list(prompt)], device=device)
    cache = DynamicCache(config=model.config)
    logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
    cache.batch_repeat_interleave(params.n)
    logits = logits.expand(params.n, -1)
    alive = torch.ones(params.n, dtype=torch.bool, device=device)
    lengths = torch.zeros(params.n, dtype=torch.long, device=device)
    drawn: list[Tensor] = []
    drawn_logprobs: list[Tensor] = []
    for index in range(params.max_tokens):
        scores = logits.float()
        if index < params.min_tokens:
            scores = scores.index_fill(-1, ends, float("-inf"))
        if params.temperature > 0:
            scores = _filtered(scores / params.temperature, params.top_k, params.top_p)
            logprobs = scores.log_softmax(dim=-1)
            tokens = torch.multinomial(logprobs.exp(), 1, generator=generator)
        else:
            logprobs = scores.log_softmax(dim=-1)
            tokens = logprobs.argmax(dim=-1, keepdim=True)
        drawn.append(tokens)
        drawn_logprobs.append(logprobs.gather(-1, tokens))
        lengths += alive
        alive = alive & ~torch.isin(tokens[:, 0], ends)
        if index + 1 == params.max_tokens or not alive.any():
            break
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True).logits[:, -1]
    all_tokens = torch.cat(drawn, dim=-1).cpu()
    all_logprobs = torch.cat(drawn_logprobs, dim=-1).cpu()
    ended = (~alive).tolist()
    return [
        Response(all_tokens[row, :length], all_logprobs[row, :length], ended[row])
        for row, length in enumerate(lengths.tolist())
    ]
