"""A judge for tests of the way to it: a model that rates everything alike, served by vLLM's own OpenAI server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import torch
from prepared_kinds import TINY
from running import TIMEOUT
from transformers import AutoTokenizer, GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from chord_exp.engine import real_cpu
from chord_exp.launch.cluster.private_ray import LOOPBACK, free_ports

NAME, REWARD = "constant", 0.7
# what Trinity's rubric judge reads as 7 of 10, one token each
ANSWER = ("```json", '{"rating": 7}', "```")
# the judge's instructions are longer than the tiny model's window
WINDOW = 4096


def write_model(folder: Path) -> Path:
    """A Qwen3 whose next token follows from the last one alone: after any prompt it says ANSWER and ends."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.add_tokens(list(ANSWER))
    end = tokenizer.eos_token_id
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=False,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    asked = [{"role": "user", "content": "?"}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    chain = [prompt[-1], *tokenizer.convert_tokens_to_ids(list(ANSWER)), end]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight.copy_(torch.eye(len(tokenizer), 1024))
        for last, following in pairwise(chain):
            model.lm_head.weight[following, last] = 1.0
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def served(folder: Path, log: Path) -> Iterator[str]:
    """Serve the model of a folder as NAME while this holds; yields the API's address."""
    (port,) = free_ports(LOOPBACK, 1)
    words = ["--model", str(folder), "--served-model-name", NAME, "--host", LOOPBACK, "--port", str(port)]
    words += ["--dtype", "float32", "--enforce-eager", "--max-model-len", str(WINDOW)]
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **real_cpu.ENVIRONMENT, real_cpu.SWITCH: "0", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + TIMEOUT
        while not _answers(f"http://{LOOPBACK}:{port}/health"):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://{LOOPBACK}:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=60)


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url) as answer:
        return answer.status == 200
    return False
