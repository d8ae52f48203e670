"""Collation and micro-batches of the local engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trinity.common.experience import EID, CustomField, Experience

from chord_exp.engine.batch import collate, micro_batches, training_order

PAD = 9
FIELD = CustomField("is_expert", "expert_mask", torch.bool)


def experience(prompt: int, response: int, *, expert: bool = False, task: int = 0, run: int = 0) -> Experience:
    tokens = torch.arange(1, prompt + response + 1, dtype=torch.int32) % PAD
    return Experience(
        eid=EID(batch=1, task=task, run=run),
        tokens=tokens,
        prompt_length=prompt,
        logprobs=torch.full((response,), -0.5),
        advantages=torch.full((response,), 2.0),
        info={"is_expert": expert},
        custom_fields=[FIELD],
    )


def test_prompts_are_padded_left_and_responses_right() -> None:
    batch = collate([experience(2, 3), experience(4, 1, expert=True)], PAD)
    assert batch["input_ids"].tolist() == [[PAD, PAD, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 0, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 4, 4]]
    assert batch["response_mask"].tolist() == [[True, True, True], [True, False, False]]
    assert batch["advantages"].tolist() == [[2, 2, 2], [2, 0, 0]]
    assert batch["expert_mask"].tolist() == [False, True]


def test_training_order_does_not_depend_on_arrival() -> None:
    rows = [experience(2, 2, task=task, run=run) for task in (0, 2, 10) for run in range(2)]
    rows += [experience(2, 2, expert=True)]
    arrived = [rows[index] for index in (6, 4, 1, 5, 0, 3, 2)]
    assert [row.eid.rid for row in sorted(arrived, key=training_order)] == [row.eid.rid for row in rows]


@settings(max_examples=60)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12),
    budget=st.integers(1, 80),
)
def test_micro_batches_keep_every_token_in_order_and_within_the_budget(lengths: list, budget: int) -> None:
    batch = collate([experience(prompt, response) for prompt, response in lengths], PAD)
    pieces = list(micro_batches(batch, budget))
    kept = [
        piece["input_ids"][row][piece["attention_mask"][row].bool()]
        for piece in pieces
        for row in range(len(piece["input_ids"]))
    ]
    whole = [row[mask.bool()] for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    assert len(kept) == len(whole)
    assert all(torch.equal(left, right) for left, right in zip(kept, whole, strict=True))
    for piece in pieces:
        rows, width = piece["input_ids"].shape
        assert rows == 1 or rows * width <= budget
        # no column is padding alone
        assert piece["attention_mask"].bool().any(dim=0).all()
        assert piece["response_mask"].shape == piece["advantages"].shape == (rows, piece["response_mask"].shape[1])


def test_rows_of_one_custom_field_stay_with_their_tokens() -> None:
    batch = collate([experience(2, 2), experience(2, 2, expert=True), experience(8, 8)], PAD)
    masks = [piece["expert_mask"].tolist() for piece in micro_batches(batch, 8)]
    assert masks == [[False, True], [False]]


@pytest.mark.parametrize("missing", ["logprobs", "advantages"])
def test_a_column_that_some_rows_lack_is_left_out(missing: str) -> None:
    rows = [experience(2, 2), experience(2, 2)]
    setattr(rows[1], missing, None)
    assert {"logprobs": "old_log_probs"}.get(missing, missing) not in collate(rows, PAD)


def test_trinity_hands_the_models_temperature_to_verl_whatever_is_trained() -> None:
    """The local engine divides its logits by the same; verl's trainer itself cannot be imported without its extras."""
    import trinity

    source = (Path(trinity.__file__).parent / "trainer" / "verl" / "trainer.py").read_text(encoding="utf-8")
    assert 'batch.meta_info["temperature"] = self.global_config.model.temperature' in source
    update = source[source.index("def _update_actor") :]
    assert 'temperature=batch.meta_info.get("temperature", self.global_config.model.temperature)' in update
