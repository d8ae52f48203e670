"""The longest prompt and the longest expert row in tokens, by the model's own tokenizer and chat template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.prepare.layout import EVAL, MESSAGES_KEY, PROMPT_KEY, RL, ROWS_FILE, SFT


@dataclass(frozen=True)
class Lengths:
    """Lengths in tokens, chat template included. Where no row can pass its limit, the bound that says so."""

    # longest prompt of the RL and evaluation sides, system prompt and generation prompt included
    prompt_max: int
    # longest expert row, prompt and response together
    expert_max: int


@lru_cache(maxsize=8)
def longest(
    prepared: Path, model: str, system_prompt: str, prompt_limit: int, row_limit: int, trust_remote_code: bool
) -> Lengths | None:
    """Measure a prepared folder, counting tokens only where bytes leave a doubt.

    A byte-level tokenizer never makes more tokens than there are bytes, so rows whose bytes (and the template's own
    tokens) stay within the limit are not tokenised: on long limits, none is.

    Args:
        prepared: what `layout` describes.
        model: folder of the tokenizer. A hub id is not looked up: None is returned.
        prompt_limit, row_limit: tokens that a prompt, and an expert row, may have.
        trust_remote_code: whether a tokenizer's own code in the folder may run.

    Returns:
        None if the tokenizer cannot be had without a network.

    Raises:
        ConfigError: the folder has no tokenizer that loads, or no chat template that takes these conversations.
    """
    if not Path(model).is_dir():
        return None
    tokenizer = _tokenizer(model, trust_remote_code)

    def tokens(messages: list[dict[str, Any]], **options: Any) -> int:
        try:
            return len(tokenizer.apply_chat_template(messages, return_dict=False, **options))
        except Exception as error:
            # a template is a program and raises what it likes
            raise _bad_template(model, tokenizer, messages, error) from error

    def prompt_tokens(messages: list[dict[str, Any]]) -> int:
        return tokens(messages, add_generation_prompt=True)

    def row_tokens(messages: list[dict[str, Any]]) -> int:
        return tokens(messages)

    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    asked = [
        [*system, {"role": "user", "content": row[PROMPT_KEY]}] for side in (RL, EVAL) for row in _rows(prepared / side)
    ]
    taught = [json.loads(row[MESSAGES_KEY]) for row in _rows(prepared / SFT)]
    return Lengths(_longest(asked, prompt_tokens, prompt_limit), _longest(taught, row_tokens, row_limit))


def _tokenizer(model: str, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    except Exception as error:
        # damaged files raise anything; the tokenizers library even a bare Exception
        remedy = "give a folder with config.json and the tokenizer's files (tokenizer.json, tokenizer_config.json)"
        if not trust_remote_code and "trust_remote_code" in str(error):
            remedy = "set model.trust_remote_code=true if you trust the code in that folder"
        raise ConfigError(f"no tokenizer loads from {model}: {_first_line(error)}", "model.path", remedy) from error


def _bad_template(model: str, tokenizer: Any, messages: list[dict[str, Any]], error: Exception) -> ConfigError:
    if not getattr(tokenizer, "chat_template", None):
        return ConfigError(
            f"the tokenizer of {model} has no chat template",
            "model.path",
            "use an instruction-tuned model, or add chat_template to its tokenizer_config.json",
        )
    roles = ", ".join(message["role"] for message in messages)
    return ConfigError(
        f"the chat template of {model} does not take a conversation of {roles}: {_first_line(error)}",
        "model.path",
        "use a model whose chat template takes these roles, or leave data.system_prompt empty if it refuses system",
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _rows(side: Path) -> Iterator[dict[str, Any]]:
    file = side / ROWS_FILE
    if file.exists():
        with open(file, encoding="utf-8") as stream:
            yield from map(json.loads, stream)


def _longest(
    conversations: list[list[dict[str, Any]]], count: Callable[[list[dict[str, Any]]], int], limit: int
) -> int:
    if not conversations:
        return 0
    # the template's own tokens: those of the same conversation with nothing said
    overhead: dict[tuple[str, ...], int] = {}
    longest = 0
    for messages in conversations:
        roles = tuple(message["role"] for message in messages)
        if roles not in overhead:
            overhead[roles] = count([{**message, "content": ""} for message in messages])
        bound = overhead[roles] + sum(len(str(message["content"]).encode()) for message in messages)
        longest = max(longest, bound if bound <= limit else count(messages))
    return longest

def token_percentiles(folder, tokenizer):
    return {}
