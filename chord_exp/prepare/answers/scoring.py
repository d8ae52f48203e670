"""How each kind of answer is asked for and scored: the columns of the RL and evaluation rows.

Every row names its own workflow and reward, so that one folder may mix kinds. Every row has all columns and every
value is a string (layout.py says why). A row that Trinity's own workflows can ask in full - one user turn, the run's
system prompt, no tools - names them, so that it trains where only Trinity is installed; any other names
`chord_exp.plugins.workflows.ConversationWorkflow`, which asks with the row's own messages and tools.

Trinity's `tool_call_workflow` is not used: it wants nested columns, asks in a format of its own that no chat template
writes, and scores the calls of Qwen's template as 0. `rubric_judge_workflow` wants a nested `rubric`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from chord_exp.plugins.final_answer import without_reasoning
from chord_exp.prepare.answers.find import (
    CHOICE,
    EXPRESSION,
    FRACTION,
    FREE_TEXT,
    NUMBER,
    TOOL_CALL,
    VERIFIABLE,
    Answer,
)
from chord_exp.trinity_config.plugin_names import (
    ACCURACY_REWARD,
    BLEU_REWARD,
    BOXED_REWARD,
    BOXED_WORKFLOW,
    CHRF_REWARD,
    CONVERSATION_WORKFLOW,
    EVAL_WORKFLOW_OF,
    FINAL_ANSWER_REWARD,
    JUDGE_WORKFLOW,
    PACKAGE,
    SIMPLE_WORKFLOW,
    TOOL_CALL_REWARD,
)
from chord_exp.trinity_config.rows import (
    ANSWER_KEY,
    CONVERSATION_KEY,
    MESSAGES_KEY,
    PROMPT_KEY,
    REWARD_KEY,
    RUBRIC_KEY,
    TOOLS_KEY,
    WORKFLOW_KEY,
)
from chord_exp.utils.split_settings import BLEU, CHRF, JUDGE, NONE

SIMILARITY_WARNING = (
    "free text is scored by similarity to the expert's response ({name}): a negated answer may score higher than a "
    "right paraphrase (79 against 24 chrF in one Chinese trial), and training climbs whatever is scored"
)

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Scoring:
    """Who asks the model and who judges the answer: Trinity registry names or dotted paths; reward "": the
    workflow's own."""

    workflow: str
    reward: str


SCORING: Mapping[str, Scoring] = {
    NUMBER: Scoring(BOXED_WORKFLOW, BOXED_REWARD),
    CHOICE: Scoring(BOXED_WORKFLOW, BOXED_REWARD),
    FRACTION: Scoring(SIMPLE_WORKFLOW, ACCURACY_REWARD),
    EXPRESSION: Scoring(SIMPLE_WORKFLOW, ACCURACY_REWARD),
    TOOL_CALL: Scoring(CONVERSATION_WORKFLOW, TOOL_CALL_REWARD),
}
"""By kind of verifiable answer, as far as the experts write it in a form that Trinity's rewards read."""

OWN_FORM_SCORING = Scoring(BOXED_WORKFLOW, FINAL_ANSWER_REWARD)
"""Of a number, fraction or choice that its expert writes in another form (percentage, thousands separator, no box)."""

FREE_TEXT_SCORING: Mapping[str, Scoring] = {
    JUDGE: Scoring(JUDGE_WORKFLOW, ""),
    CHRF: Scoring(SIMPLE_WORKFLOW, CHRF_REWARD),
    BLEU: Scoring(SIMPLE_WORKFLOW, BLEU_REWARD),
}
"""By what the user picked for free text."""


SCORINGS: tuple[Scoring, ...] = tuple(
    dict.fromkeys(
        Scoring(workflow, scoring.reward)
        for scoring in (*SCORING.values(), OWN_FORM_SCORING, *FREE_TEXT_SCORING.values())
        for workflow in (scoring.workflow, CONVERSATION_WORKFLOW)
    )
)
"""Every scoring that a row of the RL side may name."""


def scoring_of(answer: Answer, free_text: str = NONE) -> Scoring | None:
    """Return how an answer is scored; None when nothing can score it and its row belongs on the SFT side."""
    if answer.kind in VERIFIABLE:
        return OWN_FORM_SCORING if answer.own_form else SCORING[answer.kind]
    return FREE_TEXT_SCORING.get(free_text) if answer.kind == FREE_TEXT else None


def expert_row(messages: list[Any], tools: str = "") -> dict[str, str]:
    """Return a row of the SFT side: the whole conversation and its tool schemas as JSON text."""
    return {MESSAGES_KEY: _text(messages), TOOLS_KEY: tools}


def rollout_row(
    messages: list[Any],
    answer: Answer,
    tools: str = "",
    *,
    system_prompt: str,
    free_text: str = NONE,
    evaluation: bool = False,
) -> dict[str, str]:
    """Return a row of the RL side, or with `evaluation` of the held-out side.

    Args:
        messages: the conversation; a last assistant turn is the expert's and not asked with.
        answer: what `find_answer` says of it.
        tools: JSON text of tool schemas; "" for none.
        system_prompt: the run's; Trinity's own workflows put it before the prompt.
        free_text: one of FREE_TEXT_CHOICES.

    Raises:
        ValueError: nothing can score this row.
    """
    scoring = scoring_of(answer, free_text)
    if scoring is None:
        raise ValueError(f"nothing scores an answer of kind {answer.kind} with free_text={free_text}")
    asked, reference = messages, answer.truth
    if messages[-1]["role"] == "assistant":
        asked = messages[:-1]
        reference = answer.truth or without_reasoning(messages[-1]["content"]).strip()
    workflow, conversation = scoring.workflow, ""
    if tools or not _asked_by_trinity(asked, system_prompt) or workflow == CONVERSATION_WORKFLOW:
        conversation = _text(asked)
        if workflow != JUDGE_WORKFLOW:
            workflow = CONVERSATION_WORKFLOW
    return {
        PROMPT_KEY: _last_user_text(asked),
        ANSWER_KEY: reference,
        WORKFLOW_KEY: EVAL_WORKFLOW_OF[workflow] if evaluation else workflow,
        REWARD_KEY: scoring.reward,
        CONVERSATION_KEY: conversation,
        TOOLS_KEY: tools,
        RUBRIC_KEY: rubric_of(reference) if workflow == JUDGE_WORKFLOW else "",
    }


def eval_line(line: bytes) -> bytes:
    """Return a line of the RL side as a line of the held-out side: asked by the workflow for evaluations."""
    row = orjson.loads(line)
    row[WORKFLOW_KEY] = EVAL_WORKFLOW_OF[row[WORKFLOW_KEY]]
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def needs_package(names: Any) -> bool:
    """Return whether rows that name these workflows and rewards need this package where they are trained."""
    return any(name.startswith(PACKAGE) for name in names)


def rubric_of(reference: str) -> str:
    """Return the rubric of one row for a judge model, as JSON text of [{description, weight}], in the language of the
    reference (arXiv 2507.17746: rubrics drawn from a reference answer)."""
    chinese = any("\u4e00" <= character <= "\u9fff" for character in reference[:200])
    lines = _RUBRIC_ZH if chinese else _RUBRIC_EN
    return _text([{"description": text.format(reference=reference), "weight": weight} for text, weight in lines])


_RUBRIC_EN = (
    ("States the same facts and reaches the same conclusion as this reference answer:\n{reference}", 1.0),
    ("Contradicts nothing in the reference answer and invents no facts", 0.7),
    ("Answers the question that was asked, completely and without digression", 0.3),
)
_RUBRIC_ZH = (
    ("事实与结论和下面的参考答案一致:\n{reference}", 1.0),
    ("不与参考答案矛盾,也不编造事实", 0.7),
    ("完整地回答所问的问题,不离题", 0.3),
)


def response_text(message: Message) -> str:
    """Return an assistant turn as the text a model would write: its content, then each tool call in Qwen's form. What
    `--answer-check` scores."""
    parts = [message.get("content") or ""]
    for call in message.get("tool_calls") or ():
        function = call.get("function", call)
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        text = json.dumps({"name": function.get("name"), "arguments": arguments}, ensure_ascii=False)
        parts.append(f"<tool_call>\n{text}\n</tool_call>")
    return "\n".join(part for part in parts if part)


def _asked_by_trinity(asked: list[Any], system_prompt: str) -> bool:
    expected = [("system", system_prompt)] if system_prompt else []
    return (
        len(asked) == len(expected) + 1
        and asked[-1]["role"] == "user"
        and [(turn["role"], turn["content"]) for turn in asked[:-1]] == expected
    )


def _last_user_text(messages: list[Any]) -> str:
    for turn in reversed(messages):
        if turn["role"] == "user":
            return str(turn["content"])
    return ""


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
