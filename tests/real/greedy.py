"""Greedy responses of vLLM: greedy.py MODEL_FOLDER REQUEST ANSWER, two JSON files of token ids."""

from __future__ import annotations

import json
import sys
from pathlib import Path

TOKENS = 24


def main(model: str, request: str, answer: str) -> None:
    """Read prompts, write what follows each."""
    from vllm import LLM, SamplingParams

    prompts = json.loads(Path(request).read_text())
    engine = LLM(model=model, dtype="float32", enforce_eager=True, max_model_len=128, seed=0)
    outputs = engine.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts], SamplingParams(temperature=0.0, max_tokens=TOKENS)
    )
    Path(answer).write_text(json.dumps([list(output.outputs[0].token_ids) for output in outputs]))


if __name__ == "__main__":
    main(*sys.argv[1:])
