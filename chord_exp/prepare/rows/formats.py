"""The known shapes of rows: which column holds which part of a conversation.

A format is one entry of FORMATS. It is found row by row, so that one folder may mix formats; the first whose columns a
row has reads it. Column names are compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chord_exp.prepare.rows.conversation import Record

Columns = tuple[str, ...]

QUERY_COLUMNS: Columns = ("prompt", "question", "input", "query", "instruction", "problem")
# `answer` last: beside one of the others it is the final answer
REPLY_COLUMNS: Columns = ("response", "output", "completion", "solution", "target", "targets", "answer")


@dataclass(frozen=True)
class Format:
    """One public shape of rows. A part with several columns is read from the first of them that is filled."""

    # as counted in the manifest
    name: str
    # a whole conversation
    turns: Columns = ()
    # what is asked: a text or a list of messages; and a text that stands below it
    prompt: Columns = ()
    below: Columns = ()
    # what the expert says: a text or a list of messages; and calls of tools in place of it, or beside it
    reply: Columns = ()
    calls: Columns = ()
    # the final answer; without a reply or calls, the truth of a row for RL. A dot leads into an object
    answer: Columns = ()
    # options of a multiple-choice question: one column that holds all, or a column each; and which is right
    choices: Columns = ()
    key: Columns = ()
    # columns that it has besides
    besides: Columns = ()
    # whether the values fit too; None where filled turns and choices say enough
    when: Callable[[Record], bool] | None = None
    # of rows that cannot be used: the reason and what they have
    refused: tuple[str, str] | None = None
    # columns beside these parts, of most formats
    system: Columns = ("system", "system_prompt")
    tools: Columns = ("tools",)
    history: Columns = ("history",)
    reasoning: Columns = ("reasoning_content", "reasoning", "thinking", "complex_cot")
    # true or false: whether the reply is to be imitated (KTO, corpora of graded answers)
    verdict: Columns = ("label", "desirable", "is_correct", "correct", "chosen")
    # names of keys and roles inside the turns, as LLaMA-Factory's `tags`
    tags: Mapping[str, str] = field(default_factory=dict)
    # the columns were named by hand: a row without one of them is rejected, and names may hold dots
    by_hand: bool = False

    @property
    def needed(self) -> tuple[Columns, ...]:
        """Return the parts of which a row must have a column each."""
        said = () if self.key or self.turns else self.reply or self.calls or self.answer
        parts = (self.turns, self.prompt, self.choices[:1], self.key, said, *((name,) for name in self.besides))
        return tuple(part for part in parts if part)


def shape(name: str, *, when: Callable[[Record], bool] | None = None, refused: str = "", **parts: str) -> Format:
    """Return a format whose parts are given as the names of their columns, with a space between them."""
    columns: dict[str, Any] = {part: tuple(names.split()) for part, names in parts.items()}
    return Format(name, when=when, refused=(name, refused) if refused else None, **columns)


def _filled(record: Record, *names: str) -> bool:
    return any(record.get(name) not in (None, "", [], {}) for name in names)


def _asks_without_reply(record: Record) -> bool:
    """Whether the prompt is a list of messages, or the JSON text of one, and nothing answers it."""
    prompt = record["prompt"]
    is_list = isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], dict)
    return (
        (is_list or (isinstance(prompt, str) and prompt.startswith("[{")))
        and _filled(record, "ground_truth", "answer", "solution")
        and not _filled(record, "response", "output", "completion")
    )


def _is_texts(record: Record) -> bool:
    return isinstance(record["data"], list) and all(isinstance(text, str) for text in record["data"])


_ASKED = "question problem prompt query input instruction"
_KEYS = "answer answerkey answer_key answer_idx correct_answer cop correct label target"
_EXPLANATIONS = "solution explanation rationale exp response output completion generated_solution"
_OPTIONS = (
    "choices",
    "options",
    "a b c d e f g h",
    "option_a option_b option_c option_d option_e option_f",
    "optiona optionb optionc optiond optione optionf",
    "opa opb opc opd ope",
)
_TRUTHS = "ground_truth final_answer expected_answer"

FORMATS: tuple[Format, ...] = (
    # preference pairs: DPO, LLaMA-Factory's v1
    shape("preference", turns="chosen", besides="rejected", refused="chosen and rejected"),
    shape("preference", turns="chosen_messages", besides="rejected_messages", refused="chosen and rejected"),
    # OpenAI, TRL, Axolotl, ms-swift, LLaMA-Factory's v1
    shape("messages", turns="messages", answer="answer", tools="tools functions"),
    # ShareGPT, LLaMA-Factory, ToolACE, Hermes function calling, APIGen-MT; Open-Reasoner-Zero's rows, which are lists
    shape("sharegpt", turns="conversations", answer="answer"),
    shape("swift_sharegpt", turns="conversation", answer="answer"),
    shape("ultrachat", turns="data", when=_is_texts),
    # verl, DAPO, Skywork-OR1
    shape("verl", prompt="prompt", answer="reward_model.ground_truth"),
    # TRL's data for GRPO
    shape("prompt_truth", prompt="prompt", answer="ground_truth answer solution", when=_asks_without_reply),
    shape("xlam", prompt="query", calls="answers"),
    shape("openr1", prompt="problem", reply="generations solution", answer="answer", besides="generations"),
    shape("deepmath", prompt="question", reply="r1_solution_1", answer="final_answer"),
    shape("openmathinstruct", prompt="problem question", reply="generated_solution", answer="expected_answer"),
    # ARC, MMLU, MedQA, AQuA; C-Eval, CMMLU, MedMCQA
    *(shape("multiple_choice", prompt=_ASKED, choices=options, key=_KEYS, reply=_EXPLANATIONS) for options in _OPTIONS),
    shape("alpaca", prompt="instruction", below="input context", reply="output", answer="answer"),
    shape("alpaca", prompt="instruction", below="input", reply="response", answer="answer", besides="input"),
    shape("alpaca", prompt="instruction", below="context", reply="response", answer="answer", besides="context"),
    # a question in one column and its reply in another, texts or lists of messages: the seed's, GSM8K, MATH,
    # MetaMathQA, TRL, Nemotron; and the final answer where the reply is not called that
    *(
        shape(
            f"{query}_{reply}", prompt=query, reply=reply, answer=_TRUTHS if reply == "answer" else f"answer {_TRUTHS}"
        )
        for query in QUERY_COLUMNS
        for reply in REPLY_COLUMNS
        if query != reply
    ),
    # a prompt and its truth, nothing to imitate
    shape("prompt_truth", prompt=" ".join(QUERY_COLUMNS), answer=_TRUTHS),
    shape("no_turns", turns="text", refused="running text, no question and answer"),
)
