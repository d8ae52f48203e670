"""Sample strategies that tell every row what the loss must know of the whole batch.

A loss function sees one micro-batch at a time. A token mean over the full batch needs the number of action tokens of
each term from outside, and a mu that follows from the batch must be the same for all of it. Trinity's custom fields
carry both: the sampled rows get `tokens_of_term`, which `chord_exp.plugins.loss` reads when its mode is `token-mean`,
and `mu` unless it follows a schedule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from trinity.algorithm.sample_strategy.mix_sample_strategy import MixSampleStrategy
from trinity.algorithm.sample_strategy.sample_strategy import DefaultSampleStrategy
from trinity.common.config import BufferConfig
from trinity.common.experience import CustomField, Experience

from chord_exp.plugins.mu_source import SCHEDULE, MuSource

TOKENS_OF_TERM = CustomField(source_field="tokens_of_term", destination_field="tokens_of_term", data_type=torch.int64)
MU = CustomField(source_field="mu", destination_field="mu", data_type=torch.float64)
_MU_STATE = "mu_source"


def attach_tokens_of_term(experiences: list[Experience]) -> None:
    """Set `info["tokens_of_term"]` of each row, in place: action tokens of all rollouts, or of all expert rows."""
    tokens: Counter[bool] = Counter()
    for experience in experiences:
        tokens[_is_expert(experience)] += int(experience.action_mask.sum())
    for experience in experiences:
        _attach(experience, TOKENS_OF_TERM, tokens[_is_expert(experience)])


def _attach(experience: Experience, field: CustomField, value: Any) -> None:
    experience.info[field.source_field] = value
    # a buffer may hand out a row again, and Trinity refuses a batch whose rows have different fields
    experience.custom_fields = [*(one for one in experience.custom_fields if one != field), field]


def _is_expert(experience: Experience) -> bool:
    return bool(experience.info.get("is_expert", False))


class TokenCountMixSampleStrategy(MixSampleStrategy):
    """Trinity's `mix` strategy (rollouts and expert rows in one batch) with `tokens_of_term` and `mu`.

    Args:
        kwargs: Trinity's, and mu_source with the numbers of that rule (`chord_exp.plugins.mu_source`).
    """

    mu_source: MuSource | None = None

    def __init__(self, buffer_config: BufferConfig, **kwargs: Any) -> None:
        super().__init__(buffer_config, **kwargs)
        kind = kwargs.get("mu_source", SCHEDULE)
        if kind != SCHEDULE:
            self.mu_source = MuSource(kind, kwargs)

    async def sample(self, step: int) -> tuple[list[Experience], dict[str, Any], list[Any]]:
        experiences, metrics, representatives = await super().sample(step)
        attach_tokens_of_term(experiences)
        if self.mu_source is not None:
            rollouts = [one for one in experiences if not _is_expert(one)]
            mu = self.mu_source.mu([(one.eid.tid, float(one.reward or 0.0)) for one in rollouts])
            for experience in experiences:
                _attach(experience, MU, mu)
        return experiences, metrics, representatives

    def observe(self, metrics: Mapping[str, Any]) -> None:
        """Take in what the trainer logged of the step that it has just made."""
        if self.mu_source is not None:
            self.mu_source.observe(metrics)

    def state_dict(self) -> dict:
        """Return Trinity's state, and what the rule of mu remembers."""
        averages = None if self.mu_source is None else self.mu_source.averages
        return super().state_dict() | ({} if averages is None else {_MU_STATE: averages})

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on from a state of `state_dict`."""
        super().load_state_dict(state_dict)
        if self.mu_source is not None:
            self.mu_source.averages = state_dict.get(_MU_STATE)


class TokenCountSampleStrategy(DefaultSampleStrategy):
    """Trinity's `default` strategy (all rows from one buffer) with `tokens_of_term`, for the baselines."""

    async def sample(self, step: int, **kwargs: Any) -> tuple[list[Experience], dict[str, Any], list[Any]]:
        experiences, metrics, representatives = await super().sample(step, **kwargs)
        attach_tokens_of_term(experiences)
        return experiences, metrics, representatives
