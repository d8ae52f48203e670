"""Sampling of the local engine against transformers' own generation and forward pass."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from chord_exp.engine.sampler import SamplingParams, _filtered, rollout_seed, sample_group

END = 3
PROMPT = [5, 6, 7, 8]


@pytest.fixture(scope="module")
def model() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=64, pad_token_id=0, eos_token_id=END,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def test_greedy_tokens_are_those_of_transformers_generate(model: Qwen3ForCausalLM) -> None:
    ours = sample_group(model, PROMPT, SamplingParams(temperature=0.0, max_tokens=12), {END}, seed=0)[0]
    theirs = model.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False)[0, len(PROMPT) :]
    assert ours.tokens.tolist() == theirs.tolist()[: len(ours.tokens)]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
@torch.inference_mode()
def test_logprobs_are_those_of_a_full_forward_pass_at_the_sampling_temperature(
    model: Qwen3ForCausalLM, temperature: float
) -> None:
    for response in sample_group(model, PROMPT, SamplingParams(4, temperature, max_tokens=10), {END}, seed=1):
        ids = torch.tensor([PROMPT + response.tokens.tolist()])
        logits = model(ids).logits[0, len(PROMPT) - 1 : -1] / temperature
        expected = logits.log_softmax(-1).gather(-1, response.tokens[:, None])[:, 0]
        assert torch.allclose(response.logprobs, expected, atol=1e-5)


def test_the_same_seed_draws_the_same_and_another_draws_otherwise(model: Qwen3ForCausalLM) -> None:
    def draw(seed: int) -> list[list[int]]:
        return [
            response.tokens.tolist()
            for response in sample_group(model, PROMPT, SamplingParams(6, max_tokens=8), {END}, seed)
        ]

    assert draw(1) == draw(1) != draw(2)


def test_rows_end_at_their_end_token_and_say_whether_they_did(model: Qwen3ForCausalLM) -> None:
    responses = sample_group(model, PROMPT, SamplingParams(32, 1.5, max_tokens=20), {END, 4}, seed=0)
    assert {response.finished for response in responses} == {True, False}
    for response in responses:
        ends = [token in (END, 4) for token in response.tokens.tolist()]
        assert not any(ends[:-1])
        assert ends[-1] == response.finished
        assert response.finished or len(ends) == 20


def test_min_tokens_keeps_a_response_going(model: Qwen3ForCausalLM) -> None:
    params = SamplingParams(32, 1.5, max_tokens=10, min_tokens=6)
    assert all(len(response.tokens) > 6 for response in sample_group(model, PROMPT, params, {END, 4}, seed=0))


def test_top_k_and_top_p_keep_the_likeliest_tokens() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert torch.isfinite(_filtered(logits, 2, 1.0)).tolist() == [[True, True, False, False]]
    assert torch.isfinite(_filtered(logits, -1, 0.6)).tolist() == [[True, True, False, False]]
    assert torch.isfinite(_filtered(logits, -1, 0.1)).tolist() == [[True, False, False, False]]
    assert torch.isfinite(_filtered(logits, -1, 1.0)).all()


def test_the_group_seed_depends_on_run_weights_and_prompt_only() -> None:
    base = rollout_seed(1, 2, [3, 4])
    assert base == rollout_seed(1, 2, [3, 4])
    assert len({base, rollout_seed(2, 2, [3, 4]), rollout_seed(1, 3, [3, 4]), rollout_seed(1, 2, [3, 5])}) == 4
