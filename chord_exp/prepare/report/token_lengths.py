"""The longest prompt and the longest expert row in tokens, by the model's own tokenizer and chat template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.prepare.report.percentiles import percentiles
from chord_exp.trinity_config.rows import (
    CONVERSATION_KEY,
    EVAL,
    MESSAGES_KEY,
    PROMPT_KEY,
    RL,
    ROWS_FILE,
    SFT,
    SIDES,
    TOOLS_KEY,
)


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
    tokens = _counter(model, trust_remote_code)

    def prompt_tokens(messages: list[dict[str, Any]], tools: str) -> int:
        return tokens(messages, tools, add_generation_prompt=True)

    prompts = (
        (_asked(row, system_prompt), row.get(TOOLS_KEY, "")) for side in (RL, EVAL) for row in _rows(prepared / side)
    )
    taught = ((json.loads(row[MESSAGES_KEY]), row.get(TOOLS_KEY, "")) for row in _rows(prepared / SFT))
    return Lengths(_longest(prompts, prompt_tokens, prompt_limit), _longest(taught, tokens, row_limit))


def _counter(model: str, trust_remote_code: bool) -> Callable[..., int]:
    """A function that counts the tokens of a conversation and its tools, given as JSON text."""
    tokenizer = _tokenizer(model, trust_remote_code)

    def tokens(messages: list[dict[str, Any]], tools: str, **options: Any) -> int:
        schemas = json.loads(tools) if tools else None
        try:
            return len(tokenizer.apply_chat_template(messages, tools=schemas, return_dict=False, **options))
        except Exception as error:
            # a template is a program and raises what it likes
            raise _bad_template(model, tokenizer, messages, error) from error

    return tokens


def _asked(row: dict[str, Any], system_prompt: str) -> list[dict[str, Any]]:
    """What a row of the RL or evaluation side asks the model with."""
    own = row.get(CONVERSATION_KEY)
    if own:
        return json.loads(own)
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": row[PROMPT_KEY]}]


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
    conversations: Iterable[tuple[list[dict[str, Any]], str]],
    count: Callable[[list[dict[str, Any]], str], int],
    limit: int,
) -> int:
    # the template's own tokens: those of the same conversation with nothing said
    overhead: dict[tuple[str, ...], int] = {}
    longest = 0
    for messages, tools in conversations:
        if tools or any(message.get("tool_calls") for message in messages):
            # a template writes schemas and calls in a form of its own: no bound by their bytes
            longest = max(longest, count(messages, tools))
            continue
        roles = tuple(message["role"] for message in messages)
        if roles not in overhead:
            overhead[roles] = count([{**message, "content": ""} for message in messages], "")
        bound = overhead[roles] + sum(len(str(message["content"]).encode()) for message in messages)
        longest = max(longest, bound if bound <= limit else count(messages, ""))
    return longest


ROWS_COUNTED = 20_000
"""Of each side, for percentiles: rows lie in the order of a hash, so the first ones are a fair sample."""


def token_percentiles(prepared: Path, model: str, system_prompt: str) -> dict[str, dict[str, Any]]:
    """Percentiles of prompts and of whole expert rows in tokens, chat template included, by side.

    Args:
        prepared: what `layout` describes.
        model: folder of the tokenizer.
        system_prompt: the run's.

    Raises:
        ConfigError: the folder has no tokenizer that loads, or no chat template that takes these conversations.
    """
    import numpy as np

    tokens = _counter(model, trust_remote_code=False)
    found: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        lengths: dict[str, list[int]] = {"prompt_tokens": [], "row_tokens": []}
        for row in islice(_rows(prepared / side), ROWS_COUNTED):
            tools = row.get(TOOLS_KEY, "")
            if side == SFT:
                messages = json.loads(row[MESSAGES_KEY])
                lengths["row_tokens"].append(tokens(messages, tools))
                asked = messages[:-1]
            else:
                asked = _asked(row, system_prompt)
            lengths["prompt_tokens"].append(tokens(asked, tools, add_generation_prompt=True))
        counted = {name: percentiles(np.array(values)) for name, values in lengths.items() if values}
        if counted:
            found[side] = counted
    return found
