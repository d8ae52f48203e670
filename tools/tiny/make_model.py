"""Makes the tiny base model in `chord_exp/tiny/model`: tokenizer, then pre-training from random weights.

    python -m tools.tiny.make_model --out chord_exp/tiny/model

It stands in for a real base model: it has seen bare sums and differences and the word problems of the base
family (`word_problems.BASE_TEMPLATES`), never a sentence of `sft_data/`, and it boxes only some answers.
So an experiment starts at a low accuracy but not without reward, which is what reinforcement learning needs.
About ten minutes on one CPU core.
"""

# ruff: noqa: RUF001  (full-width punctuation is right in Chinese)

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tools.tiny.make_data import sample_pairs
from tools.tiny.tokenizer import END_OF_TEXT, MESSAGE_END, train_tokenizer
from tools.tiny.word_problems import BASE_TEMPLATES, draw_numbers, draw_problem, fill, worked_response

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3Config

SEED = 7
STEPS = 1100
BATCH_ROWS = 96
PEAK_LR = 3e-3
WORD_PROBLEM_SHARE = 0.6
BOXED_SHARE = {"en": 0.4, "zh": 0.6}
"""How often the base model has seen a word problem answered with a box, by language; otherwise the response
ends after the working, and earns nothing."""
TOKENIZER_TEXTS = 4000

BARE_QUESTIONS = (
    "{formula}=?",
    "What is {formula}?",
    "Compute {formula}.",
    "计算{formula}。",
    "{formula}等于多少？",
)
BARE_FORMULAS = ("a+b", "a-b")

Pair = tuple[str, str]


def base_pairs(seed: int) -> Iterator[Pair]:
    """Endless (prompt, response) pairs of the base family: bare calculations and word problems."""
    rng = random.Random(seed)
    while True:
        if rng.random() < WORD_PROBLEM_SHARE:
            problem = draw_problem(BASE_TEMPLATES, rng)
            boxed = rng.random() < BOXED_SHARE[problem.language]
            yield problem.prompt, problem.response if boxed else problem.response.partition(" ")[0]
        else:
            letters = rng.choice(BARE_FORMULAS)
            formula = fill(letters, draw_numbers(letters, rng))
            yield rng.choice(BARE_QUESTIONS).format(formula=formula), worked_response(formula)


def make_tokenizer(seed: int = SEED) -> PreTrainedTokenizerFast:
    """The tokenizer, learnt from the sample and as many pairs of the base family."""
    pairs = sample_pairs() + [pair for pair, _ in zip(base_pairs(seed), range(TOKENIZER_TEXTS), strict=False)]
    return train_tokenizer(text for pair in pairs for text in pair)


def model_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """Qwen3 with half a million parameters; two layers, because decoding time is mostly their number."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        use_cache=True,
        bos_token_id=None,
        eos_token_id=_token_id(tokenizer, MESSAGE_END),
        pad_token_id=_token_id(tokenizer, END_OF_TEXT),
    )


def _token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return int(tokenizer.get_vocab()[token])


def encode_pair(tokenizer: PreTrainedTokenizerFast, pair: Pair) -> tuple[list[int], int]:
    """Token ids of a conversation and the number of them that are prompt."""
    prompt, response = pair
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    prompt_ids = tokenizer.encode(text, add_special_tokens=False)
    return prompt_ids + tokenizer.encode(response + MESSAGE_END, add_special_tokens=False), len(prompt_ids)


def collate(tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and labels, both [rows, tokens]; labels are -100 outside the response."""
    import torch

    encoded = [encode_pair(tokenizer, pair) for pair in pairs]
    width = max(len(ids) for ids, _ in encoded)
    tokens = torch.full((len(encoded), width), _token_id(tokenizer, END_OF_TEXT))
    labels = torch.full_like(tokens, -100)
    for row, (ids, prompt_length) in enumerate(encoded):
        tokens[row, : len(ids)] = torch.tensor(ids)
        labels[row, prompt_length : len(ids)] = torch.tensor(ids[prompt_length:])
    return tokens, labels


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the tokenizer under the class name that transformers 4 and 5 both know."""
    tokenizer.save_pretrained(out)
    path = out / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.pop("backend", None)
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def pretrain(out: Path, seed: int = SEED, steps: int = STEPS) -> None:
    """Trains the base model and writes it with its tokenizer into the folder `out`, weights in bfloat16."""
    import torch
    from transformers import GenerationConfig, Qwen3ForCausalLM

    torch.manual_seed(seed)
    tokenizer = make_tokenizer(seed)
    model = Qwen3ForCausalLM(model_config(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps))),
    )
    pairs = base_pairs(seed + 1)
    started = time.monotonic()
    for step in range(steps):
        tokens, labels = collate(tokenizer, [next(pairs) for _ in range(BATCH_ROWS)])
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step} loss {loss.item():.4f} after {time.monotonic() - started:.0f} s", flush=True)
    model.bfloat16().save_pretrained(out)
    GenerationConfig(
        do_sample=True,
        temperature=1.0,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    ).save_pretrained(out)
    save_tokenizer(tokenizer, out)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters in {out}")


def main() -> None:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description="Pre-train the tiny base model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model into")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS, help="pre-training steps")
    arguments = parser.parse_args()
    pretrain(arguments.out, arguments.seed, arguments.steps)


if __name__ == "__main__":
    main()
