"""From Trinity experiences to padded tensors, and how they are cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from trinity.common.experience import (
    Experience,
    gather_action_masks,
    gather_attention_masks,
    gather_response_attrs,
    gather_token_ids,
)

# tensors over prompt and response; the others with two dimensions are over the response alone
_WHOLE_ROW = ("input_ids", "attention_mask", "position_ids")


def training_order(experience: Experience) -> tuple:
    """Rollouts before experts, each by task and run: the order in which rollouts arrive must not change the sums."""
    is_expert = bool((experience.info or {}).get("is_expert", False))
    eid = experience.eid
    # expert rows all carry the default id; the sort is stable and keeps their reading order
    return (is_expert, str(eid.batch).zfill(9), str(eid.task).zfill(9), eid.run)


def collate(experiences: Sequence[Experience], pad_token_id: int) -> dict[str, Tensor]:
    """Pad experiences into one batch of B rows: prompts on the left (P), responses on the right (R).

    Returns:
        `input_ids`, `attention_mask`, `position_ids` [B, P + R]; `response_mask` and, where every row has them,
        `old_log_probs`, `advantages`, `returns` [B, R]; each custom field of the sample strategy [B]. The names are
        those of verl's batches, which Trinity's loss functions ask for.
    """
    prompt_length = max(exp.prompt_length for exp in experiences)
    response_length = max(len(exp.tokens) - exp.prompt_length for exp in experiences)
    attention_mask = gather_attention_masks(experiences, prompt_length, response_length).long()
    batch = {
        "input_ids": gather_token_ids(experiences, prompt_length, response_length, pad_token_id).long(),
        "attention_mask": attention_mask,
        "position_ids": (attention_mask.cumsum(dim=-1) - 1).clip(min=0),
        "response_mask": gather_action_masks(experiences, response_length),
    }
    for source, name in (("logprobs", "old_log_probs"), ("advantages", "advantages"), ("returns", "returns")):
        if all(getattr(exp, source) is not None for exp in experiences):
            batch[name] = gather_response_attrs(experiences, source, response_length)
    for field in experiences[0].custom_fields or ():
        values = [exp.info[field.source_field] for exp in experiences]
        batch[field.destination_field] = torch.tensor(values, dtype=field.data_type)
    return batch


def micro_batches(batch: dict[str, Tensor], max_tokens: int) -> Iterator[dict[str, Tensor]]:
    """Cut a batch, in order, into runs of rows whose padded tokens stay within `max_tokens` (one row at the least).

    Each piece is trimmed to its own longest prompt and response.
    """
    rows = batch["input_ids"].shape[0]
    response_length = batch["response_mask"].shape[1]
    prompt_tokens = batch["attention_mask"][:, :-response_length].sum(dim=-1).tolist()
    response_tokens = batch["attention_mask"][:, -response_length:].sum(dim=-1).tolist()
    start, prompt, response = 0, 0, 0
    for row in range(rows):
        wider = max(prompt, prompt_tokens[row]), max(response, response_tokens[row])
        if row > start and sum(wider) * (row + 1 - start) > max_tokens:
            yield _piece(batch, slice(start, row), prompt, response)
            start, wider = row, (prompt_tokens[row], response_tokens[row])
        prompt, response = wider
    yield _piece(batch, slice(start, rows), prompt, response)


def _piece(batch: dict[str, Tensor], rows: slice, prompt: int, response: int) -> dict[str, Tensor]:
    response_width = batch["response_mask"].shape[1]
    prompt_width = batch["input_ids"].shape[1] - response_width
    whole, answer = slice(prompt_width - prompt, prompt_width + response), slice(0, response)

    def cut(name: str, tensor: Tensor) -> Tensor:
        if tensor.dim() == 1:
            return tensor[rows]
        return tensor[rows, whole if name in _WHOLE_ROW else answer]

    return {name: cut(name, tensor) for name, tensor in batch.items()}


def to_device(batch: dict[str, Tensor], device: Any) -> dict[str, Tensor]:
    """The same batch on another device."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
