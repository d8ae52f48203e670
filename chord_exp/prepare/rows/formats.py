"""The known shapes of rows: which column holds which part of a conversation.

A format is one entry of FORMATS. It is found row by row, so that one folder may mix formats; the first whose columns a
row has reads it. Column names are compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chord_exp.prepare.rows.conversation import Record

Columns = tuple[str, ...]

QUERY_COLUMNS: Columns = ("prompt", "question", "input", "query", "instruction", "problem")
# `answer` last: beside one of the others it is the final answer
REPLY_COLUMNS: Columns = ("response", "output", "completion", "solution", "target", "targets", "answer")
TRUTHS: Columns = ("ground_truth", "final_answer", "expected_answer")
EXPLANATIONS: Columns = (
    *("solution", "explanation", "rationale", "exp", "response", "output", "completion", "generated_solution"),
)
KEYS: Columns = (
    *("answer", "answerkey", "answer_key", "answer_idx", "correct_answer", "cop", "correct", "label", "target"),
)
LETTERED: tuple[Columns, ...] = (
    ("a", "b", "c", "d", "e", "f", "g", "h"),
    ("option_a", "option_b", "option_c", "option_d", "option_e", "option_f"),
    ("optiona", "optionb", "optionc", "optiond", "optione", "optionf"),
    ("opa", "opb", "opc", "opd", "ope"),
)


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
    # whether the values fit too; None where the columns say enough
    when: Callable[[Record], bool] | None = None
    # of rows that cannot be used: the reason and what they have
    refused: tuple[str, str] | None = None
    # columns beside these parts, of most formats
    system: Columns = ("system", "system_prompt")
    tools: Columns = ("tools", "functions")
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
        """Return the parts a row must have a column of."""
        if self.refused or self.turns:
            return tuple(part for part in (self.turns, self.prompt, self.reply) if part)
        asked = tuple(part for part in (self.prompt, self.choices[:1], self.key) if part)
        said = self.reply or self.calls or self.answer
        return asked if self.key else (*asked, said)


def _is_list(*names: str) -> Callable[[Record], bool]:
    """Whether one of these holds a list of messages (of a table's cell, its JSON text), and not of strings."""

    def check(record: Record) -> bool:
        for name in names:
            value = record.get(name)
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return True
            if isinstance(value, str) and value.startswith("[{"):
                return True
        return False

    return check


def _filled(*names: str) -> Callable[[Record], bool]:
    return lambda record: any(record.get(name) not in (None, "", [], {}) for name in names)


def _asks_without_reply(record: Record) -> bool:
    return (
        _is_list("prompt")(record)
        and _filled("ground_truth", "answer", "solution")(record)
        and not _filled("response", "output", "completion")(record)
    )


def _gsm8k(record: Record) -> bool:
    return isinstance(record["answer"], str) and "####" in record["answer"] and "response" not in record


def _strings(record: Record) -> bool:
    data = record["data"]
    return isinstance(data, list) and bool(data) and all(isinstance(text, str) for text in data)


_PREFERENCE = ("preference", "two answers, of which one is better")
_ASKED: Columns = ("question", "problem", "prompt", "query", "input", "instruction")

FORMATS: tuple[Format, ...] = (
    # preference pairs: DPO, LLaMA-Factory's v1
    Format(
        "preference", turns=("chosen",), reply=("rejected",), when=_filled("chosen", "rejected"), refused=_PREFERENCE
    ),
    Format(
        "preference",
        turns=("chosen_messages",),
        reply=("rejected_messages",),
        when=_filled("chosen_messages", "rejected_messages"),
        refused=_PREFERENCE,
    ),
    # OpenAI, TRL, Axolotl, ms-swift, LLaMA-Factory's v1; Open-Reasoner-Zero's lists of turns
    Format("messages", turns=("messages",), answer=("answer",), when=_filled("messages")),
    # ShareGPT, LLaMA-Factory, ToolACE, Hermes function calling, APIGen-MT
    Format("sharegpt", turns=("conversations",), answer=("answer",), when=_filled("conversations")),
    Format("swift_sharegpt", turns=("conversation",), answer=("answer",), when=_filled("conversation")),
    Format("ultrachat", turns=("data",), when=_strings),
    # verl, DAPO, Skywork-OR1
    Format(
        "verl",
        prompt=("prompt",),
        answer=("reward_model.ground_truth",),
        when=lambda record: isinstance(record["reward_model"], dict) and isinstance(record["prompt"], (list, str)),
    ),
    # TRL's data for GRPO
    Format(
        "prompt_truth",
        prompt=("prompt",),
        answer=("ground_truth", "answer", "solution"),
        when=_asks_without_reply,
    ),
    Format("xlam", prompt=("query",), calls=("answers",)),
    Format(
        "openr1",
        prompt=("problem",),
        reply=("generations", "solution"),
        answer=("answer",),
        when=lambda record: "generations" in record,
    ),
    Format(
        "deepmath",
        prompt=("question",),
        reply=("r1_solution_1",),
        answer=("final_answer",),
    ),
    Format(
        "openmathinstruct",
        prompt=("problem", "question"),
        reply=("generated_solution",),
        answer=("expected_answer",),
    ),
    # ARC, MMLU, MedQA, AQuA; C-Eval, CMMLU, MedMCQA
    Format(
        "multiple_choice",
        prompt=_ASKED,
        choices=("choices",),
        key=KEYS,
        reply=EXPLANATIONS,
        when=_filled("choices"),
    ),
    Format(
        "multiple_choice",
        prompt=_ASKED,
        choices=("options",),
        key=KEYS,
        reply=EXPLANATIONS,
        when=_filled("options"),
    ),
    *(
        Format(
            "multiple_choice", prompt=_ASKED, choices=letters, key=KEYS, reply=EXPLANATIONS, when=_filled(letters[1])
        )
        for letters in LETTERED
    ),
    Format("math", prompt=("problem",), reply=("solution",), answer=("answer",)),
    Format("gsm8k", prompt=("question",), reply=("answer",), when=_gsm8k),
    Format("alpaca", prompt=("instruction",), below=("input", "context"), reply=("output",), answer=("answer",)),
    *(
        Format(
            "alpaca",
            prompt=("instruction",),
            below=(below,),
            reply=("response",),
            answer=("answer",),
            when=lambda record, below=below: below in record,  # type: ignore[misc]
        )
        for below in ("input", "context")
    ),
    # a question in one column and its reply in another, texts or lists of messages (TRL, Nemotron); the seed's first
    *(
        Format(
            f"{query}_{reply}",
            prompt=(query,),
            reply=(reply,),
            answer=TRUTHS if reply == "answer" else ("answer", *TRUTHS),
        )
        for query in QUERY_COLUMNS
        for reply in REPLY_COLUMNS
        if query != reply
    ),
    # a prompt and its truth, nothing to imitate
    Format("prompt_truth", prompt=QUERY_COLUMNS, answer=TRUTHS),
    Format("text", turns=("text",), refused=("no_turns", "running text, no question and answer")),
)
