"""Sample strategies that tell every row how many action tokens its side has in the whole batch.

A loss function sees one micro-batch at a time, so a token mean over the full batch needs that count from
outside. Trinity's custom fields carry it: the sampled rows get `side_tokens`, which `chord_exp.plugins.loss` reads
when its mode is `token-mean`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from trinity.algorithm.sample_strategy.mix_sample_strategy import MixSampleStrategy
from trinity.algorithm.sample_strategy.sample_strategy import DefaultSampleStrategy
from trinity.common.experience import CustomField, Experience

SIDE_TOKENS = CustomField(source_field="side_tokens", destination_field="side_tokens", data_type=torch.int64)


def attach_side_tokens(experiences: list[Experience]) -> None:
    """Set `info["side_tokens"]` of each row, in place: action tokens of all rows on its side of the batch."""
    tokens: Counter[bool] = Counter()
    for experience in experiences:
        tokens[_is_expert(experience)] += int(experience.action_mask.sum())
    for experience in experiences:
        experience.info["side_tokens"] = tokens[_is_expert(experience)]
        # a buffer may hand out a row again, and Trinity refuses a batch whose rows have different fields
        others = [field for field in experience.custom_fields if field != SIDE_TOKENS]
        experience.custom_fields = [*others, SIDE_TOKENS]


def _is_expert(experience: Experience) -> bool:
    return bool(experience.info.get("is_expert", False))


class TokenCountMixSampleStrategy(MixSampleStrategy):
    """Trinity's `mix` strategy (rollouts and expert rows in one batch) with `side_tokens`."""

    async def sample(self, step: int) -> tuple[list[Experience], dict[str, Any], list[Any]]:
        experiences, metrics, representatives = await super().sample(step)
        attach_side_tokens(experiences)
        return experiences, metrics, representatives


class TokenCountSampleStrategy(DefaultSampleStrategy):
    """Trinity's `default` strategy (all rows from one buffer) with `side_tokens`, for the baselines."""

    async def sample(self, step: int, **kwargs: Any) -> tuple[list[Experience], dict[str, Any], list[Any]]:
        experiences, metrics, representatives = await super().sample(step, **kwargs)
        attach_side_tokens(experiences)
        return experiences, metrics, representatives
