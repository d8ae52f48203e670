"""Workflows that Trinity loads by dotted path, for rows that ask with more than a system prompt and one user turn.

Trinity's own workflows take the system prompt from the configuration and one text from the row. These take the row's
own messages and tools, and render them with the chat template exactly as the SFT reader renders expert rows.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from trinity.common.experience import Experience
from trinity.common.workflows.rubric_judge_workflow import RubricJudgeWorkflowWithAPI
from trinity.common.workflows.workflow import SimpleWorkflow, Task

from chord_exp.trinity_config.rows import CONVERSATION_KEY, RUBRIC_KEY, TOOLS_KEY


class ConversationWorkflow(SimpleWorkflow):
    """Asks with the row's `conversation` and `tools` (JSON text) and scores with the row's reward."""

    is_async = True

    def format_messages(self) -> list[dict[str, Any]]:
        """Return the row's own messages; without any, what Trinity would ask."""
        return _messages(self.raw_task) or super().format_messages()

    async def run_async(self) -> list[Experience]:
        """Ask once for the whole group and score each response."""
        prompt = prompt_text(self.model.config, self.format_messages(), self.raw_task.get(TOOLS_KEY, ""))
        experiences = await self.model.generate_async([prompt], **self.rollout_args)
        for position, experience in enumerate(experiences):
            parts = self.reward_fn(response=experience.response_text, truth=self.truth)
            experience.metrics = {**(experience.metrics or {}), **parts}
            experience.reward = sum(parts.values())
            experience.eid.run = position + self.run_id_base
        return experiences


class ConversationEvaluation(ConversationWorkflow):
    """The same for evaluations (plugin_names.EVAL_WORKFLOW_OF)."""


class JudgeWorkflow(RubricJudgeWorkflowWithAPI):
    """Trinity's rubric judge behind an OpenAI-compatible API, for rows whose rubric and messages are JSON text."""

    def reset(self, task: Task) -> None:
        """Take the next row."""
        super().reset(task)
        self.rubric = json.loads(self.raw_task.get(RUBRIC_KEY) or "[]")

    def format_messages(self) -> list[dict[str, Any]]:
        """Return the row's own messages; without any, what Trinity would ask."""
        return _messages(self.raw_task) or super().format_messages()

    def run(self) -> list[Experience]:
        """Ask once for the whole group and have each response judged."""
        prompt = prompt_text(self.model.config, self.format_messages(), self.raw_task.get(TOOLS_KEY, ""))
        experiences = self.model.generate([prompt], **self.rollout_args)
        judge = self._build_judge()
        for position, experience in enumerate(experiences):
            judged, reward = self.get_judge_reward(response=experience.response_text, judge=judge)
            experience.metrics = {**(experience.metrics or {}), "judge_success": float(judged)}
            experience.reward = reward
            experience.eid.run = position + self.run_id_base
        return experiences


class JudgeEvaluation(JudgeWorkflow):
    """The same for evaluations (plugin_names.EVAL_WORKFLOW_OF)."""


def prompt_text(config: Any, messages: list[dict[str, Any]], tools: str) -> str:
    """Return messages and tools as the text that the model goes on from.

    Args:
        config: Trinity's InferenceModelConfig: model_path, trust_remote_code, chat_template, enable_thinking.
        tools: JSON text of tool schemas; "" for none.
    """
    tokenizer = _tokenizer(config.model_path, config.trust_remote_code)
    return str(
        tokenizer.apply_chat_template(
            messages,
            tools=json.loads(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=True,
            chat_template=config.chat_template,
            enable_thinking=config.enable_thinking,
        )
    )


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    text = row.get(CONVERSATION_KEY)
    return json.loads(text) if text else []


@lru_cache(maxsize=2)
def _tokenizer(model_path: str, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_path, trust_remote_code=trust_remote_code)
