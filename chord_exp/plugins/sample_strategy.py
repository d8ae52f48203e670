"""Sample strategies that tell every row how many action tokens its term of the loss has in the whole batch.

A loss function sees one micro-batch at a time, so a token mean over the full batch needs that count from
outside. Trinity's custom fields carry it: the sampled rows get `tokens_of_term`, which `chord_exp.plugins.loss` reads
when its mode is `token-mean`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from trinity.algorithm.sample_strategy.mix_sample_strategy import MixSampleStrategy
from trinity.algorithm.sample_strategy.sample_strategy import DefaultSampleStrategy
from trinity.common.experience import CustomField, Experience

TOKENS_OF_TERM = CustomField(source_field="tokens_of_term", destination_field="tokens_of_term", data_type=torch.int64)


def attach_tokens_of_term(experiences: list[Experience]) -> None:
    """Set `info["tokens_of_term"]` of each row, in place: action tokens of all rollouts, or of all expert rows."""
    tokens: Counter[bool] = Counter()
    for experience in experiences:
        tokens[_is_expert(experience)] += int(experience.action_mask.sum())
    for experience in experiences:
        experience.info["tokens_of_term"] = tokens[_is_expert(experience)]
        # a buffer may hand out a row again, and Trinity refuses a batch whose rows have different fields
        others = [field for field in experience.custom_fields if field != TOKENS_OF_TERM]
        experience.custom_fields = [*others, TOKENS_OF_TERM]


def _is_expert(experience: Experience) -> bool:
    return bool(experience.info.get("is_expert", False))


class TokenCountMixSampleStrategy(MixSampleStrategy):
    """Trinity's `mix` strategy (rollouts and expert rows in one batch) with `tokens_of_term`."""

    async def sample(self, step: int) -> tuple[list[Experience], dict[str, Any], list[Any]]:
        experiences, metrics, representatives = await super().sample(step)
        attach_tokens_of_term(experiences)
        return experiences, metrics, representatives


class TokenCountSampleStrategy(DefaultSampleStrategy):
    """Trinity's `default` strategy (all rows from one buffer) with `tokens_of_term`, for the baselines."""

    async def sample(self, step: int, **kwargs: Any) -> tuple[list[Experience], dict[str, Any], list[Any]]:
        experiences, metrics, representatives = await super().sample(step, **kwargs)
        attach_tokens_of_term(experiences)
        return experiences, metrics, representatives
