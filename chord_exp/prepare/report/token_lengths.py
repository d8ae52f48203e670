"""Lengths of prepared rows in tokens, by the model's own tokenizer and chat template.

What was counted is kept in the prepared folder, by the digest of all that changes it: a run whose tokenizer is known
there reads numbers and loads no tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chord_exp.errors import ConfigError
from chord_exp.trinity_config.rows import (
    CONVERSATION_KEY,
    EVAL,
    MESSAGES_KEY,
    PROMPT_KEY,
    RL,
    ROWS_FILE,
    SFT,
    SIDES,
    TEST,
    TOKEN_LENGTHS,
    TOOLS_KEY,
    output_name,
)
from chord_exp.utils.files import write_atomically

Messages = list[dict[str, Any]]
# problems that are shown one by one
_SHOWN = 20
# what of a checkpoint's folder may change how text becomes tokens
_TOKENIZER_FILES = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")


@dataclass(frozen=True)
class Chat:
    """How conversations become tokens."""

    # folder of the tokenizer, or its hub id
    model: str
    # of the run; rows with messages of their own do not get it
    system_prompt: str = ""
    # the switch of the chat template; None leaves it out
    enable_thinking: bool | None = None
    # whether a tokenizer's own code in the folder may run
    trust_remote_code: bool = False

    def digest(self) -> str:
        """Of the tokenizer's files and all that this says; 16 hexadecimal digits."""
        found = hashlib.sha256(json.dumps([self.system_prompt, self.enable_thinking]).encode())
        for path in sorted(Path(self.model).iterdir()):
            if path.suffix in _TOKENIZER_FILES and path.is_file():
                found.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
        return found.hexdigest()[:16]


@dataclass(frozen=True)
class RowLimit:
    """Tokens that an expert row may have; a longer one is left out."""

    chat: Chat
    tokens: int

    def decides(self) -> dict[str, Any]:
        """What of it decides which rows are left out, as JSON takes it.

        Raises:
            ConfigError: the tokenizer is not here.
        """
        if not Path(self.chat.model).is_dir():
            raise ConfigError(
                f"rows cannot be counted without the tokenizer of {self.chat.model}",
                "model.path",
                "give the folder of the model, or keep long rows (drop_long=false)",
            )
        return {"tokenizer": self.chat.digest(), "tokens": self.tokens}


@dataclass(frozen=True)
class Lengths:
    """The longest rows in tokens, chat template included: counted where they pass the limit that they were measured
    for, else a bound that does not."""

    # prompt of the RL and evaluation sides, system prompt and generation prompt included
    prompt_max: int
    # expert row, prompt and response together
    expert_max: int
    # tokens that a prompt, and an expert row, might have
    prompt_limit: int
    row_limit: int

    def answers(self, prompt_limit: int, row_limit: int) -> bool:
        """Whether they say of other limits, too, which rows pass them."""
        return all(
            longest <= limit or longest > measured
            for longest, limit, measured in (
                (self.prompt_max, prompt_limit, self.prompt_limit),
                (self.expert_max, row_limit, self.row_limit),
            )
        )


def longest(prepared: Path, chat: Chat, prompt_limit: int, row_limit: int) -> Lengths | None:
    """Return what is known of a prepared folder, measured where it is not: tokens are counted only where bytes leave a
    doubt.

    A byte-level tokenizer never makes more tokens than there are bytes, so rows whose bytes (and the template's own
    tokens) stay within the limit are not tokenised: on long limits, none is.

    Args:
        prepared: what `trinity_config.rows` describes.
        chat: a tokenizer's hub id is not looked up.
        prompt_limit, row_limit: tokens that a prompt, and an expert row, may have.

    Returns:
        None if the tokenizer cannot be had without a network.

    Raises:
        ConfigError: the folder has no tokenizer that loads, or no chat template that takes these conversations.
    """
    if not Path(chat.model).is_dir():
        return None
    kept = prepared / TOKEN_LENGTHS / f"{chat.digest()}.json"
    with suppress(OSError, ValueError, TypeError):
        known = Lengths(**json.loads(kept.read_bytes()))
        if known.answers(prompt_limit, row_limit):
            return known
    counter = TokenCounter(chat)
    asked = (row for side in (RL, EVAL, TEST) for row in rendered_rows(prepared, side, chat))
    lengths = Lengths(
        _longest(asked, counter, True, prompt_limit),
        _longest(rendered_rows(prepared, SFT, chat), counter, False, row_limit),
        prompt_limit,
        row_limit,
    )
    # a folder that others own may be read only; then it is counted again
    with suppress(OSError):
        kept.parent.mkdir(exist_ok=True)
        write_atomically(kept, json.dumps(asdict(lengths)))
    return lengths


class TokenCounter:
    """Counts tokens as rollouts and expert rows are rendered.

    Raises:
        ConfigError: no tokenizer loads, or it has no chat template.
    """

    def __init__(self, chat: Chat) -> None:
        from transformers import AutoTokenizer

        self._model = chat.model
        self._options: dict[str, Any] = (
            {} if chat.enable_thinking is None else {"enable_thinking": chat.enable_thinking}
        )
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(chat.model, trust_remote_code=chat.trust_remote_code)
        except Exception as error:
            # damaged files raise anything; the tokenizers library even a bare Exception
            remedy = "give a folder with config.json and the tokenizer's files (tokenizer.json, tokenizer_config.json)"
            if not chat.trust_remote_code and "trust_remote_code" in str(error):
                remedy = "set model.trust_remote_code=true if you trust the code in that folder"
            raise ConfigError(
                f"no tokenizer loads from {chat.model}: {_first_line(error)}", "model.path", remedy
            ) from error
        if not getattr(self._tokenizer, "chat_template", None):
            raise ConfigError(
                f"the tokenizer of {chat.model} has no chat template",
                "model.path",
                "use an instruction-tuned model, or add chat_template to its tokenizer_config.json",
            )

    @property
    def model_max_length(self) -> int:
        """Tokens at which the tokenizer says that the model ends."""
        return self._tokenizer.model_max_length

    def count(self, messages: Messages, tools: str, answer_follows: bool) -> int:
        """Count the tokens of a conversation.

        Args:
            tools: JSON text of the schemas, or empty.
            answer_follows: whether the model is to go on.

        Raises:
            ConfigError: the template does not take it.
        """
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=json.loads(tools) if tools else None,
                add_generation_prompt=answer_follows,
                tokenize=False,
                **self._options,
            )
        except Exception as error:
            # a template is a program and raises what it likes
            roles = ", ".join(message["role"] for message in messages)
            raise ConfigError(
                f"the chat template of {self._model} does not take a conversation of {roles}: {_first_line(error)}",
                "model.path",
                "use a model whose chat template takes these roles, or leave data.system_prompt empty if it refuses "
                "system",
            ) from error
        return len(self._tokenizer(text)["input_ids"])


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def rendered_rows(prepared: Path, side: str, chat: Chat) -> Iterator[tuple[Messages, str]]:
    """Yield the messages of each row of a side, and its tools: what is taught, or what the model is asked with."""
    file = prepared / side / ROWS_FILE
    if not file.exists():
        return
    system = [{"role": "system", "content": chat.system_prompt}] if chat.system_prompt else []
    with open(file, encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            own = row.get(MESSAGES_KEY) or row.get(CONVERSATION_KEY)
            messages = json.loads(own) if own else [*system, {"role": "user", "content": row[PROMPT_KEY]}]
            yield messages, row.get(TOOLS_KEY) or ""


def _longest(rows: Iterable[tuple[Messages, str]], counter: TokenCounter, answer_follows: bool, limit: int) -> int:
    # the template's own tokens: those of the same conversation with nothing said
    overhead: dict[tuple[str, ...], int] = {}
    longest = 0
    for messages, tools in rows:
        if tools or any(message.get("tool_calls") for message in messages):
            # a template writes schemas and calls in a form of its own: no bound by their bytes
            longest = max(longest, counter.count(messages, tools, answer_follows))
            continue
        roles = tuple(message["role"] for message in messages)
        if roles not in overhead:
            overhead[roles] = counter.count([{**message, "content": ""} for message in messages], "", answer_follows)
        bound = overhead[roles] + sum(len(str(message["content"]).encode()) for message in messages)
        longest = max(longest, bound if bound <= limit else counter.count(messages, "", answer_follows))
    return longest


def percentiles(values: Any) -> dict[str, int]:
    """Return nearest-rank percentiles and the maximum of a non-empty array."""
    # late: the processes that read rows need none of it
    import numpy as np

    found = np.percentile(values, (50, 90, 99, 100), method="inverted_cdf").tolist()
    return dict(zip(("p50", "p90", "p99", "max"), map(int, found), strict=True))


@dataclass(frozen=True)
class Problem:
    """A row that would break or waste a training."""

    # below the prepared folder
    file: str
    # from 1
    line: int
    what: str


@dataclass(frozen=True)
class RowCheck:
    """Every row rendered and counted."""

    # rows by side
    rows: dict[str, int]
    # median, 90%, 99% and the longest, in tokens; by side, of prompts, and of whole expert rows
    lengths: dict[str, dict[str, dict[str, int]]]
    problems: list[Problem]

    def lines(self) -> list[str]:
        """For a reader: lengths, counts, then the first problems."""
        lengths = [
            f"{side:<4} {name}: " + ", ".join(f"{share} {tokens:,}" for share, tokens in values.items())
            for side, kinds in self.lengths.items()
            for name, values in kinds.items()
        ]
        counts = ", ".join(f"{side} {rows:,}" for side, rows in self.rows.items())
        if not self.problems:
            return [*lengths, f"rendered and counted: {counts}: no row would break training"]
        shown = [f"  {one.file}:{one.line}: {one.what}" for one in self.problems[:_SHOWN]]
        more = len(self.problems) - len(shown)
        return [
            *lengths,
            f"rendered and counted: {counts}: {len(self.problems):,} rows would break or waste a training",
            *shown,
            *([f"  … and {more:,} more"] if more else []),
        ]


def check_rows(prepared: Path, chat: Chat, *, prompt_limit: int, row_limit: int, multi_turn: bool) -> RowCheck:
    """Render every row of a prepared folder with the model's chat template and count its tokens.

    Args:
        prompt_limit: tokens a prompt may have; a longer one is cut, and its rollouts count for nothing.
        row_limit: tokens an expert row may have; a longer one ends the trainer.
        multi_turn: whether every assistant turn is trained (the manifest's `multi_turn`).

    Raises:
        ConfigError: no tokenizer loads, or it has no chat template.
    """
    counter = TokenCounter(chat)
    # the reader of conversations, and only that one, cuts at this length without a word
    cut = counter.model_max_length if multi_turn else math.inf
    check = RowCheck({}, {}, [])
    for side in SIDES:
        lengths: dict[str, list[int]] = {"prompt tokens": [], "row tokens": []}
        number = 0
        for number, (messages, tools) in enumerate(rendered_rows(prepared, side, chat), 1):
            counted = [("row tokens", messages, row_limit), ("prompt tokens", messages[:-1], row_limit)]
            if side != SFT:
                counted = [("prompt tokens", messages, prompt_limit)]
            for name, part, limit in counted:
                try:
                    tokens = counter.count(part, tools, name == "prompt tokens")
                except ConfigError as error:
                    check.problems.append(Problem(output_name(side), number, error.what))
                    break
                lengths[name].append(tokens)
                if tokens > limit or (name == "row tokens" and tokens >= cut):
                    check.problems.append(
                        Problem(output_name(side), number, f"{tokens:,} {name}, at most {min(limit, cut):,}")
                    )
                    break
        if number:
            check.rows[side] = number
        counts = {name: percentiles(values) for name, values in lengths.items() if values}
        if counts:
            check.lengths[side] = counts
    return check
