"""The real stack and the local engine do the same with the same weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import greedy
import torch
from prepared_kinds import TINY
from transformers import AutoModelForCausalLM, AutoTokenizer

from chord_exp.engine import real_cpu
from chord_exp.engine.rollout import end_token_ids
from chord_exp.engine.sampler import SamplingParams, sample_group

QUESTIONS = [f"{a}{sign}{b}=?" for a in (1, 4, 7, 9) for sign in "+-" for b in (2, 3, 8)]


def test_greedy_tokens_of_vllm_are_those_of_the_local_engine(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    turns = [[{"role": "user", "content": question}] for question in QUESTIONS]
    prompts = [tokenizer.apply_chat_template(one, add_generation_prompt=True, return_dict=False) for one in turns]
    request, answer = tmp_path / "request.json", tmp_path / "answer.json"
    request.write_text(json.dumps(prompts))
    done = subprocess.run(
        [sys.executable, greedy.__file__, str(TINY), str(request), str(answer)],
        env={**os.environ, **real_cpu.ENVIRONMENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    params = SamplingParams(temperature=0.0, max_tokens=greedy.TOKENS)
    ends = end_token_ids(model, tokenizer)
    ours = [sample_group(model, prompt, params, ends, seed=0)[0].tokens.tolist() for prompt in prompts]
    assert json.loads(answer.read_text()) == ours
    assert len({tuple(tokens) for tokens in ours}) > len(ours) / 2


def test_packed_rows_do_not_see_each_other_under_sdpa() -> None:
    """As verl calls a model with use_remove_padding: one row of many, told apart by their positions alone."""
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32, attn_implementation="sdpa").eval()
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(3, 700, (length,), generator=generator) for length in (5, 11, 1, 8)]
    positions = torch.cat([torch.arange(len(row)) for row in rows])[None]

    def packed(*parts: torch.Tensor) -> torch.Tensor:
        ids = torch.cat(parts)[None]
        return model(input_ids=ids, attention_mask=None, position_ids=positions, use_cache=False).logits[0]

    with torch.no_grad():
        together = packed(*rows)
        torch.testing.assert_close(together, torch.cat([model(row[None]).logits[0] for row in rows]))
        other = packed((rows[0] + 1), *rows[1:])
    assert not torch.allclose(other[:5], together[:5])
    torch.testing.assert_close(other[5:], together[5:], rtol=0, atol=0)
